"""Functions that several processes compute together, forked from the test without a launcher."""

import multiprocessing
import tempfile

import torch
from torch import distributed

SECONDS = 120


def together(size, function, *arguments):
    """Return ``function(*arguments)`` of process 0 of `size` processes; one is the test itself.

    Parameters
    ----------
    size : int
    function : callable
        Returns tensors and plain values.
    """
    if size == 1:
        return function(*arguments)
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_child, args=(rank, size, folder, function, arguments))
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(SECONDS)
            process.kill()
        assert [process.exitcode for process in processes] == [0] * size
        return torch.load(f"{folder}/result", weights_only=False)


def _child(rank, size, folder, function, arguments):
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    result = function(*arguments)
    if rank == 0:
        torch.save(result, f"{folder}/result")
    distributed.destroy_process_group()
