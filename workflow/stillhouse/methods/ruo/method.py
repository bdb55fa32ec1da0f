"""Compressed images, and rate-utility optimisation (RUO): sets whose files are bitstreams.

Bao et al., "Dataset Distillation as Data Compression: A Rate-Utility Perspective", ICCV 2025;
official code nouise/DD-RUO at f6fc102. The codec is after C3 (Kim et al., CVPR 2024).
"""

from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Figure, Method, Unused
from stillhouse.methods.common.utilities.settings import (
    TRAJECTORIES,
    check_utility,
    decided_trajectories,
    plan_utility,
)
from stillhouse.methods.ruo.slices import slices

COMPRESSION = Stage(
    "compression",
    version=1,
    files=("state.safetensors", "curve.json"),
    function="stillhouse.methods.ruo.compression:compression",
    description="real images compressed by latents and networks",
    member="slice",
    work="stillhouse.methods.ruo.work:compression",
)
BITSTREAM = Stage(
    "bitstream",
    version=1,
    files=("slice.bits", "report.json"),
    function="stillhouse.methods.ruo.bitstream:bitstream",
    description="bitstreams",
    member="slice",
    work="stillhouse.methods.ruo.work:bitstream",
)
RATE_UTILITY = Stage(
    "rate_utility",
    version=1,
    files=("state.safetensors", "curve.json", "snapshots.parquet"),
    function="stillhouse.methods.ruo.rate_utility:rate_utility",
    description="latents and networks optimised for rate and utility",
    work="stillhouse.methods.ruo.work:rate_utility",
)
BOUND = Stage(
    "bound",
    version=2,
    files=("bound.json",),
    function="stillhouse.methods.ruo.bound:bound",
    description="bound on the error of quantised networks",
    work="stillhouse.methods.ruo.work:bound",
)
# Of all images of a file; `stillhouse.data.bitstream.files` has the same limit.
MOST_PIXELS = 2**25
CODEC = ("slice", "decoder", "context", "depth", "warmup")


class Coded(Method):
    """A set whose images are decoded from bitstreams."""

    stages = (COMPRESSION, BITSTREAM)
    images = "stillhouse.methods.ruo.images:images_of_class"
    fidelity = {  # noqa: RUF012
        "code": {"warmup": {"schedule": "constant"}},
        "paper": {"warmup": {"schedule": "c3"}},
    }

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if more runs of the warm-up are continued than started."""
        warmup = settings["warmup"]
        if warmup["finalists"] > warmup["restarts"]:
            raise StillhouseError(
                f"{key}.warmup.finalists: must be at most restarts, {warmup['restarts']}, not "
                f"{warmup['finalists']}; lower it"
            )

    def storage_bytes(self, spec):
        """Return the bytes of the bitstreams, as ``image_bytes``."""
        from stillhouse.methods.ruo.images import storage_bytes

        return storage_bytes(spec)

    def n_slices(self, task):
        """Return the number of slices of a set.

        Raises
        ------
        StillhouseError
            If a slice has more pixels than a file may have.
        """
        size, ipc = task.settings["slice"], task.keys["ipc"]
        cut = slices(size, len(task.classes), ipc)
        largest = max(part.n_images for part in cut) * task.resolution**2
        if largest > MOST_PIXELS:
            raise StillhouseError(
                f"methods: slice: {size} has {largest} pixels per bitstream at IPC {ipc}; must be "
                f"at most {MOST_PIXELS}; lower it"
            )
        return len(cut)

    def compression(self, task):
        """Add the compression of the initial images, which variants share."""
        settings = {**task.only(*CODEC), "classes": task.classes, "resolution": task.resolution}
        upstream, initial = task.initialisation(self.starts_from(task.settings))
        settings["initial"] = initial
        slug_parts = (f"{task.resolution}px", task.settings["decoder"])
        return task.numbered(COMPRESSION, slug_parts, settings, upstream, self.n_slices(task))


class Compressed(Coded):
    """Real images, or the set of another method, compressed without utility."""

    kind = "compressed"
    papers = ("bao2025data",)

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add its bitstreams."""
        upstream = {"compression": self.compression(task)}
        slug_parts = (f"{task.resolution}px", "compressed")
        files = task.numbered(
            BITSTREAM, slug_parts, task.only("bound"), upstream, self.n_slices(task)
        )
        return {"bitstream": files}, {}


