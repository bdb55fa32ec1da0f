"""Running Snakemake for real on a tiny config, and asking it what it would run."""

import collections
import csv
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STAGES = [
    *("index", "images", "teacher", "denoiser", "latents", "inversion", "samples", "prototypes"),
    *("decode", "patch_scores", "class_scores", "features", "clusters", "statistics"),
    *("synthesis", "distilled", "labels", "students", "tables", "curves", "charts"),
    *("contact_sheet",),
    *("latent_chart", "heat_maps", "cluster_sheet", "descents", "page"),
]
# What differs from run to run: when and how long.
CHANGING = {"timing.json", "logs", "benchmarks", "tables", "cost.svg", "report"}


def fresh_config():
    """Return a config of three digits, small enough for a cold run of half a minute.

    The teacher has a dataset of its own with one class more, so that it stays when classes come
    and go. The epochs last just long enough for a kill to land among them.
    """
    return {
        "compute": {"device": "cpu", "checkpoint_seconds": 0},
        "sources": {"digits": {"kind": "digits", "classes_per_block": 10}},
        "datasets": {
            "few": {"source": "digits", "classes": ["0", "1", "2"], "resolution": 8},
            "many": {"source": "digits", "classes": ["0", "1", "2", "3"], "resolution": 8},
        },
        "teachers": {
            "small": {
                "arch": "convnet1",
                "width": 4,
                "epochs": 100,
                "batch_size": 128,
                "dataset": "many",
                "min_accuracy": 0,
            }
        },
        "methods": {
            "random": {"kind": "random"},
            "rded": {
                "kind": "rded",
                "teacher": "small",
                "crops_per_image": 2,
                "images_per_class": 20,
            },
        },
        "labels": {"soft": {"kind": "soft", "teachers": ["small"], "epochs_stored": 200}},
        "protocols": {
            "soft": {"labels": "soft", "epochs": 200},
            "hard": {"labels": "hard", "epochs": 4},
        },
        "students": {"small": {"arch": "convnet1", "width": 4}},
        "experiments": {
            "tiny": {
                "dataset": "few",
                "methods": ["random", "rded"],
                "ipc": [1],
                "students": ["small"],
                "protocols": ["soft", "hard"],
                "seeds": [0, 1],
            }
        },
    }


@dataclass(frozen=True)
class Job:
    """A job that a dry run announces: stage, name of the rule, inputs and outputs."""

    stage: str
    rule: str
    inputs: tuple
    outputs: tuple


