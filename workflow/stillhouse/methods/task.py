"""What methods plan with: images, teachers, denoisers and families of artifacts of one dataset.

A setting goes to the first stage that it shapes and to no other, so that variants of a method, and
methods that begin alike, share what they can.
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
)
from stillhouse.data.sources import catalogue

# How a denoiser's kind is abbreviated in slugs.
SHORT = {"dit": "dit", "stable_diffusion": "sd"}


class Task:
    """A method to be planned for one dataset, IPC and seed.

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
        The manifest of all of the dataset's images.
    """

    def __init__(self, plan, dataset, settings, keys):
        self.plan, self.dataset_name, self.settings, self.keys = plan, dataset, settings, keys
        chosen = plan.config["datasets"][dataset]
        self.source, self.resolution = chosen["source"], chosen["resolution"]
        self.classes = chosen["classes"]
        self.images = images(plan, self.source, self.classes)
        self.dataset = dataset_manifest(plan, self.source, self.classes)

    def only(self, *names):
        """Return the settings of these names that exist."""
        return {name: self.settings[name] for name in names if name in self.settings}

    def without(self, *names):
        """Return all settings but these, the kind and the fidelity."""
        left_out = {"kind", "fidelity", *names}
        return {name: value for name, value in self.settings.items() if name not in left_out}

    def per_class(self, stage, words, settings, upstream, keys=()):
        """Add an artifact stored per class, for the task's classes.

        Parameters
        ----------
        stage : Stage
        words : sequence of str
            Of its slug, after the source's name.
        settings, upstream : dict
        keys : sequence of str
            Of the task's keys, those that shape it.
        """
        kept = {name: self.keys[name] for name in keys}
        artifact = Artifact(stage, slug(self.source, *words), settings, upstream, kept)
        return self.plan.add_members(artifact, self.classes, self.source)

    def numbered(self, stage, words, settings, upstream, n_members, keys=("ipc", "seed")):
        """Add an artifact stored per batch, expert or slice, with all of its members."""
        kept = {name: self.keys[name] for name in keys}
        words = slug(self.source, *words)
        artifact = Artifact(stage, words, settings, upstream, kept, n_members=n_members)
        return self.plan.add_members(artifact, range(n_members))

    def single(self, stage, words, settings, upstream, keys=()):
        """Add an artifact stored as one."""
        kept = {name: self.keys[name] for name in keys}
        return self.plan.add(Artifact(stage, slug(self.source, *words), settings, upstream, kept))

    def teacher(self, name):
        """Return the teacher of a name for the task's dataset."""
        return teacher(self.plan, name, self.dataset_name)

    def teacher_features(self, teacher_artifact, settings, scores=None):
        """Return a teacher's features of whole images, or of the patches that were scored."""
        upstream = {"images": self.images, "teacher": teacher_artifact}
        words = (f"{teacher_artifact.settings['resolution']}px", teacher_artifact.settings["arch"])
        if scores is None:
            return self.per_class(FEATURES, words, settings, upstream)
        upstream["scores"] = scores
        return self.per_class(FEATURES, (*words, "patches"), settings, upstream, ("seed",))

    def denoiser(self):
        """Return the `DenoiserPlan` of the denoiser that the method's settings name."""
        config = self.plan.config["denoisers"][self.settings["denoiser"]]
        return DenoiserPlan(self, denoiser(self.plan, self.source, config), config)

    def distilled(self, name):
        """Return the distilled set of another method, for the same dataset, IPC and seed."""
        method = self.plan.config["methods"][name]
        return self.plan.distilled(self.dataset_name, name, method, **self.keys)


