"""Functions that several processes compute together, without a launcher."""

import contextlib
import multiprocessing
import sys
import tempfile
from pathlib import Path

import torch
from torch import distributed

SECONDS = 120
# What tests compute with: imported once, by the server, and not by each of its forks.
MODULES = ["timm", "torch", "torchvision", "diffusers.models.transformers.dit_transformer_2d"]


def together(size, function, *arguments, **options):
    """Return ``function(*arguments, **options)`` of process 0 of `size` processes.

    One is the test itself. Several are forked from a server that has imported `MODULES` and
    computed nothing, because autograd refuses to work in forks of a process that used it.

    Parameters
    ----------
    size : int
    function : callable
        At the top level of a module; returns tensors, text, numbers, and lists or dicts of them.
    """
    if size == 1:
        return function(*arguments, **options)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*MODULES, function.__module__])
    with tempfile.TemporaryDirectory() as folder:
        call = (size, Path(folder), function, arguments, options)
        processes = [context.Process(target=_child, args=(rank, *call)) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
            process.kill()
        sys.stdout.write((Path(folder) / "printed").read_text())
        assert [process.exitcode for process in processes] == [0] * size
        return torch.load(f"{folder}/result", weights_only=True)


def _child(rank, size, folder, function, arguments, options):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    printed = open(folder / "printed" if rank == 0 else "/dev/null", "w")  # noqa: SIM115
    with contextlib.redirect_stdout(printed), printed:
        result = function(*arguments, **options)
    if rank == 0:
        torch.save(result, folder / "result")
    distributed.destroy_process_group()
