"""Runs of Snakemake in a separate folder, and their kills."""

import collections
import contextlib
import csv
import functools
import hashlib
import json
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
import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# Files that differ between runs: dates and times. Manifests differ with the size of blocks.
CHANGING = {"timing.json", "logs", "benchmarks", "manifests", "tables", "cost.svg", "report"}
# Catches a hang alone: a machine five times slower passes.
SECONDS = 1800


@dataclass(frozen=True)
class Job:
    """A job that a dry run announces: its rule, named after the stage, files and resources."""

    rule: str
    inputs: tuple
    outputs: tuple
    threads: int
    resources: str


class Folder:
    """A working directory in which Snakemake runs.

    Parameters
    ----------
    path : str or Path
    snakefile : Path
    """

    def __init__(self, path, snakefile=ROOT / "Snakefile"):
        self.path, self.snakefile = Path(path), snakefile
        self.path.mkdir(parents=True, exist_ok=True)

    def __truediv__(self, part):
        return self.path / part

    def configure(self, config):
        """Write ``config.yaml``."""
        (self / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments, cores=2, configfile="config.yaml"):
        """Return the command line; a config, if any, has an absolute path.

        Without cores: those of a profile.
        """
        command = [BIN / "snakemake", "--snakefile", self.snakefile, "--directory", self.path]
        if configfile:
            command += ["--configfile", self / configfile]
        limit = [] if cores is None else ["--cores", cores]
        return [str(word) for word in [*command, *limit, *arguments]]

    def environment(self):
        """Return the environment without variables that affect Snakemake."""
        left_out = ("SNAKEMAKE_", "PYTHONPATH")
        variables = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
        if sys.dont_write_bytecode and not Path(cache_from_source(psutil.__file__)).exists():
            # No module is stored compiled: a hundred processes would compile torch each.
            variables.pop("PYTHONDONTWRITEBYTECODE", None)
            variables["PYTHONPYCACHEPREFIX"] = compiled_modules().name
        return variables

    def snakemake(self, *arguments, environment=None, **options):
        """Run Snakemake to its end, successful or not, with further variables if any."""
        return subprocess.run(
            self.command(*arguments, **options),
            cwd=self.path,
            env=self.environment() | (environment or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def make(self, *arguments, **options):
        """Run Snakemake successfully."""
        done = self.snakemake(*arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def fail(self, *arguments, **options):
        """Run Snakemake to a failure; return its output and the error lines of jobs."""
        done = self.snakemake(*arguments, **options)
        output = done.stdout + done.stderr
        assert done.returncode != 0, output
        lines = [line.strip() for line in output.splitlines()]
        return output, [line for line in lines if line.startswith("error: ")]

    def plan(self, *arguments, **options):
        """Return the `Job`s of a dry run, without the target rule."""
        text = self.make("--dry-run", "--printshellcmds", *arguments, **options).stdout
        if "Nothing to be done" in text:
            return []
        jobs = [job for block in text.split("\n[")[1:] if (job := _job(block))]
        announced = re.search(r"^total +(\d+)$", text, re.M)
        n_targets = len(re.findall(r"^(?:local)?rule all:$", text, re.M))
        assert announced and int(announced[1]) == len(jobs) + n_targets, text
        return jobs

    def jobs(self, *arguments, **options):
        """Return the number of jobs of each rule in a dry run; {} if there are none."""
        return dict(collections.Counter(job.rule for job in self.plan(*arguments, **options)))

    def outputs(self, rule, *arguments, **options):
        """Return the outputs of a rule's jobs in a dry run, as targets."""
        planned = self.plan(*arguments, **options)
        return [path for job in planned if job.rule == rule for path in job.outputs]

    def paths(self, pattern="**/*"):
        """Return all files below ``results`` that match, as sorted relative paths."""
        matches = (self / "results").glob(pattern)
        return sorted(p.relative_to(self / "results") for p in matches if p.is_file())

    def artifacts(self, *stages):
        """Return {path: SHA-256} of the files of all stages that must be equal in every run."""
        return {
            str(path): hashlib.sha256((self / "results" / path).read_bytes()).hexdigest()
            for path in self.paths()
            if not CHANGING & set(path.parts) and (not stages or path.parts[0] in stages)
        }

    def assert_same(self, undisturbed):
        """Check that results equal those of an undisturbed run, without leftovers."""
        assert self.artifacts() == undisturbed.artifacts()
        assert self.numbers() == undisturbed.numbers()

    def states(self):
        """Return {path: inode, size and time of change} of the files of artifacts.

        Snakemake sets the time of change of a job's outputs, also where the job has not written
        them: of these, the time of ``timing.json`` counts alone.
        """
        states = {}
        for path in self.paths():
            if path.name == "timing.json" or not (CHANGING | {".work"}) & set(path.parts):
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

    def relative(self, path):
        """Return a path as text, relative to the folder."""
        return str(Path(path).relative_to(self.path))

    def logs(self, stage):
        """Return the text of all logs of a stage."""
        paths = sorted((self / "results/logs" / stage).rglob("*.log"))
        return "".join(path.read_text() for path in paths)

    def remove(self, *patterns):
        """Delete files or folders below ``results``."""
        for pattern in patterns:
            matches = list((self / "results").glob(str(pattern)))
            assert matches, pattern
            for path in matches:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove_stages(self, *stages):
        """Delete stages with the manifests of their members."""
        for stage in stages:
            self.remove(stage)
            shutil.rmtree(self / "results/manifests" / stage, ignore_errors=True)


@functools.cache
def compiled_modules():
    """Return a folder for compiled modules, removed with the session."""
    return tempfile.TemporaryDirectory(prefix="bytecode-")


def _job(block):
    head = re.search(r"^(?:local)?rule (.+):$", block, re.M)
    if head is None or head[1] == "all":
        return None
    threads = re.search(r"^    threads: (.*)$", block, re.M)
    resources = re.search(r"^    resources: (.*)$", block, re.M)
    return Job(
        head[1],
        _listed(block, "input"),
        _listed(block, "output"),
        int(threads[1]) if threads else 1,
        resources[1],
    )


def _listed(block, directive):
    line = re.search(rf"^    {directive}: (.*)$", block, re.M)
    return tuple(line[1].replace(" (update)", "").split(", ")) if line else ()


class Running:
    """A running Snakemake, to be killed; `end` ends all processes that it started."""

    def __init__(self, folder, *arguments, **options):
        self.log = open(folder / "console.txt", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            folder.command(*arguments, **options),
            cwd=folder.path,
            env=folder.environment(),
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
        """Return all processes that descend from Snakemake, also earlier ones."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self.known |= {child.pid: child for child in children}
        return [child for child in self.known.values() if child.is_running()]

    def job(self, stage):
        """Return the process that prints to the log of a stage's job, or None."""
        logs = str(self.folder / "results/logs" / stage) + "/"
        for child in self.family():
            try:
                if os.readlink(f"/proc/{child.pid}/fd/1").startswith(logs):
                    return child
            except OSError:
                continue
        return None

    def until(self, condition, seconds=SECONDS):
        """Wait for a condition while Snakemake runs and return its value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert self.process.poll() is None, "ended too early:\n" + self.console()
            assert time.monotonic() < end, "waited too long:\n" + self.console()
            time.sleep(0.002)
        return value

    def until_checkpoint(self, address, file):
        """Wait for a checkpoint of a job that computes a folder below ``results``.

        Parameters
        ----------
        address, file : str
            Patterns of the end of the folder's path, and of the checkpoint's name.
        """

        def saved():
            for path in (self.folder / "results/.work").glob(f"*/{file}"):
                with contextlib.suppress(OSError, ValueError):
                    spec, _ = json.loads((path.parent / "artifact.json").read_bytes())
                    if Path(spec["address"]).match(address):
                        return True
            return False

        return self.until(saved)

    def wait(self):
        """Wait for Snakemake's end and return its exit status."""
        return self.process.wait(SECONDS)

    def end(self):
        """End all running processes."""
        for child in [*self.family(), self.process]:
            try:
                child.kill()
                child.wait(120)
            except psutil.NoSuchProcess:
                pass
        self.log.close()
