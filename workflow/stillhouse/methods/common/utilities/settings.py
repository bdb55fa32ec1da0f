"""What a utility needs of the config and the plan: settings, checks, expert trajectories.

Light: the Snakefile is parsed with it.
"""

from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError, known
from stillhouse.networks.architectures import check_resolution, has_batchnorm

TRAJECTORIES = Stage(
    "trajectories",
    version=1,
    files=("snapshots.safetensors", "curve.json"),
    function="stillhouse.methods.common.utilities.trajectories:trajectories",
    description="expert trajectories",
    member="expert",
    work="stillhouse.methods.common.utilities.work:trajectories",
)
# Settings of each kind, beside `network`.
SETTINGS = {
    "dm": ("siamese", "real_images"),
    "gm": (
        *("siamese", "real_images", "outer_steps", "inner_epochs", "inner_batch_size"),
        "network_rate",
    ),
    "tm": (
        *("siamese", "student_steps", "student_batch_size", "expert_epochs", "start_epochs"),
        *("student_rate", "student_rate_step", "student_rate_minimum", "gradient"),
    ),
}
# DC's table of (outer steps, inner epochs) by IPC (utils.py, get_loops); its last entry is RUO's.
LOOPS = {
    **{1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)},
    96: (50, 10),
}


def decided_trajectories(settings):
    """Return settings of ``tm`` with the epochs of experts, a batch of all images as size 0."""
    decided, experts = dict(settings), settings["experts"]
    if experts["epochs"] == "auto":
        decided["experts"] = {**experts, "epochs": last_epoch(settings)}
    if settings["student_batch_size"] == "all":
        decided["student_batch_size"] = 0
    return decided


def check_utility(kind, key, settings, config):
    """Raise a `StillhouseError` if a utility's settings conflict with each other or the config.

    Parameters
    ----------
    kind : str
        ``dm``, ``gm`` or ``tm``.
    key : str
        Where the settings are in the config.
    settings : dict
        Resolved.
    config : dict
    """
    known(f"{key}.network", settings["network"], config["students"], "student")
    network = config["students"][settings["network"]]
    if kind != "dm" and has_batchnorm(network):
        raise StillhouseError(
            f"{key}.network: {settings['network']!r} has batch norms, which {kind} cannot match; "
            "use a network without, such as convnet3 with norm: instance"
        )
    if kind == "tm":
        needed = last_epoch(settings)
        if settings["experts"]["epochs"] < needed:
            raise StillhouseError(
                f"{key}.experts.epochs: must be at least {needed}, the last start epoch "
                f"{settings['start_epochs'] - 1} and {settings['expert_epochs']} epochs; raise it"
            )


def last_epoch(settings):
    """Return the last epoch of an expert that ``tm`` compares with, from 1."""
    return settings["start_epochs"] - 1 + settings["expert_epochs"]


def plan_utility(kind, task, settings):
    """Return (upstream, settings) of a utility; add the expert trajectories that it needs.

    Both go to the artifact that is optimised, whose job passes them to `load_utility`.

    Parameters
    ----------
    kind : str
        ``dm``, ``gm`` or ``tm``.
    task : stillhouse.methods.task.Task
    settings : dict
        Of the utility, resolved; other keys have no effect.
    """
    network = task.network(settings["network"])
    name = f"students.{settings['network']}.arch"
    check_resolution(name, network["arch"], task.resolution)
    shaping = {name: settings[name] for name in SETTINGS[kind]} | {"network": network}
    if kind == "gm":
        loops = dict(zip(("outer_steps", "inner_epochs"), loops_of(task.keys["ipc"]), strict=True))
        shaping |= {name: value for name, value in loops.items() if shaping[name] == "auto"}
    dataset = {"classes": task.classes, "resolution": task.resolution}
    whitening = task.whitening(network)
    if kind != "tm":
        return {"images": task.dataset, **whitening}, {**dataset, **shaping}
    experts = {name: value for name, value in settings["experts"].items() if name != "count"}
    experts |= {**dataset, "network": network, "siamese": settings["siamese"]}
    count, slug_parts = settings["experts"]["count"], (f"{task.resolution}px", network["arch"])
    upstream = {"images": task.dataset, **whitening}
    trajectories = task.numbered(TRAJECTORIES, slug_parts, experts, upstream, count, ())
    return {"trajectories": trajectories, **whitening}, {**dataset, **shaping, "experts": count}


def loops_of(ipc):
    """Return (outer steps, inner epochs) of ``gm`` for an IPC, that of the next smaller entry."""
    return LOOPS[max(entry for entry in LOOPS if entry <= ipc)]
