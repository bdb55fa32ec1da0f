"""What a method's distilled set is made from: the artifacts between a source and a set.

A setting goes to the first stage that it shapes and to no other, so that variants of a method, and
methods that begin alike, share what they can.
"""

from stillhouse.artifacts.addresses import Artifact, label, safe_name
from stillhouse.config import protocols
from stillhouse.config.validation import classes_of
from stillhouse.data.sources import catalogue
from stillhouse.methods.statistical_matching.batches import batches


def distilled(plan, dataset, method, settings, ipc, seed):
    """Return the distilled set of a method; all that it is made from is wanted too.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
    dataset, method : str
        Their names.
    settings : dict
        Of the method.
    ipc, seed : int
    """
    given = plan.config["datasets"][dataset]
    task = Task(plan, dataset, protocols.method(settings), {"ipc": ipc, "seed": seed})
    kind = task.settings["kind"]
    upstream, kept = RECIPES[kind](task)
    artifact = Artifact(
        "distilled",
        label(method),
        {"kind": kind, **kept, "classes": task.classes, "resolution": given["resolution"]},
        upstream,
        task.keys,
        folder=label(dataset),
    )
    return plan.add(artifact)


class Task:
    """A method's decided settings, and the dataset, IPC and seed that they are for."""

    def __init__(self, plan, dataset, settings, keys):
        self.plan, self.dataset, self.settings, self.keys = plan, dataset, settings, keys
        given = plan.config["datasets"][dataset]
        self.source, self.resolution = given["source"], given["resolution"]
        self.classes = classes_of(plan.config, dataset)
        self.images = images(plan, self.source, self.classes)

    def some(self, *names):
        """Return the settings of these names, those that there are."""
        return {name: self.settings[name] for name in names if name in self.settings}

    def but(self, *names):
        """Return all settings but these, and but the kind."""
        return {k: v for k, v in self.settings.items() if k not in names and k != "kind"}

    def family(self, stage, words, settings, upstream, *keys):
        """Want a per-class artifact of this stage for the task's classes."""
        keys = {name: self.keys[name] for name in keys}
        artifact = Artifact(stage, label(self.source, *words), settings, upstream, keys)
        return self.plan.add_members(artifact, self.classes, self.source)


def _random(task):
    return {"images": task.images}, task.but()


def _coreset(task):
    upstream = {"images": task.images}
    if task.settings["features"] == "pixels":
        return upstream, task.but()
    judge = teacher(task.plan, task.settings["features"], task.dataset)
    upstream["features"] = _features(task, judge, {})
    return upstream, task.but("features")


def _rded(task):
    judge = teacher(task.plan, task.settings["teacher"], task.dataset)
    scored = ("crops_per_image", "images_per_class", "crop", "scoring", "patches_per_side")
    words = (f"{task.resolution}px", judge.settings["arch"])
    made_from = {"images": task.images, "teacher": judge}
    scores = task.family("patch_scores", words, task.some(*scored), made_from, "seed")
    upstream = {"images": task.images, "scores": scores}
    if task.settings.get("selection") in ("herding", "kmeans"):
        seen = task.some("patches_per_image", "patches_per_side", "scoring")
        upstream["features"] = _features(task, judge, seen, scores)
    kept = task.but("teacher", *(name for name in scored if name != "patches_per_side"))
    if kept.get("nested_in") == task.keys["ipc"]:
        del kept["nested_in"]
    return upstream, kept


def _features(task, judge, settings, scores=None):
    """Return the features of whole images, or of the patches that were scored."""
    upstream = {"images": judge.upstream["images"], "teacher": judge}
    words = (f"{judge.settings['resolution']}px", judge.settings["arch"])
    if scores is None:
        return task.family("features", words, settings, upstream)
    upstream["scores"] = scores
    return task.family("features", (*words, "patches"), settings, upstream, "seed")


