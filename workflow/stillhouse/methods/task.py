"""Planning of methods: images, teachers, denoisers and other artifacts of one dataset.

A setting belongs to the first stage that it affects and to no other, so that variants of a method,
and methods with equal first stages, share artifacts.
"""

from stillhouse.artifacts.addresses import Artifact, slug
from stillhouse.artifacts.stages import (
    DATASET,
    DECODED,
    DENOISER,
    FEATURES,
    IMAGES,
    INDEX,
    LATENTS,
    TEACHER,
    WHITENING,
)
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError

# Largest side of images whose covariance is computed [px].
MOST_WHITENED = 64
# Short names of the kinds of denoisers in slugs.
SHORT = {"dit": "dit", "stable_diffusion": "sd"}


class Task:
    """A method that is planned for one dataset, IPC and seed.

    Attributes
    ----------
    settings : dict
        Of the method, resolved.
    keys : dict
        ``ipc``, ``seed``.
    classes : list of str
        In the order of the labels.
    source : str
    resolution : int
        Of the dataset [px].
    images : Artifact
        Encoded images, stored per class.
    dataset : Artifact
        Manifest of all images of the dataset.
    """

    def __init__(self, plan, dataset, settings, keys):
        self.plan, self.dataset_name, self.settings, self.keys = plan, dataset, settings, keys
        chosen = plan.config["datasets"][dataset]
        self.source, self.resolution = chosen["source"], chosen["resolution"]
        self.classes = chosen["classes"]
        self.images = images(plan, self.source, self.classes)
        self.dataset = dataset_manifest(plan, self.source, self.classes)

    def only(self, *names):
        """Return the settings with these names, where they exist."""
        return {name: self.settings[name] for name in names if name in self.settings}

    def without(self, *names):
        """Return all settings except these, the kind and the fidelity."""
        excluded = {"kind", "fidelity", *names}
        return {name: value for name, value in self.settings.items() if name not in excluded}

    def per_class(self, stage, slug_parts, settings, upstream, keys=()):
        """Add an artifact stored per class, for the task's classes.

        Parameters
        ----------
        stage : Stage
        slug_parts : sequence of str
            Parts of its slug, after the source's name.
        settings, upstream : dict
        keys : sequence of str
            Keys of the task that affect it.
        """
        own_keys = {name: self.keys[name] for name in keys}
        artifact = Artifact(stage, slug(self.source, *slug_parts), settings, upstream, own_keys)
        return self.plan.add_members(artifact, self.classes, self.source)

    def numbered(self, stage, slug_parts, settings, upstream, n_members, keys=("ipc", "seed")):
        """Add an artifact stored per batch, expert or slice, with its first `n_members` members.

        Tasks that need different numbers of the same members share them.
        """
        own_keys = {name: self.keys[name] for name in keys}
        name = slug(self.source, *slug_parts)
        artifact = Artifact(stage, name, settings, upstream, own_keys, n_members=n_members)
        first = self.plan.add_members(artifact, range(n_members))
        return first if first.n_members == n_members else artifact

    def single(self, stage, slug_parts, settings, upstream, keys=()):
        """Add an artifact without members."""
        own_keys = {name: self.keys[name] for name in keys}
        name = slug(self.source, *slug_parts)
        return self.plan.add(Artifact(stage, name, settings, upstream, own_keys))

    def teacher(self, name):
        """Return the teacher of this name for the task's dataset."""
        return teacher(self.plan, name, self.dataset_name)

    def network(self, name):
        """Return the network of the student of this name for the task's dataset."""
        return network(self.plan, name, self.dataset_name)

    def whitening(self, network):
        """Return {"whitening": the whitening of the dataset's images}, or {}; see `whitening`."""
        return whitening(self.plan, network, self.dataset_name)

    def teacher_features(self, teacher_artifact, settings, scores=None):
        """Return a teacher's features of complete images, or of scored patches."""
        upstream = {"images": self.images, "teacher": teacher_artifact}
        network = teacher_artifact.settings
        slug_parts = (f"{network['resolution']}px", network["arch"])
        if scores is None:
            return self.per_class(FEATURES, slug_parts, settings, upstream)
        upstream["scores"] = scores
        return self.per_class(FEATURES, (*slug_parts, "patches"), settings, upstream, ("seed",))

    def denoiser(self):
        """Return the `DenoiserPlan` of the denoiser that the method's settings name."""
        config = self.plan.config["denoisers"][self.settings["denoiser"]]
        return DenoiserPlan(self, denoiser(self.plan, self.source, config), config)

    def initialisation(self, start):
        """Return (upstream, kind) of initial images, as `initial_files` and `initial_images` take.

        Parameters
        ----------
        start : str or None
            Method whose distilled set they are, see `Method.starts_from`.
        """
        if start is not None:
            return {"initial": self.distilled(start)}, "set"
        initial = self.settings["initial"]
        return {"images": self.dataset} if initial == "real" else {}, initial

    def distilled(self, name):
        """Return the distilled set of another method, for the same dataset, IPC and seed."""
        method = self.plan.config["methods"][name]
        return self.plan.distilled(self.dataset_name, name, method, **self.keys)


