"""Resources of a stage that do not affect its result: devices, batch sizes, folders."""

import functools
import itertools
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

from stillhouse.artifacts.addresses import RESULTS
from stillhouse.artifacts.locks import try_lock
from stillhouse.errors import StillhouseError

WORK = RESULTS / ".work"
# Jobs that share a GPU evenly.
MOST_SHARING = 64
# Images per forward pass where compute.batch_size is auto: more do not fit a CPU's caches.
AUTO_BATCH = {"cpu": 64, "cuda": 256}
# Pixels of a split up to so many bytes are in memory; those of a larger one are in a file.
MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Context:
    """Resources of a stage that do not affect its result.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    processes : int
        That compute together, each on a GPU of its own.
    batch_size : int
        Images per forward pass without gradients.
    checkpoint_seconds : float
        Time between two checkpoints.
    work : Path
        Folder for the checkpoints of the artifact, named by its digest; survives a killed job.
    earlier : float
        Seconds that earlier, killed jobs had spent on the artifact at their last checkpoint.
    keys : tuple
        Members that the job computes, in order.
    source_roots : dict of str to str
        Root folder by source, for sources with a root.
    weight_folders : dict of str to str
        Folder by the digest of its files, for pretrained weights in local folders.
    extra : dict
        Resources of single stages by name (the minimum accuracy of a teacher).
    """

    device: str = "cpu"
    processes: int = 1
    batch_size: int = 64
    checkpoint_seconds: float = 60.0
    work: Path = WORK
    earlier: float = 0.0
    keys: tuple = ()
    source_roots: dict = field(default_factory=dict)
    weight_folders: dict = field(default_factory=dict)
    extra: dict = field(default_factory=dict)

    def torch_device(self):
        """Return the torch device to compute on; the same GPU at every call of a process."""
        return self.torch_devices()[0]

    def torch_devices(self):
        """Return the torch devices of ``processes`` processes, GPUs of their own or the CPU."""
        import torch

        if self.device == "cpu" or (self.device == "auto" and not torch.cuda.is_available()):
            return [torch.device("cpu")] * self.processes
        count = torch.cuda.device_count()
        wanted = torch.device("cuda" if self.device == "auto" else self.device)
        if (wanted.index or 0) >= count:
            raise StillhouseError(
                f"compute.device: {self.device!r} is missing, torch detects {count} GPUs on this "
                "machine; must be auto or cpu"
            )
        if self.processes > count:
            raise StillhouseError(
                f"compute.processes: must be at most {count}, the number of GPUs that torch "
                f"detects on this machine, not {self.processes}"
            )
        _exact_cuda()
        if wanted.index is not None:
            return [wanted]
        return [torch.device("cuda", number) for number in _free_gpus(count, self.processes)]


def _exact_cuda():
    """Make computations on a GPU deterministic and in full float32."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@functools.cache
def _free_gpus(count, wanted):
    """Return the numbers of different GPUs that the fewest jobs of this working directory use.

    With ``--resources gpu=N``, jobs use N GPUs at once. A job holds one of the places of each of
    its GPUs, until its process ends.
    """
    numbers = []
    for place, number in itertools.product(range(MOST_SHARING), range(count)):
        if len(numbers) == wanted:
            break
        held = None
        if number not in numbers:
            held = try_lock(WORK / f"gpu{number}-{place}-{platform.node()}.gpu")
        if held is not None:
            _held.append(held)
            numbers.append(number)
    others = [(os.getpid() + i) % count for i in range(count)]
    return [*numbers, *(number for number in others if number not in numbers)][:wanted]


_held = []


def device_name(context):
    """Return the name of the GPUs that a job computes on, or of the processor and its threads."""
    torch = sys.modules.get("torch")
    several = f"{context.processes} × " if context.processes > 1 else ""
    if torch is not None and context.torch_device().type == "cuda":
        return several + torch.cuda.get_device_name(context.torch_device())
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads() if torch is not None else 1
    name = names[0] if names else platform.machine()
    return f"{name}, {several}{threads} thread{'s' * (threads > 1)}"
