"""Group sampling against drawing the same normals, and against plain formulas.

Each function returns what `timing.paired` returns; `peak_memory` returns bytes.
"""

import contextlib
import io
import math
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))

from stillhouse.methods.d3hr.group_sampling import Candidates, search
from timing import paired

PAPER = {
    "sampler": "search",
    "variance": 1.0,
    "terms": "squared",
    "std": "target",
    "skewness": "group",
    "loss_weights": {"mean": 1.0, "std": 1.0, "skewness": 0.5},
}
CODE = {
    **PAPER,
    "terms": "norm",
    "std": "own",
    "skewness": "members",
    "loss_weights": {"mean": 1.0, "std": 1.0, "skewness": 0.1},
}


def quiet(*arguments):
    """Search without lines of progress."""
    with contextlib.redirect_stdout(io.StringIO()):
        search(*arguments)


def gaussian(d, device):
    """Return the mean and variance of a made-up class."""
    rng = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(d, generator=rng) * 0.2, torch.rand(d, generator=rng) + 0.5
    return mean.to(device), variance.to(device)


def over_drawing(settings=PAPER, count=3000, ipc=10, d=4096, pairs=5):
    """Search on one thread of a CPU / drawing the same chunks alone. Target: 1 / 0.7 = 1.43."""
    device, threads = torch.device("cpu"), torch.get_num_threads()
    mean, variance = gaussian(d, device)
    settings = {**settings, "candidates": count}
    candidates = Candidates(0, "bench", ipc, d, device)

    def draw():
        for number in range(math.ceil(count / candidates.size)):
            candidates.chunk(number)

    torch.set_num_threads(1)
    try:
        return paired(
            lambda: quiet(mean, variance, ipc, settings, (0, "bench"), device), draw, pairs
        )
    finally:
        torch.set_num_threads(threads)


def over_straightforward(device, count, ipc=10, d=4096, pairs=5):
    """Search / drawing latents of up to 10,000 groups at once and three reductions, eq. 6-9.

    Target: 1 / 5 on a GPU, with 1e5 candidates or more.
    """
    mean, variance = gaussian(d, device)
    settings = {**PAPER, "candidates": count}
    return paired(
        lambda: quiet(mean, variance, ipc, settings, (0, "bench"), device),
        lambda: straightforward(mean, variance.sqrt(), ipc, count, device),
        pairs,
    )


def straightforward(mean, std, ipc, count, device):
    """Return the group of lowest loss (D3HR, eq. 5-9), written without optimisation."""
    generator, lowest, winner = torch.Generator(device).manual_seed(0), math.inf, None
    for first in range(0, count, 10_000):
        size = min(count - first, 10_000)
        normals = torch.randn(size, ipc, len(mean), generator=generator, device=device)
        latents = mean + std * normals
        of_mean = (latents.mean(1) - mean).square().mean(1)
        of_std = ((latents - mean).square().mean(1).sqrt() - std).square().mean(1)
        cubes = ((latents - mean) / std).pow(3).sum(1)
        of_skewness = (ipc / ((ipc - 1) * (ipc - 2)) * cubes).square().mean(1)
        losses = of_mean + of_std + 0.5 * of_skewness
        best = int(losses.argmin())
        if float(losses[best]) < lowest:
            lowest, winner = float(losses[best]), latents[best].clone()
    return winner


def peak_memory(count=3000, ipc=10, d=4096):
    """Return the bytes that a search adds at most to what its process holds. Target: 1e9.

    By Linux's high-water mark of the address space, since `ru_maxrss` is inherited from the parent.
    """
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import groups, torch;"
        "torch.set_num_threads(1); count, ipc, d = map(int, sys.argv[2:]);"
        "cpu = torch.device('cpu'); settings = {**groups.PAPER, 'candidates': count};"
        "state = lambda: dict(x.split(':') for x in open('/proc/self/status'));"
        "kilobytes = lambda name: int(state()[name].split()[0]); before = kilobytes('VmRSS');"
        "groups.search(*groups.gaussian(d, cpu), ipc, settings, (0, 'bench'), cpu);"
        "print(1024 * (kilobytes('VmHWM') - before))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, (count, ipc, d))]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(run.stdout.split()[-1])
