"""Seconds, memory and time limits of jobs, from the work of their artifacts.

docs/scale.md has the formulas, and the measurements behind the constants.
"""

from dataclasses import dataclass
from math import ceil

from stillhouse.planning.sizes import Sizes

MIB = 2**20
# Added to the memory of every job: two processes of Snakemake, which a cluster's job carries.
SNAKEMAKE_MB = 500
# A job may take this often its estimated time, and the time of its start in addition.
SLACK = 4
START_MINUTES = 20
# Of torch, without a GPU; stages without torch need less.
LIBRARIES_MB = 750


@dataclass(frozen=True)
class Machine:
    """What a job computes with.

    Parameters
    ----------
    rate, half_rate : float
        Multiply-adds of networks per second, in float32 and float16.
    step_seconds : float
        Of a training step, however small.
    pixel_seconds : float
        To read and decode a pixel.
    libraries_mb : float
        Memory of a job that computes on the device, before it has data.
    holds_activations : bool
        Whether the tensors inside a network are in the machine's own memory.
    """

    rate: float
    half_rate: float
    step_seconds: float
    pixel_seconds: float
    libraries_mb: float
    holds_activations: bool


# Assumed, for one GPU of the kind of an H200 at about half its peak. Pixels as on the CPU; memory
# is a guess.
GPU = Machine(15e12, 150e12, 0.01, 5e-8, 3000, holds_activations=False)


def cpu(threads):
    """Return the `Machine` of a job with some threads of a CPU; measured with one."""
    return Machine(
        1e10 * threads, 1e10 * threads, 0.005, 5e-8, LIBRARIES_MB, holds_activations=True
    )


def machine(device, threads):
    """Return the `Machine` of jobs by the kind of their device, ``cpu`` or ``cuda``."""
    return GPU if device == "cuda" else cpu(threads)


def seconds(work, machine, n_processes=1):
    """Return the seconds of a `Work`, without the start of its job.

    Processes share what networks compute; each makes all steps and reads all images.
    """
    computed = work.multiply_adds / machine.rate + work.half_multiply_adds / machine.half_rate
    waited = work.steps * machine.step_seconds
    return max(computed / n_processes, waited) + work.pixels * machine.pixel_seconds


def memory_mb(work, machine, on_device=True, n_processes=1):
    """Return the memory of a job [MB], whose members are computed one after the other.

    Processes share the tensors inside a network; each holds all data. The job that started them
    has torch in memory as well.
    """
    activations = work.activation_bytes if on_device and machine.holds_activations else 0
    libraries = machine.libraries_mb if on_device else LIBRARIES_MB
    starting = LIBRARIES_MB if n_processes > 1 else 0
    own = n_processes * (libraries + work.held_bytes / MIB)
    return SNAKEMAKE_MB + starting + own + activations / MIB


def asked(work, n_members, machine, on_device=True, attempt=1, max_hours=24, n_processes=1):
    """Return {"mem_mb": …, "runtime": …} that a job asks a cluster for.

    Parameters
    ----------
    work : stillhouse.artifacts.stages.Work
        Of one member.
    n_members : int
        Members that the job computes.
    machine : Machine
    on_device : bool
        See `stillhouse.artifacts.stages.Stage`.
    attempt : int
        Number of the attempt, from 1: memory and time grow with it.
    max_hours : float
        Largest time limit [h]. Long jobs store checkpoints: one that is cut off continues.
    n_processes : int
        Of the job, see `Requests.processes`.

    Returns
    -------
    dict of str to int
        MB, rounded up to hundreds, and minutes.
    """
    memory = ceil(memory_mb(work, machine, on_device, n_processes) / 100) * 100
    computed = n_members * seconds(work, machine, n_processes)
    minutes = START_MINUTES + ceil(SLACK * computed / 60)
    return {"mem_mb": memory * attempt, "runtime": min(minutes * attempt, ceil(max_hours * 60))}


class Requests:
    """What the jobs of a config ask for.

    Parameters
    ----------
    config : dict
        Settled settings.
    device : str
        ``cpu`` or ``cuda``.
    """

    def __init__(self, config, device):
        self.compute, self.sizes = config["compute"], Sizes(config)
        self.machine = machine(device, self.compute["threads"])

    def processes(self, artifact):
        """Return the number of processes of an artifact's job, several if it trains a network."""
        trains = artifact.stage.distributed and self.sizes.work(artifact).steps
        return self.compute["processes"] if trains else 1

    def most_processes(self, plan):
        """Return the largest number of processes of a job of a `Plan`."""
        artifacts = (one for by_place in plan.artifacts.values() for one in by_place.values())
        return max(map(self.processes, artifacts), default=1)

    def asked(self, artifact, n_members, attempt):
        """Return memory and time limit of a job of `n_members` members, see `asked`."""
        job = (self.sizes.work(artifact), n_members, self.machine, artifact.stage.on_device)
        return asked(*job, attempt, self.compute["max_hours"], self.processes(artifact))