OPERATIONS = ["color", "crop", "cutout", "flip", "scale", "rotate"]
# Where code and paper differ, by utility: augmentation (pool_dc.py: none), updates of the images
# (scripts: per half 10,000, 500 × 50 and 8,000; paper A2: in all 20,000, 800 × 50 and 15,000).
UTILITIES = {
    "dm": {"code": (OPERATIONS, 20000), "paper": (OPERATIONS, 20000)},
    "gm": {"code": ([], 50000), "paper": (OPERATIONS, 40000)},
    "tm": {"code": (OPERATIONS, 16000), "paper": (OPERATIONS, 15000)},
}


def _largest(sets):
    """Return the joint optimisation of the largest set."""
    return {"rate_utility": (sets[max(sets)].upstream["state"], None)}


class RUO(Coded):
    """Latents and networks optimised for the rate of their bitstreams and the utility of images."""

    kind = "ruo"
    papers = ("bao2025data",)
    stages = (COMPRESSION, TRAJECTORIES, RATE_UTILITY, BOUND, BITSTREAM)
    learned = "stillhouse.methods.ruo.rate_utility:learned_parts"
    fidelity = {  # noqa: RUF012
        "code": {
            "warmup": {"schedule": "constant"},
            "joint": {"noise": "gaussian"},
            "bounds": [5e-7],
        },
        "paper": {
            "warmup": {"schedule": "c3"},
            "joint": {"noise": "kumaraswamy"},
            "bounds": [5e-5, 5e-6, 5e-7, 5e-8],
        },
    }
    figures = (
        Figure(
            "rate_utility",
            title="Images during the joint optimisation of rate and utility",
            caption="rate_utility",
            function="stillhouse.reporting.method_figures.rate_utility_progress:rate_utility_progress",
            inputs=_largest,
        ),
        Figure(
            "rate_utility_curves",
            title="Utility, rate and PSNR during the joint optimisation",
            caption="rate_utility_curves",
            function="stillhouse.reporting.method_figures.rate_utility_progress:rate_utility_progress",
            inputs=_largest,
            suffix="svg",
        ),
    )

    def with_switches(self, settings):
        """Return settings with every value filled in that ``fidelity`` and the utility decide."""
        siamese, iterations = UTILITIES[settings["utility"]][settings["fidelity"]]
        joint = {"iterations": iterations, **settings["joint"]}
        return super().with_switches({"siamese": siamese, **settings, "joint": joint})

    def unused(self, settings):
        """Return the settings that the others leave without effect."""
        if len(settings["bounds"]) == 1:
            return [Unused({"holdout"}, "a single bound")]
        return [Unused({"holdout"}, "utility: tm")] if settings["utility"] == "tm" else []

    def decide(self, settings):
        """Return settings with the epochs of experts of ``tm``."""
        return decided_trajectories(settings) if settings["utility"] == "tm" else settings

    def learns(self, settings):
        """Return what it learns besides images."""
        return {"learning_rate"} if settings["utility"] == "tm" else set()

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if utility or warm-up conflict with themselves."""
        super().check(key, settings, config)
        check_utility(settings["utility"], key, settings, config)
        joint = settings["joint"]
        if joint["iterations"] < len(joint["lambda"]):
            raise StillhouseError(
                f"{key}.joint.iterations: must be at least 1 per lambda, not "
                f"{joint['iterations']}; raise it"
            )

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add its upstream."""
        kind, joint = task.settings["utility"], task.settings["joint"]
        utility, shaping = plan_utility(kind, task, task.settings)
        shaping |= {"utility": kind, **task.only("holdout")}
        slug_parts, keys = (f"{task.resolution}px", kind), ("ipc", "seed")
        upstream = {"compression": self.compression(task), **utility}
        state = task.single(RATE_UTILITY, slug_parts, {**shaping, "joint": joint}, upstream, keys)
        files, bounds = {"state": state}, task.settings["bounds"]
        settings = {"bound": bounds[0]}
        if len(bounds) > 1:
            choice = {**shaping, "bounds": sorted(bounds), "lambda": joint["lambda"][-1]}
            files["bound"] = task.single(
                BOUND, slug_parts, choice, {"state": state, **utility}, keys
            )
            settings = {}
        stored = task.numbered(BITSTREAM, slug_parts, settings, files, self.n_slices(task))
        return {"bitstream": stored, "state": state}, {}
