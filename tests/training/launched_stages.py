"""Stages whose processes fail or wait, for `test_launcher.py`."""

import os
import signal
import time
from pathlib import Path

import torch
from stillhouse.errors import StillhouseError
from stillhouse.training import distributed
from torch.distributed import all_reduce


def failing(inputs, spec, context):
    """Raise in process 1, while process 0 waits for it."""

    def make(member, context):
        if distributed.group().rank:
            raise StillhouseError("x.parquet: missing; write it")
        all_reduce(torch.ones(1))
        raise AssertionError

    return make


def killed(inputs, spec, context):
    """End process 1 as the system does without memory, while process 0 waits for it."""

    def make(member, context):
        if distributed.group().rank:
            os.kill(os.getpid(), signal.SIGKILL)
        all_reduce(torch.ones(1))

    return make


def waiting(inputs, spec, context):
    """Wait for a file that is never written."""

    def make(member, context):
        Path(f"started-{distributed.group().rank}").touch()
        while True:
            time.sleep(0.05)

    return make
