"""DDPS: patches with high class scores of a denoiser, selected from clusters.

Zhong et al., "Efficient Dataset Distillation via Diffusion-Driven Patch Selection for Improved
Generalization", arXiv 2412.09959. No official code is known.
"""

from stillhouse.artifacts.stages import Stage
from stillhouse.diffusion.settings import check_pretrained
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Figure, Method, Unused
from stillhouse.methods.ddps.settings import patches_per_side

CLASS_SCORES = Stage(
    "class_scores",
    version=2,
    files=("scores.parquet",),
    function="stillhouse.methods.ddps.class_scores:class_scores",
    description="patches scored by a denoiser",
    member="class_id",
    work="stillhouse.methods.ddps.work:class_scores",
)
PATCH_FEATURES = Stage(
    "patch_features",
    version=1,
    files=("features.parquet",),
    function="stillhouse.methods.ddps.patch_features:patch_features",
    description="features of the best patches",
    member="class_id",
    work="stillhouse.methods.ddps.work:patch_features",
)
CLUSTERS = Stage(
    "clusters",
    version=2,
    files=("clusters.parquet",),
    function="stillhouse.methods.ddps.clusters:clusters",
    description="clusters of the best patches",
    member="class_id",
    on_device=False,
    work="stillhouse.methods.ddps.work:clusters",
)
DIFT = {"timestep", "layer", "ensemble", "dift_input"}
CLUSTERING = {"features", "clip", "clusters", "clusters_used"}


def _scored(sets):
    """Return the class scores and their images."""
    distilled = sets[max(sets)]
    clusters = distilled.upstream.get("clusters")
    scores = (clusters or distilled).upstream["scores"]
    return {"scores": (scores, None), "images": (distilled.upstream["images"], None)}


def _clustered(sets):
    """Return the clusters and the images of their patches; empty without clusters."""
    upstream = sets[max(sets)].upstream
    if "clusters" not in upstream:
        return {}
    return {name: (upstream[name], None) for name in ("clusters", "images")}


