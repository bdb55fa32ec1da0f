"""What a distillation method is: the one class that a method's folder has to provide.

Light: the Snakefile is parsed with it. What computes is named as text and imported by jobs.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A picture of what a method selected or synthesised, drawn once per method and seed.

    Figures that one function draws are one job, whose outputs are named by their suffixes; its rule
    bears the function's name.

    Parameters
    ----------
    name : str
        First part of its file name.
    title : str
        Heading on the page.
    caption : str
        File of ``workflow/report/`` without its ending.
    function : str
        ``module:function``, called as ``function(inputs, params, outputs)``.
    inputs : callable
        ``inputs(sets)`` returns {name: (artifact, members or None)} for the distilled sets of one
        method and seed, by IPC; None stands for the classes of the set.
    suffix : str
        ``png`` or ``svg``.
    classes : int
        At most so many classes are drawn; 0 for all.
    extra : tuple of str
        Suffixes of further files that the job writes beside the picture.
    numbers : str
        ``module:function`` that lays out the figures' CSV files (``csv`` of `extra`) as one table
        of the page, from a list of (names of methods, DataFrame): a dict with ``title``,
        ``columns`` (of `stillhouse.reporting.table_layout.Column`) and ``notes``.
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
    """Settings that have no effect with the others.

    Parameters
    ----------
    names : set of str
    reason : str
        Completes "has no effect with …", as in ``fit: full``.
    group : str
        The key of the group of settings that they belong to; empty for the method's own.
    """

    names: set = field(default_factory=set)
    reason: str = ""
    group: str = ""


class Method:
    """A distillation method.

    Attributes
    ----------
    kind : str
        Its name in the config, of its folder's stages and of its schema file.
    stages : tuple of Stage
        Those that no other method has.
    images : str
        ``module:function``; ``function(inputs, spec, class_id, context)`` returns the images of one
        class as [(pixels, origin)], pixels (3, resolution, resolution) uint8, origin the boxes in
        source images, empty for synthetic ones.
    learned : str
        ``module:function`` of a method that learns labels or a learning rate with the images;
        ``function(inputs, spec, context)`` returns the set's
        `stillhouse.data.distilled_set.LearnedParts`, labels in the order of the rows: class by
        class in the order of the dataset, each class by index. Empty for other methods.
    fidelity : dict of str to dict
        Values of the settings in which the official ``code`` and the ``paper`` differ, or in which
        the method differs from its relatives; a dict for a group of settings. Settings that are
        given win.
    unlimited : bool
        Whether it makes any number of images per class, however small the classes are.
    baseline : bool
        Whether all other methods have to exceed it: soft labels saturate where none does.
    statistics_note : str
        What its ``statistics_bytes`` hold, a sentence for the notes of tables.
    figures : tuple of Figure
    """

    kind = ""
    stages = ()
    images = ""
    learned = ""
    fidelity = {"code": {}, "paper": {}}  # noqa: RUF012
    unlimited = False
    baseline = False
    statistics_note = ""
    figures = ()

    def with_switches(self, settings):
        """Return settings with every value filled in that ``fidelity`` decides.

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
        """Return settings with every switch decided, those without effect left out.

        The result keeps ``kind`` and ``fidelity``; it is what `check`, `max_ipc` and `plan` take.

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
        """Return settings with what depends on other settings filled in."""
        return settings

    def unused(self, settings):
        """Return the settings that the others leave without effect, a list of `Unused`.

        Parameters
        ----------
        settings : dict
            As `with_switches` returns them.
        """
        return []

    def teachers(self, settings):
        """Return {key of the settings: names of teachers that it holds}."""
        return {}

    def denoisers(self, settings):
        """Return {key of the settings: names of denoisers that it holds}."""
        return {}

    def pretrained(self, settings):
        """Return the groups of settings that name pretrained weights, beside those of denoisers.

        Each has ``folder`` and ``sha256``, or ``hub`` and ``revision``.
        """
        return []

    def starts_from(self, settings):
        """Return the name of the method whose distilled set it starts from; None without one."""
        return None

    def learns(self, settings):
        """Return what it learns besides images, of ``labels`` and ``learning_rate``.

        Both, if it has a function `learned`.
        """
        return {"labels", "learning_rate"} if self.learned else set()

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if settings are in conflict with each other or the config.

        Parameters
        ----------
        key : str
            Where they are in the config, for messages.
        settings : dict
            Resolved.
        config : dict
        """

    def max_ipc(self, key, settings, ipcs, smallest, resolution):
        """Return (most images per class, why), from the images of the smallest class.

        Parameters
        ----------
        key : str
            For messages about settings that no IPC can have.
        settings : dict
            Resolved.
        ipcs : list of int
            Those wanted.
        smallest : int
            Training images of the smallest class.
        resolution : int
            Of the dataset [px].
        """
        return smallest, f"the smallest class has {smallest} images"

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add what they are made from.

        Parameters
        ----------
        task : stillhouse.methods.task.Task
        """
        raise NotImplementedError

    def storage_bytes(self, spec):
        """Return bytes that the method counts itself, by column of the table.

        ``image_bytes`` in place of those of the encoded images (a bitstream), or
        ``statistics_bytes`` of what the set can be made from again.

        Parameters
        ----------
        spec : dict
            Of the distilled set.
        """
        return {}
