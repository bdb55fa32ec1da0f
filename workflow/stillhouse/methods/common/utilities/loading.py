"""Loading a utility: the real images or expert trajectories that it compares with, its network."""


def load_utility(kind, inputs, settings, seed, context):
    """Return a utility, on the job's device.

    Parameters
    ----------
    kind : str
        ``dm``, ``gm`` or ``tm``.
    inputs : dict
        ``images``: files of the encoded images by class id (upstream `Task.dataset`), of all
        utilities but ``tm``; ``trajectories``: files of the experts by number, of ``tm``.
    settings : dict
        ``classes`` and ``resolution`` of the dataset, and what
        `stillhouse.methods.common.utilities.settings.shaping` returns for the kind.
    seed : int
        Of the distilled set.
    context : stillhouse.artifacts.context.Context

    Returns
    -------
    stillhouse.methods.common.utilities.base.Utility
    """
    raise NotImplementedError
