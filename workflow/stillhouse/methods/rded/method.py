"""RDED: the patches with the highest scores of a teacher, several per image.

Sun et al., "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation
Paradigm", CVPR 2024. Facts: supplement, sections C and D; LINs-lab/RDED at 3f6453d.
"""

from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Method, Unused

PATCH_SCORES = Stage(
    "patch_scores",
    version=5,
    files=("scores.parquet",),
    function="stillhouse.methods.rded.patch_scores:patch_scores",
    description="patches scored by a teacher",
    member="class_id",
    work="stillhouse.methods.rded.work:patch_scores",
)
# Settings that affect the scores.
SCORED = ("crops_per_image", "images_per_class", "crop", "scoring", "patches_per_side")


class RDED(Method):
    """Patches of real images, scored by a teacher's cross-entropy."""

    kind = "rded"
    papers = ("sun2024diversity",)
    stages = (PATCH_SCORES,)
    images = "stillhouse.methods.rded.images:images_of_class"
    fidelity = {  # noqa: RUF012
        "code": {
            "scoring": "pad",
            "assignment": "rank_blocks",
            "rounding": "truncate",
            "encoding": "jpeg",
        },
        # The paper does not specify how a small patch is scored; as in the code.
        "paper": {
            "scoring": "pad",
            "assignment": "random",
            "rounding": "nearest",
            "encoding": "png",
        },
    }

    def unused(self, settings):
        """Return the setting for small patches if a patch has the size of the teacher's input."""
        single = settings["patches_per_side"] == 1
        return [Unused({"scoring"}, "patches_per_side: 1")] if single else []

    def teachers(self, settings):
        """Return the teacher that scores patches, by key."""
        return {"teacher": [settings["teacher"]]}

    def max_ipc(self, key, settings, ipcs, smallest, resolution):
        """Return (largest IPC, reason), from the number of patches of the smallest class."""
        side, nested = settings["patches_per_side"], settings.get("nested_in")
        if side > resolution:
            raise StillhouseError(
                f"{key}.patches_per_side: must be at most the dataset's resolution, {resolution} "
                f"px, not {side}; lower it"
            )
        images, patches = min(settings["images_per_class"], smallest), side**2
        per_image = min(settings["patches_per_image"], settings["crops_per_image"])
        most = images * per_image // patches
        reason = f"{images} images per class give that many sets of {patches} patches"
        if nested is not None and nested < max(ipcs):
            raise StillhouseError(
                f"{key}.nested_in: must be at least the IPC, {max(ipcs)}, not {nested}; raise it"
            )
        if nested is not None and nested > most:
            raise StillhouseError(
                f"{key}.nested_in: must be at most {most}, not {nested}: {reason}; lower it"
            )
        return most, reason

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add scores, and features if used."""
        teacher = task.teacher(task.settings["teacher"])
        slug_parts = (f"{task.resolution}px", teacher.settings["arch"])
        upstream = {"images": task.images, "teacher": teacher}
        scores = task.per_class(PATCH_SCORES, slug_parts, task.only(*SCORED), upstream, ("seed",))
        upstream = {"images": task.images, "scores": scores}
        if task.settings["selection"] in ("herding", "kmeans"):
            described = task.only("patches_per_image", "patches_per_side", "scoring")
            upstream["features"] = task.teacher_features(teacher, described, scores)
        settings = task.without("teacher", *(name for name in SCORED if name != "patches_per_side"))
        if settings.get("nested_in") == task.keys["ipc"]:
            del settings["nested_in"]
        return upstream, settings