def _d3hr(task):
    model = Diffusion(task)
    # Statistics belong to a class: no IPC and no seed in their address.
    inverted = {
        **task.some("steps", "snapshots", "guidance", "latents", "process", "images_per_class"),
        **model.conditional,
    }
    if "inversion_start" in task.settings:
        inverted["start"] = task.settings["inversion_start"]
    upstream = {"latents": model.latents("square"), "denoiser": model.artifact}
    words = (model.word, f"steps{'-'.join(map(str, task.settings['snapshots']))}")
    inversion = task.family("inversion", words, inverted, upstream)
    drawn = {
        "snapshot": task.settings["inversion_steps"],
        **task.some("variance", "sampler", "candidates", "terms", "std", "skewness", "weights"),
        **task.some("draw_on"),
    }
    words = (model.word, f"steps{task.settings['inversion_steps']}")
    start = task.family("samples", words, drawn, {"inversion": inversion}, "ipc", "seed")
    decoded = {
        **task.some("steps", "guidance", "inversion_steps"),
        "start": task.settings["sampling_start"],
        **model.conditional,
    }
    return {"decoded": model.decode(start, decoded)}, task.some("encoding")


def _d4m(task):
    model = Diffusion(task)
    settings = task.some("latents", "fit", "expand")
    upstream = {"latents": model.latents("square")}
    start = task.family("prototypes", (model.word,), settings, upstream, "ipc", "seed")
    decoded = {**task.some("steps", "guidance", "strength"), **model.conditional}
    return {"decoded": model.decode(start, decoded)}, task.some("encoding")


def _ddps(task):
    model = Diffusion(task)
    latents = model.latents("aspect" if task.settings["patch"] else "square")
    drawn = {**task.some("latents"), **model.conditional}
    scored = {**task.some("draws", "timesteps", "images_per_class", "patch"), **drawn}
    upstream = {"images": task.images, "latents": latents, "denoiser": model.artifact}
    scores = task.family("class_scores", (model.word,), scored, upstream, "seed")
    kept = task.some("ranking", "variant", "clusters_used", "patch", "encoding")
    if task.settings["ranking"] == "score":
        return {"images": task.images, "scores": scores}, kept
    described = task.some("features", "clip", "timestep", "layer", "ensemble")
    upstream = {"images": task.images, "scores": scores}
    if task.settings["features"] == "dift":
        upstream |= {"latents": latents, "denoiser": model.artifact}
        described |= drawn
    words = (model.word, task.settings["features"])
    features = task.family("features", words, described, upstream, "seed")
    upstream = {"features": features, "scores": scores}
    clusters = task.family("clusters", words, task.some("clusters"), upstream, "seed")
    return {"images": task.images, "clusters": clusters}, kept


def _synthesis(task):
    given = task.settings
    observers = [teacher(task.plan, name, task.dataset) for name in given["observers"]]
    upstream = {f"teacher{i}": judge for i, judge in enumerate(observers)}
    # Batch norms know their inputs' statistics by themselves, but not those of classes.
    if "convolution" in given["kinds"] or (given["alpha"] < 1 and given["kinds"]):
        # The classes' order shapes the labels of a set, not what is seen of a class.
        classes = sorted(task.classes)
        seen = {"tile": given["tile"], "views": given["statistics"], "classes": classes}
        for i, judge in enumerate(observers):
            words = (task.source, f"{task.resolution}px", judge.settings["arch"])
            made_from = {"images": task.images, "teacher": judge}
            upstream[f"statistics{i}"] = task.plan.add(
                Artifact("statistics", label(*words), seen, made_from)
            )
    if given["initial"] == "real":
        upstream["images"] = task.images
    elif given["initial"] != "noise":
        settings = task.plan.config["methods"][given["initial"]]
        upstream["initial"] = distilled(
            task.plan, task.dataset, given["initial"], settings, task.keys["ipc"], task.keys["seed"]
        )
        given = {**given, "initial": "set"}
    kept = {
        k: v for k, v in given.items() if k not in ("kind", "observers", "statistics", "encoding")
    }
    settings = {**kept, "classes": task.classes, "resolution": task.resolution}
    words = (task.source, f"{task.resolution}px")
    made = Artifact("synthesis", label(*words), settings, upstream, task.keys)
    task.plan.add_members(made, range(len(batches(settings, task.keys["ipc"]))))
    return {"synthesis": made}, task.some("encoding")


