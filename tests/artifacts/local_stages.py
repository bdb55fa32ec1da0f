"""Stages whose functions are objects of the tests, and jobs of such stages."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from stillhouse.artifacts import jobs
from stillhouse.artifacts.addresses import Artifact, digest
from stillhouse.artifacts.stages import Stage

FILES = ("a.json", "b.json")


@dataclass(frozen=True)
class LocalStage(Stage):
    """A stage whose function is an object instead of a name."""

    local: object = None

    def load(self):
        return self.local


def stage_of(function, files=FILES, member="class_id"):
    return LocalStage("pets", 1, files, "", "pets", member, local=function)


PETS = Artifact(stage_of(None), "pets", {"revision": 1})


class Recorder:
    """A stage function that records its calls."""

    def __init__(self, fails_at="", seconds=0.0):
        self.loaded, self.computed, self.contexts = [], [], []
        self.fails_at, self.seconds = fails_at, seconds

    def __call__(self, inputs, spec, context):
        self.loaded.append((inputs, spec))
        return self.make

    def make(self, member, context):
        time.sleep(self.seconds)
        self.computed.append(member)
        self.contexts.append(context)
        if member == self.fails_at:
            raise RuntimeError("no")
        return {"a.json": {"member": member}, "b.json": [member]}


def produce(function, *members, inputs=None, artifact=PETS, files=FILES, **resources):
    """Compute members as a job does; return the stage function."""
    stage = stage_of(function, files, artifact.stage.member)
    jobs.produce(stage, inputs or {}, artifact.spec(), members, resources)
    return function


def path(class_id, name="a.json"):
    return Path(PETS.member_file(class_id)).with_name(name)


def work_folder(spec):
    return Path("results/.work") / f"pets-{digest(spec)}"


def python(code, *arguments, **options):
    """Run code in a process with the import path of this one and its own folder."""
    paths = os.pathsep.join([*sys.path, os.getcwd()])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, text=True, check=False, **options)
