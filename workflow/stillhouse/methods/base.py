"""Base class of the distillation methods, which the folder of each method implements.

The Snakefile imports this module: it imports no heavy packages. Functions that compute are named as
text and imported by jobs.
"""

import abc
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A figure of the images or latents of a method, drawn once per method and seed.

    All figures of one function are drawn by one job, whose rule has the name of the function and
    whose outputs are named by their suffixes.

    Parameters
    ----------
    name : str
        First part of its file name.
    title : str
        Heading on the page.
    caption : str
        File of ``workflow/report/`` without its suffix.
    function : str
        ``module:function``, called as ``function(inputs, params, outputs)``.
    inputs : callable
        ``inputs(sets)`` returns {name: (artifact, members or None)} for the distilled sets of one
        method and seed, by IPC. None means the classes of the set, or an artifact that is stored as
        one; an empty dict, no figure.
    suffix : str
        ``png`` or ``svg``.
    classes : int
        Maximum number of classes drawn; 0 for all.
    extra : tuple of str
        Suffixes of further files that the job writes beside the figure.
    numbers : str
        ``module:function`` that combines the figures' CSV files (``csv`` of `extra`) in one table
        of the page. It takes a list of (names of methods, DataFrame) and returns a dict with
        ``title``, ``columns`` (of `stillhouse.reporting.table_layout.Column`) and ``notes``.
    """

    name: str
    title: str
    caption: str
    function: str
    inputs: object
    suffix: str = "png"
    classes: int = 0
    extra: tuple = ()
    numbers: str = ""


@dataclass(frozen=True)
class Unused:
    """Settings without effect, given the others.

    Parameters
    ----------
    names : set of str
    reason : str
        Completes "has no effect with …", as in ``fit: full``.
    group : str
        Key of their group of settings; empty for settings of the method.
    """

    names: set = field(default_factory=set)
    reason: str = ""
    group: str = ""


class Method(abc.ABC):
    """A distillation method.

    Attributes
    ----------
    kind : str
        Its name in the config, also of its schema file.
    stages : tuple of Stage
        Stages that no other method has.
    images : str
        ``module:function``; ``function(inputs, spec, class_id, context)`` returns the images of one
        class as [(pixels, origin)], pixels (3, resolution, resolution) uint8, or the bytes of a
        PNG, JPEG or WebP file of this size, origin the boxes in source images, empty for synthetic
        ones.
    learned : str
        ``module:function`` of a method that learns labels or a learning rate with the images;
        ``function(inputs, spec, context)`` returns the set's
        `stillhouse.data.distilled_set.LearnedParts`, labels in the order of the rows: class by
        class in the order of the dataset, each class by index. Empty for other methods.
    fidelity : dict of str to dict
        Default values of the settings in which the official ``code`` and the ``paper`` differ, or
        in which the method differs from others of its family; a dict for a group of settings.
    unlimited : bool
        Whether its images per class are not limited by the size of the classes.
    baseline : bool
        Whether it is the baseline that other methods must exceed.
    elsewhere : bool
        Whether its sets are made outside of the workflow, so that their cost is unknown.
    papers : tuple of str
        BibTeX keys of its papers in ``workflow/published/papers.yaml``.
    statistics_note : str
        Content of its ``statistics_bytes``, a sentence for the notes of tables.
    figures : tuple of Figure
    """

    kind = ""
    stages = ()
    images = ""
    learned = ""
    fidelity = {"code": {}, "paper": {}}  # noqa: RUF012
    unlimited = False
    baseline = False
    elsewhere = False
    papers = ()
    statistics_note = ""
    figures = ()

    def with_switches(self, settings):
        """Return settings with the default values of their ``fidelity``.

        Parameters
        ----------
        settings : dict
            With the schema's defaults.
        """
        switches = {
            name: {**value, **settings.get(name, {})} if isinstance(value, dict) else value
            for name, value in self.fidelity[settings["fidelity"]].items()
        }
        groups = {name for name, value in switches.items() if isinstance(value, dict)}
        return {**switches, **{k: v for k, v in settings.items() if k not in groups}}

    def resolve(self, settings):
        """Return settings with every switch decided, without those that have no effect.

        The result includes ``kind`` and ``fidelity``. `check`, `max_ipc` and `plan` take it.

        Parameters
        ----------
        settings : dict
            With the schema's defaults.
        """
        decided = self.with_switches(settings)
        for unused in self.unused(decided):
            if unused.group:
                group = decided[unused.group]
                decided[unused.group] = {k: v for k, v in group.items() if k not in unused.names}
            else:
                decided = {k: v for k, v in decided.items() if k not in unused.names}
        return self.decide(decided)

    def decide(self, settings):
        """Return settings with those that depend on others filled in."""
        return settings

    def unused(self, settings):
        """Return the settings without effect, a list of `Unused`.

        Parameters
        ----------
        settings : dict
            See `with_switches`.
        """
        return []

    def teachers(self, settings):
        """Return {key of the settings: names of the teachers under it}."""
        return {}

    def denoisers(self, settings):
        """Return {key of the settings: names of the denoisers under it}."""
        return {}

    def pretrained(self, settings):
        """Return {key of the settings: pretrained weights under it}, without those of denoisers.

        Each has ``folder`` and ``sha256``, or ``hub`` and ``revision``.
        """
        return {}

    def files(self, settings, ipc):
        """Return {key of the settings: path} of the user's files that its images are read from.

        The job of the set reads them as the input ``set``. A key ``folder`` is that of a folder.
        """
        return {}

    def starts_from(self, settings):
        """Return the name of the method whose distilled set is the initialisation, or None.

        By default that of the setting ``initial``, if it is neither ``noise`` nor ``real``.
        """
        initial = settings.get("initial", "real")
        return None if initial in ("noise", "real") else initial

    def learns(self, settings):
        """Return the set of ``labels`` and ``learning_rate`` that it learns besides images.

        By default both for a method with a function `learned`.
        """
        return {"labels", "learning_rate"} if self.learned else set()

    def check(self, key, settings, config):  # noqa: B027, methods need not check more
        """Raise a `StillhouseError` if settings conflict with each other or with the config.

        Parameters
        ----------
        key : str
            Config key of the method, for messages.
        settings : dict
            Resolved.
        config : dict
        """

    def max_ipc(self, key, settings, ipcs, smallest, resolution):
        """Return (largest IPC, reason), from the images of the smallest class.

        Parameters
        ----------
        key : str
            For messages about settings that are impossible for any IPC.
        settings : dict
            Resolved.
        ipcs : list of int
            IPCs of the experiment.
        smallest : int
            Training images of the smallest class.
        resolution : int
            Of the dataset [px].
        """
        return smallest, f"the smallest class has {smallest} images"

    @abc.abstractmethod
    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add its upstream to the plan.

        Parameters
        ----------
        task : stillhouse.methods.task.Task
        """

    def storage_bytes(self, spec):
        """Return the sizes that the method defines itself, {column of the table: bytes}.

        ``image_bytes`` replaces the size of the encoded images (a bitstream); ``statistics_bytes``
        is the size of statistics from which the set can be computed again.

        Parameters
        ----------
        spec : dict
            Of the distilled set.
        """
        return {}