class DenoiserPlan:
    """A denoiser, and what all artifacts made with it have in common.

    Parameters
    ----------
    task : Task
    artifact : Artifact
        The denoiser: given, trained on the source, or made from another (fine-tuned).
    config : dict
        ``kind``, ``precision``, and ``prompt`` and ``null_prompt`` of a text-conditional one.

    Attributes
    ----------
    word : str
        Its kind, for slugs.
    conditional : dict
        Settings that shape a stage which conditions it on a class.
    """

    def __init__(self, task, artifact, config):
        self.task, self.artifact = task, artifact
        self.word = SHORT[config["kind"]]
        self.precision = {"precision": config["precision"]}
        self.conditional = dict(self.precision)
        if "prompt" in config:
            self.conditional["prompts"] = [config["prompt"], config["null_prompt"]]

    def latents(self, shape):
        """Return the latents of whole images, ``square`` or with their ``aspect``."""
        upstream = {"images": self.task.images, "denoiser": self.artifact}
        settings = {"shape": shape, **self.precision}
        return self.task.per_class(LATENTS, (self.word,), settings, upstream)

    def decode(self, start, settings):
        """Return the images that latents are denoised and decoded to.

        `settings` say how: ``sampling`` is ``from_noise`` or ``image_to_image``.
        """
        upstream = {"start": start, "denoiser": self.artifact}
        settings = {**settings, **self.conditional}
        return self.task.per_class(DECODED, (self.word,), settings, upstream, ("ipc", "seed"))


def images(plan, source, class_ids):
    """Return the encoded images of classes of a source, stored per class."""
    settings = catalogue.shaping(source, plan.config["sources"][source])
    index = plan.add(Artifact(INDEX, slug(source), settings))
    return plan.add_members(Artifact(IMAGES, slug(source), {}, {"index": index}), class_ids, source)


def dataset_manifest(plan, source, class_ids):
    """Return the manifest of the images of some classes, whatever the order of the labels."""
    order = {c: i for i, c in enumerate(catalogue.classes(plan.config["sources"][source]))}
    class_ids = sorted(class_ids, key=order.__getitem__)
    encoded = images(plan, source, class_ids)
    upstream = {"images": encoded, "index": encoded.upstream["index"]}
    words = slug(source, f"{len(class_ids)}classes")
    return plan.add(Artifact(DATASET, words, {"classes": class_ids}, upstream))


def teacher(plan, name, dataset):
    """Return the teacher `name` for a dataset: trained on it, or on the one that it names."""
    config = plan.config
    settings = config["teachers"][name]
    chosen = config["datasets"][settings.get("dataset", dataset)]
    recipe = {k: v for k, v in settings.items() if k not in ("dataset", "min_accuracy")}
    if "weights" in recipe:
        network = {k: recipe[k] for k in ("arch", "width", "norm", "dropout") if k in recipe}
        # A library's weights do not change under their name; a file is known by its checksum.
        pretrained = recipe["weights"].get("pretrained")
        loaded = {"pretrained": pretrained}
        recipe = {**network, **(loaded if pretrained else {"weights": recipe["weights"]["sha256"]})}
    source, resolution = chosen["source"], chosen["resolution"]
    artifact = Artifact(
        TEACHER,
        slug(source, f"{resolution}px", settings["arch"]),
        {**recipe, "classes": chosen["classes"], "resolution": resolution},
        {"images": dataset_manifest(plan, source, chosen["classes"])},
    )
    plan.teacher_configs.setdefault(artifact.name, []).append(settings)
    return plan.add(artifact)


def denoiser(plan, source, settings):
    """Return a denoiser of a source: trained on all of its classes, or given."""
    class_ids = list(catalogue.classes(plan.config["sources"][source]))
    shaping = {k: settings[k] for k in ("kind", "resolution", "class_labels") if k in settings}
    if "names" in settings:
        shaping["names"] = {c: settings["names"].get(c, c) for c in class_ids}
    words = (f"{settings['resolution']}px", SHORT[settings["kind"]])
    if "pretrained" in settings:
        # A folder is known by its files' digest, a hub's by its commit; its place shapes nothing.
        weights = {k: v for k, v in settings["pretrained"].items() if k != "folder"}
        return plan.add(Artifact(DENOISER, slug(*words), {**shaping, "weights": weights}))
    trained = {"train": settings["train"], "seed": settings["seed"], "classes": class_ids}
    upstream = {"images": dataset_manifest(plan, source, class_ids)}
    return plan.add(Artifact(DENOISER, slug(source, *words), {**shaping, **trained}, upstream))