RECIPES = {
    "random": _random,
    "herding": _coreset,
    "kmeans": _coreset,
    "rded": _rded,
    "d3hr": _d3hr,
    "ddps": _ddps,
    "d4m": _d4m,
    "sre2l": _synthesis,
    "gvbsm": _synthesis,
    "edc": _synthesis,
}


class Diffusion:
    """The denoiser of a method, and what all that is made with it has in common.

    ``artifact`` is the denoiser, ``conditional`` what shapes a stage that tells it a class,
    ``word`` the config's kind of it, for labels.
    """

    def __init__(self, task):
        self.task = task
        config = task.plan.config["denoisers"][task.settings["denoiser"]]
        self.artifact = denoiser(task.plan, task.source, config)
        self.word = {"dit": "dit", "stable_diffusion": "sd"}[config["kind"]]
        self.precision = {"precision": config["precision"]}
        self.conditional = dict(self.precision)
        if config["kind"] == "stable_diffusion":
            self.conditional["prompts"] = [config["prompt"], config["null_prompt"]]

    def latents(self, shape):
        """Return the latents of whole images, as squares or with their aspect."""
        settings = {"shape": shape, **self.precision}
        upstream = {"images": self.task.images, "denoiser": self.artifact}
        return self.task.family("latents", (self.word,), settings, upstream)

    def decode(self, start, settings):
        """Return the images that latents become."""
        upstream = {"start": start, "denoiser": self.artifact}
        return self.task.family("decode", (self.word,), settings, upstream, "ipc", "seed")


def images(plan, source, class_ids):
    """Return the encoded images of classes of a source."""
    settings = catalogue.shaping(source, plan.config["sources"][source])
    index = plan.add(Artifact("index", label(source), settings))
    found = Artifact("images", label(source), {}, {"index": index})
    for class_id in class_ids:
        safe_name(class_id)
    return plan.add_members(found, class_ids, source)


def teacher(plan, name, dataset):
    """Return the teacher `name` for a dataset: trained on it, or on the one that it names."""
    config = plan.config
    settings = config["teachers"][name]
    dataset = settings.get("dataset", dataset)
    class_ids = classes_of(config, dataset)
    source = config["datasets"][dataset]["source"]
    recipe = {k: v for k, v in settings.items() if k not in ("dataset", "min_accuracy")}
    if "weights" in recipe:
        network = {k: recipe[k] for k in ("arch", "width", "norm", "dropout") if k in recipe}
        # A library's weights do not change under their name; a file is known by its checksum.
        loaded = recipe["weights"].get("pretrained")
        given = {"pretrained": loaded} if loaded else {"weights": recipe["weights"]["sha256"]}
        recipe = {**network, **given}
    resolution = config["datasets"][dataset]["resolution"]
    artifact = Artifact(
        "teacher",
        label(source, f"{resolution}px", settings["arch"]),
        {**recipe, "classes": class_ids, "resolution": resolution},
        {"images": images(plan, source, class_ids)},
    )
    plan.given.setdefault(artifact.name, []).append(settings)
    return plan.add(artifact)


def denoiser(plan, source, settings):
    """Return a denoiser of a source: trained on all of its classes, or given."""
    class_ids = list(catalogue.classes(plan.config["sources"][source]))
    kept = {k: settings[k] for k in ("kind", "resolution", "labels") if k in settings}
    if "names" in settings:
        kept["names"] = {c: settings["names"].get(c, c) for c in class_ids}
    words = (f"{settings['resolution']}px", "dit" if settings["kind"] == "dit" else "sd")
    if "pretrained" in settings:
        # A folder is known by its files' digest, a hub's by its commit; its place shapes nothing.
        weights = {k: v for k, v in settings["pretrained"].items() if k != "folder"}
        return plan.add(Artifact("denoiser", label(*words), {**kept, "weights": weights}))
    return plan.add(
        Artifact(
            "denoiser",
            label(source, *words),
            {**kept, "train": settings["train"], "seed": settings["seed"], "classes": class_ids},
            {"images": images(plan, source, class_ids)},
        )
    )