class DDPS(Method):
    """Patches of real images, scored by a denoiser's loss with and without the class."""

    kind = "ddps"
    papers = ("zhong2024efficient",)
    stages = (CLASS_SCORES, PATCH_FEATURES, CLUSTERS)
    images = "stillhouse.methods.ddps.images:images_of_class"
    figures = (
        Figure(
            "heat_maps",
            title="Class scores",
            caption="heat_maps",
            function="stillhouse.reporting.method_figures.score_maps:heat_maps",
            inputs=_scored,
            classes=20,
        ),
        Figure(
            "clusters",
            title="Clusters",
            caption="clusters",
            function="stillhouse.reporting.method_figures.score_maps:clusters_figure",
            inputs=_clustered,
            classes=4,
        ),
    )

    def unused(self, settings):
        """Return the settings of clusters or features that are not computed."""
        if settings["ranking"] == "score":
            return [Unused(DIFT | CLUSTERING, "ranking: score")]
        if settings["features"] == "clip":
            return [Unused(DIFT, "features: clip")]
        unused = [Unused({"clip"}, "features: dift")]
        if settings["patch"] == "whole":
            unused.append(Unused({"dift_input"}, "patch: whole"))
        return unused

    def decide(self, settings):
        """Return settings with ``patch: whole`` as 0, and at most all clusters used."""
        decided = {**settings, "patch": 0 if settings["patch"] == "whole" else settings["patch"]}
        if "clusters" in decided:
            decided["clusters_used"] = min(decided["clusters_used"], decided["clusters"])
        return decided

    def denoisers(self, settings):
        """Return the denoiser, by key."""
        return {"denoiser": [settings["denoiser"]]}

    def pretrained(self, settings):
        """Return CLIP's weights if patches are clustered by its features."""
        return {"clip": settings["clip"]} if "clip" in settings else {}

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if the settings conflict with each other or the denoiser."""
        low, high = settings["timesteps"]
        if low >= high:
            raise StillhouseError(
                f"{key}.timesteps: must be [lower, higher], not [{low:g}, {high:g}]; swap them"
            )
        denoiser = config["denoisers"][settings["denoiser"]]
        _check_patch(f"{key}.patch", settings["patch"], denoiser)
        if settings["ranking"] == "clusters":
            _check_features(key, settings, denoiser)

    def max_ipc(self, key, settings, ipcs, smallest, resolution):
        """Return (largest IPC, reason); raise if images are too few for clusters or patches."""
        images = settings["images_per_class"]
        images = smallest if images == "all" else min(images, smallest)
        if settings["ranking"] == "clusters" and settings["clusters"] > images:
            raise StillhouseError(
                f"{key}.clusters: must be at most the images per class, {images}, not "
                f"{settings['clusters']}; lower it"
            )
        sides = {ipc: patches_per_side(settings["variant"], ipc, settings["patch"]) for ipc in ipcs}
        # A smaller IPC may need more patches, with four per image.
        most, ipc = max((ipc * side**2, ipc) for ipc, side in sides.items())
        if most > images:
            raise StillhouseError(
                f"{key}: IPC {ipc} needs {most} patches per class, one per image, more than the "
                f"{images} images; lower the IPC or raise images_per_class"
            )
        return super().max_ipc(key, settings, ipcs, smallest, resolution)

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add scores, features and clusters."""
        denoiser = task.denoiser()
        latents = denoiser.latents("aspect" if task.settings["patch"] else "square")
        drawn = {**task.only("latents"), **denoiser.conditional}
        upstream = {"images": task.images, "latents": latents, "denoiser": denoiser.artifact}
        settings = {**task.only("draws", "timesteps", "images_per_class", "patch"), **drawn}
        scores = task.per_class(CLASS_SCORES, (denoiser.short_kind,), settings, upstream, ("seed",))
        variant, patch = task.settings["variant"], task.settings["patch"]
        settings = {
            **task.only("ranking", "clusters_used", "encoding"),
            "patches_per_side": patches_per_side(variant, task.keys["ipc"], patch),
        }
        upstream = {"images": task.images, "scores": scores}
        if task.settings["ranking"] == "score":
            return upstream, settings
        features = self._features(task, denoiser, latents, drawn, upstream)
        upstream = {"features": features, "scores": scores}
        clusters = task.per_class(
            CLUSTERS, (denoiser.short_kind,), task.only("clusters"), upstream, ("seed",)
        )
        return {"images": task.images, "clusters": clusters}, settings

    def _features(self, task, denoiser, latents, drawn, upstream):
        settings = task.only("features", "timestep", "layer", "ensemble")
        if settings["features"] == "dift" and task.settings.get("dift_input") == "patch":
            upstream = {**upstream, "denoiser": denoiser.artifact}
            settings |= {**drawn, **task.only("dift_input", "patch")}
        elif settings["features"] == "dift":
            upstream = {**upstream, "latents": latents, "denoiser": denoiser.artifact}
            settings |= drawn
        else:
            # A folder is identified by the digest of its files, not by its location.
            clip = task.settings["clip"]
            settings["clip"] = {name: value for name, value in clip.items() if name != "folder"}
        slug_parts = (denoiser.short_kind, settings["features"])
        return task.per_class(PATCH_FEATURES, slug_parts, settings, upstream, ("seed",))


def _check_patch(key, patch, denoiser):
    if patch and denoiser["kind"] == "dit":
        raise StillhouseError(
            f"{key}: {patch} conflicts with a denoiser of kind dit, which supports only squares; "
            "set whole, or use a stable_diffusion denoiser"
        )
    if patch > denoiser["resolution"]:
        raise StillhouseError(
            f"{key}: must be at most the denoiser's resolution, {denoiser['resolution']} px, not "
            f"{patch}; lower it"
        )


def _check_features(key, settings, denoiser):
    if settings["features"] == "clip":
        if "clip" not in settings:
            raise StillhouseError(
                f"{key}.clip: missing; set the weights for features: clip, or set features: dift"
            )
        check_pretrained(f"{key}.clip", settings["clip"])
    elif "train" in denoiser and settings["layer"] >= denoiser["train"]["network"]["layers"]:
        layers = denoiser["train"]["network"]["layers"]
        raise StillhouseError(
            f"{key}.layer: must be at most {layers - 1}, not {settings['layer']}, since the "
            f"denoiser has {layers} layers from 0; lower it"
        )