class DenoiserPlan:
    """A denoiser, and the settings shared by all artifacts that use it.

    Parameters
    ----------
    task : Task
    artifact : Artifact
        The denoiser: pretrained, trained on the source, or fine-tuned from another.
    config : dict
        ``kind``, ``precision``, and ``prompt`` and ``null_prompt`` of a text-conditional one.

    Attributes
    ----------
    short_kind : str
        Short name of its kind, for slugs.
    conditional : dict
        Settings of stages that condition it on a class.
    """

    def __init__(self, task, artifact, config):
        self.task, self.artifact = task, artifact
        self.short_kind = SHORT[config["kind"]]
        self.precision = {"precision": config["precision"]}
        self.conditional = dict(self.precision)
        if "prompt" in config:
            self.conditional["prompts"] = [config["prompt"], config["null_prompt"]]

    def latents(self, shape):
        """Return the latents of complete images, ``square`` or with their ``aspect``."""
        upstream = {"images": self.task.images, "denoiser": self.artifact}
        settings = {"shape": shape, **self.precision}
        return self.task.per_class(LATENTS, (self.short_kind,), settings, upstream)

    def decode(self, start, settings):
        """Return the images decoded from latents after denoising.

        `settings`: ``sampling`` (``from_noise`` or ``image_to_image``) and its settings.
        """
        upstream = {"start": start, "denoiser": self.artifact}
        settings = {**settings, **self.conditional}
        return self.task.per_class(DECODED, (self.short_kind,), settings, upstream, ("ipc", "seed"))


def images(plan, source, class_ids):
    """Return the encoded images of classes of a source, stored per class."""
    settings = catalogue.shaping(source, plan.config["sources"][source])
    index = plan.add(Artifact(INDEX, slug(source), settings))
    return plan.add_members(Artifact(IMAGES, slug(source), {}, {"index": index}), class_ids, source)


def dataset_manifest(plan, source, class_ids):
    """Return the manifest of the images of classes, independent of the order of the labels."""
    order = {c: i for i, c in enumerate(catalogue.classes(plan.config["sources"][source]))}
    class_ids = sorted(class_ids, key=order.__getitem__)
    encoded = images(plan, source, class_ids)
    upstream = {"images": encoded, "index": encoded.upstream["index"]}
    name = slug(source, f"{len(class_ids)}classes")
    return plan.add(Artifact(DATASET, name, {"classes": class_ids}, upstream))


def teacher(plan, name, dataset):
    """Return the teacher `name` for a dataset: trained on it, or on the teacher's own dataset."""
    config = plan.config
    settings = config["teachers"][name]
    chosen = config["datasets"][settings.get("dataset", dataset)]
    recipe = {k: v for k, v in settings.items() if k not in ("dataset", "min_accuracy")}
    if "weights" in recipe:
        network = {k: recipe[k] for k in ("arch", "width", "norm", "dropout") if k in recipe}
        # A library's weights are identified by their name, a file by its checksum.
        pretrained = recipe["weights"].get("pretrained")
        loaded = {"pretrained": pretrained}
        recipe = {**network, **(loaded if pretrained else {"weights": recipe["weights"]["sha256"]})}
    source, resolution = chosen["source"], chosen["resolution"]
    if "pretrained" not in recipe and "normalisation" in chosen:
        recipe["normalisation"] = chosen["normalisation"]
    artifact = Artifact(
        TEACHER,
        slug(source, f"{resolution}px", settings["arch"]),
        {**recipe, "classes": chosen["classes"], "resolution": resolution},
        {"images": dataset_manifest(plan, source, chosen["classes"])},
    )
    plan.teacher_configs.setdefault(artifact.name, []).append(settings)
    return plan.add(artifact)


def network(plan, name, dataset):
    """Return the network of a student for a dataset, with the dataset's normalisation, if any.

    Whitened inputs are not normalised.
    """
    chosen, settings = plan.config["datasets"][dataset], plan.config["students"][name]
    own = {k: chosen[k] for k in ("normalisation",) if k in chosen and "zca" not in settings}
    return {**settings, **own}


def whitening(plan, network, dataset):
    """Return {"whitening": artifact} for a network with whitened inputs, {} for any other.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    network : dict
        Of a student; ``zca`` makes its inputs whitened.
    dataset : str
    """
    if "zca" not in network:
        return {}
    chosen = plan.config["datasets"][dataset]
    source, resolution = chosen["source"], chosen["resolution"]
    if resolution > MOST_WHITENED:
        raise StillhouseError(
            f"datasets.{dataset}.resolution: {resolution} px conflicts with zca of a student; must "
            f"be at most {MOST_WHITENED} px"
        )
    settings = {"epsilon": network["zca"], "resolution": resolution}
    # The order of the classes affects the labels of a set, not the whitening.
    settings["classes"] = sorted(chosen["classes"])
    upstream = {"images": dataset_manifest(plan, source, chosen["classes"])}
    name = slug(source, f"{resolution}px")
    return {"whitening": plan.add(Artifact(WHITENING, name, settings, upstream))}


def denoiser(plan, source, settings):
    """Return a denoiser of a source: trained on all of its classes, or pretrained."""
    class_ids = list(catalogue.classes(plan.config["sources"][source]))
    shaping = {k: settings[k] for k in ("kind", "resolution", "class_labels") if k in settings}
    if "names" in settings:
        shaping["names"] = {c: settings["names"].get(c, c) for c in class_ids}
    slug_parts = (f"{settings['resolution']}px", SHORT[settings["kind"]])
    if "pretrained" in settings:
        # A folder is identified by the digest of its files, a hub id by its commit.
        weights = {k: v for k, v in settings["pretrained"].items() if k != "folder"}
        return plan.add(Artifact(DENOISER, slug(*slug_parts), {**shaping, "weights": weights}))
    trained = {"train": settings["train"], "seed": settings["seed"], "classes": class_ids}
    upstream = {"images": dataset_manifest(plan, source, class_ids)}
    name = slug(source, *slug_parts)
    return plan.add(Artifact(DENOISER, name, {**shaping, **trained}, upstream))