class Folder:
    """A working directory in which Snakemake runs."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def __truediv__(self, part):
        return self.path / part

    def configure(self, config):
        """Write ``config.yaml``."""
        (self / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments, cores=2, configfile="config.yaml"):
        """Return the command line; the config is given with an absolute path, if at all."""
        command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", self.path]
        if configfile:
            command += ["--configfile", self / configfile]
        return [str(word) for word in [*command, "--cores", cores, *arguments]]

    def snakemake(self, *arguments, **options):
        """Run Snakemake to its end, which may be a bad one."""
        return subprocess.run(
            self.command(*arguments, **options),
            cwd=self.path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def make(self, *arguments, **options):
        """Run Snakemake to a good end."""
        done = self.snakemake(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def plan(self, *arguments, **options):
        """Return the `Job`s of a dry run, the target rule left out."""
        text = self.make("--dry-run", *arguments, **options).stdout
        if "Nothing to be done" in text:
            return []
        jobs = [job for block in text.split("\n[")[1:] if (job := _job(block))]
        announced = re.search(r"^total +(\d+)$", text, re.M)
        n_targets = len(re.findall(r"^(?:local)?rule all:$", text, re.M))
        assert announced and int(announced[1]) == len(jobs) + n_targets, text
        return jobs

    def jobs(self, *arguments, **options):
        """Return how many jobs of each stage a dry run announces; {} if nothing is to be done."""
        return dict(collections.Counter(job.stage for job in self.plan(*arguments, **options)))

    def paths(self, pattern="**/*"):
        """Return all files below ``results`` that match, as sorted relative paths."""
        found = (self / "results").glob(pattern)
        return sorted(p.relative_to(self / "results") for p in found if p.is_file())

    def paths_of(self, *patterns):
        """Return the files below ``results`` that match any pattern, as targets."""
        return [f"results/{path}" for pattern in patterns for path in self.paths(pattern)]

    def artifacts(self):
        """Return {path: SHA-256} of all that has to be the same in every run."""
        return {
            str(path): hashlib.sha256((self / "results" / path).read_bytes()).hexdigest()
            for path in self.paths()
            if not CHANGING & set(path.parts)
        }

    def assert_same(self, undisturbed):
        """Check that all is here as after a run that nothing disturbed, with nothing left over."""
        assert self.artifacts() == undisturbed.artifacts()
        assert self.numbers() == undisturbed.numbers()

    def states(self):
        """Return {path: what changes when a file is written anew}, of artifacts and timings.

        Snakemake sets the time of change of all outputs of a job that has run, those included that
        the job has left alone; hence the file's number, and the time of ``timing.json`` alone.
        """
        states = {}
        for path in self.paths():
            if path.name == "timing.json" or not CHANGING & set(path.parts):
                state = (self / "results" / path).stat()
                changed = state.st_mtime_ns if path.name == "timing.json" else None
                states[str(path)] = (state.st_ino, state.st_size, changed)
        return states

    def rows(self, experiment="tiny"):
        """Return the rows of a table."""
        with open(self / f"results/tables/{experiment}.csv", newline="") as stream:
            return list(csv.DictReader(stream))

    def numbers(self, experiment="tiny"):
        """Return the rows of a table without the columns of seconds."""
        return [
            {name: value for name, value in row.items() if not name.startswith("seconds_")}
            for row in self.rows(experiment)
        ]

    def one(self, pattern):
        """Return the one path below ``results`` that matches."""
        (path,) = (self / "results").glob(pattern)
        return path

    def remove(self, *patterns):
        """Delete files or folders below ``results``."""
        for pattern in patterns:
            found = list((self / "results").glob(str(pattern)))
            assert found, pattern
            for path in found:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def environment():
    """Return the environment without what would change how Snakemake runs."""
    left_out = ("SNAKEMAKE_", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
    if sys.dont_write_bytecode and not Path(cache_from_source(psutil.__file__)).exists():
        # Nothing here is kept compiled: a hundred processes would compile torch a hundred times.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        kept["PYTHONPYCACHEPREFIX"] = bytecode().name
    return kept


@functools.cache
def bytecode():
    """Return a folder for compiled modules, gone with the session."""
    return tempfile.TemporaryDirectory(prefix="bytecode-")


def _job(block):
    head = re.search(r"^(?:local)?rule (.+):$", block, re.M)
    if head is None or head[1] == "all":
        return None
    stages = [stage for stage in STAGES if re.match(rf"{stage}(_|$)", head[1])]
    assert len(stages) == 1, f"rule {head[1]} is named after no stage"
    return Job(stages[0], head[1], _listed(block, "input"), _listed(block, "output"))


def _listed(block, directive):
    line = re.search(rf"^    {directive}: (.*)$", block, re.M)
    return tuple(line[1].replace(" (update)", "").split(", ")) if line else ()


class Running:
    """A Snakemake at work in a folder, to be killed; all it started ends with the test."""

    def __init__(self, folder, *arguments, **options):
        self.log = open(folder / "console.txt", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            folder.command(*arguments, **options),
            cwd=folder.path,
            env=environment(),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.folder = folder
        self.known = {}

    def console(self):
        """Return what Snakemake has printed."""
        return Path(self.log.name).read_text()

    def family(self):
        """Return all processes that descend from Snakemake, those seen before included."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self.known |= {child.pid: child for child in children}
        return [child for child in self.known.values() if child.is_running()]

    def job(self, script):
        """Return the process that runs a script, or None."""
        for child in self.family():
            try:
                words = child.cmdline()
            except psutil.Error:
                continue
            if "python" in Path(words[0] if words else "").name and words[-1].endswith(
                f".{script}.py"
            ):
                return child
        return None

    def until(self, condition, seconds=120):
        """Wait for something while Snakemake runs and return it."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, "ended too early:\n" + self.console()
            assert time.monotonic() < end, "waited too long:\n" + self.console()
            time.sleep(0.002)
        return found

    def until_file(self, pattern):
        """Wait for a file below ``results``."""
        return self.until(lambda: list((self.folder / "results").glob(pattern)))

    def wait(self):
        """Wait for Snakemake's end and return its exit status."""
        return self.process.wait(300)

    def end(self):
        """End what is left."""
        for child in [*self.family(), self.process]:
            try:
                child.kill()
                child.wait(30)
            except psutil.NoSuchProcess:
                pass
        self.log.close()


@pytest.fixture(scope="session")
def run_cold(tmp_path_factory):
    """Return a function that runs a config from scratch in a folder of its own."""

    def run(config):
        folder = Folder(tmp_path_factory.mktemp("cold"))
        folder.configure(config)
        folder.done = folder.make()
        return folder

    return run


@pytest.fixture(scope="session")
def tiny_config():
    """Return a function that returns the tiny config, free to be changed."""
    return fresh_config


@pytest.fixture
def config():
    """Return the tiny config, free to be changed."""
    return fresh_config()


@pytest.fixture
def folder(tmp_path, config):
    """Return an empty folder with the tiny config."""
    folder = Folder(tmp_path / "run")
    folder.configure(config)
    return folder


@pytest.fixture(scope="session")
def cold(run_cold):
    """Run the tiny config from scratch, once; not to be changed. `done` is what was printed."""
    return run_cold(fresh_config())


@pytest.fixture
def finished(cold, tmp_path):
    """Return a copy of the cold run, times of change and Snakemake's memory included."""
    shutil.copytree(cold.path, tmp_path / "run")
    return Folder(tmp_path / "run")


@pytest.fixture
def start():
    """Return a function that starts Snakemake in a folder."""
    started = []

    def begin(folder, *arguments, **options):
        started.append(Running(folder, *arguments, **options))
        return started[-1]

    yield begin
    for running in started:
        running.end()
