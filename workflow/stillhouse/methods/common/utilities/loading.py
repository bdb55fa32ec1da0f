"""Loading a utility: the real images or expert trajectories that it compares with."""

from stillhouse.data.splits import load_split
from stillhouse.data.whitening import preparation
from stillhouse.methods.common.utilities.distribution_matching import DistributionMatching
from stillhouse.methods.common.utilities.gradient_matching import GradientMatching
from stillhouse.methods.common.utilities.real_images import RealImages
from stillhouse.methods.common.utilities.siamese import Siamese
from stillhouse.methods.common.utilities.trajectory_matching import TrajectoryMatching


def load_utility(kind, inputs, settings, seed, context):
    """Return a utility, on the job's device.

    Parameters
    ----------
    kind : str
        ``dm``, ``gm`` or ``tm``.
    inputs : dict
        ``images``: files of the encoded images by class id, of ``dm`` and ``gm``;
        ``trajectories``: files of the experts by number, of ``tm``; ``whitening``. Upstream as
        `stillhouse.methods.common.utilities.settings.plan_utility` names it.
    settings : dict
        As `plan_utility` returns them.
    seed : int
        Of the distilled set.
    context : stillhouse.artifacts.context.Context

    Returns
    -------
    stillhouse.methods.common.utilities.base.Utility
    """
    classes, resolution = settings["classes"], settings["resolution"]
    siamese, device = (
        Siamese(settings["siamese"], classes, resolution, seed),
        context.torch_device(),
    )
    prepare = preparation(inputs, device)
    if kind == "tm":
        return TrajectoryMatching(settings, inputs["trajectories"], siamese, device, prepare)
    pixels, labels = load_split(
        inputs["images"], classes, resolution, "train", context.source_roots
    )
    real = RealImages(pixels.to(device), labels, classes, seed, prepare)
    return {"dm": DistributionMatching, "gm": GradientMatching}[kind](settings, real, siamese)
