"""DM, GM and TM: images optimised so that networks compute the same from them as from real ones.

Zhao & Bilen, "Dataset Condensation with Distribution Matching", WACV 2023. Zhao et al., "Dataset
Condensation with Gradient Matching", ICLR 2021 (both VICO-UoE/DatasetCondensation at 53f63a6).
Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022
(GeorgeCazenavette/mtt-distillation at 50dccea).
"""

from stillhouse.artifacts.stages import Stage
from stillhouse.methods.base import Method
from stillhouse.methods.common.progress_figures import PROGRESS_FIGURES
from stillhouse.methods.common.utilities.settings import (
    TRAJECTORIES,
    check_utility,
    decided_trajectories,
    plan_utility,
)

MATCHED = Stage(
    "matched",
    version=1,
    files=("images.parquet", "curve.json", "snapshots.parquet"),
    function="stillhouse.methods.matching.matched:matched",
    description="images optimised by matching",
    work="stillhouse.methods.common.utilities.work:matched",
)
# Settings of the optimisation of pixels, beside those of the utility.
PIXELS = ("iterations", "learning_rate", "momentum", "clamp")
OPERATIONS = ["color", "crop", "cutout", "flip", "scale", "rotate"]


class Matching(Method):
    """Images optimised by the gradient of a utility."""

    stages = (MATCHED,)
    images = "stillhouse.methods.matching.images:images_of_class"
    unlimited = True
    figures = PROGRESS_FIGURES

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if the utility does not fit its network."""
        check_utility(self.kind, key, settings, config)

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add the optimised images."""
        upstream, settings = plan_utility(self.kind, task, task.settings)
        files, initial = task.initialisation(self.starts_from(task.settings))
        settings |= {"utility": self.kind, "initial": initial, **task.only(*PIXELS)}
        if "whitening" in upstream:
            settings["coordinates"] = "whitened"
        slug_parts = (f"{task.resolution}px", self.kind)
        upstream |= files
        matched = task.single(MATCHED, slug_parts, settings, upstream, ("ipc", "seed"))
        return {"matched": matched}, task.only("encoding")


def _fidelity(**own):
    """Return the fidelity of a kind, whose own settings are the same in code and paper."""
    return {"code": own, "paper": own}


class DM(Matching):
    """Mean embeddings of each class in networks with random weights."""

    kind = "dm"
    papers = ("zhao2023distribution",)
    fidelity = _fidelity(siamese=OPERATIONS)


class GM(Matching):
    """Gradients of each class to the weights of networks that are trained on the images."""

    kind = "gm"
    papers = ("zhao2021gradient", "zhao2021differentiable")
    fidelity = _fidelity(siamese=[])


class TM(Matching):
    """Weights after steps of training on the images, and those of experts after some epochs."""

    kind = "tm"
    papers = ("cazenavette2022matching",)
    stages = (TRAJECTORIES, MATCHED)
    learned = "stillhouse.methods.matching.images:learned_parts"
    fidelity = _fidelity(siamese=OPERATIONS)

    def decide(self, settings):
        """Return settings with the epochs of experts; a batch of all images as size 0."""
        return decided_trajectories(settings)

    def learns(self, settings):
        """Return what it learns besides images."""
        return {"learning_rate"}
