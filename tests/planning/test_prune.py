"""Pruning: what no config refers to is listed, and deleted after a yes alone."""

import contextlib
import copy
import errno
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from stillhouse.artifacts import manifests
from stillhouse.artifacts.context import WORK
from stillhouse.artifacts.locks import lock
from stillhouse.planning import prune, verify
from stillhouse.planning.plan import of_file

from tests.conftest import TINY


@pytest.fixture
def configs(made):
    """Work in complete results with manifests; return the config, and a smaller one."""
    for by_name in made.families.values():
        for family in by_name.values():
            for block in family.blocks.values():
                artifact = block.artifact
                manifests.write(block.manifest, artifact.stage, artifact.spec(), block.members)
    smaller = copy.deepcopy(TINY)
    smaller["experiments"]["x"] |= {"methods": ["random"], "protocols": ["hard"], "seeds": [0]}
    for name, config in (("all.yaml", TINY), ("small.yaml", smaller)):
        Path(name).write_text(yaml.safe_dump(config))
    return "all.yaml", "small.yaml"


def files():
    """Return all files below ``results``, as a set of paths."""
    return {path for path in Path("results").rglob("*") if path.is_file()}


def no_question(text):
    raise AssertionError(text)


def test_nothing_of_the_configs_is_unused(configs, capsys):
    before = files()
    assert prune.main(list(configs), ask=no_question) == 0
    assert "0 artifacts and manifests" in capsys.readouterr().out
    assert files() == before


def test_artifacts_of_no_config_are_listed_with_bytes_and_age(configs, capsys):
    past = time.time() - 2 * prune.DAY
    for path in files():
        os.utime(path, (past, past))
    assert prune.main(["small.yaml"], ask=lambda text: "no") == 0
    *lines, total, last = capsys.readouterr().out.splitlines()
    assert last == "nothing deleted"
    assert "of none of the configs" in total
    listed = {Path(line.split()[-1]) for line in lines}
    assert {path.parts[1] for path in listed} >= {"teacher", "patch_scores", "labels", "students"}
    assert all(line.split()[2:4] == ["2.0", "days"] for line in lines)
    sizes = [float(line.split()[0].replace(",", "")) for line in lines]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0


@pytest.mark.parametrize("answer", ["", "y", "no"])
def test_anything_but_yes_deletes_nothing(configs, answer):
    before = files()
    assert prune.main(["small.yaml"], ask=lambda text: answer) == 0
    assert files() == before


def test_what_is_left_after_a_yes_is_exactly_what_the_configs_need(configs, planned, make_all):
    assert prune.main(["small.yaml"], ask=lambda text: "yes") == 0
    plan = of_file("small.yaml")
    assert prune.unused([plan]) == []
    assert list(verify.verify(plan)) == []
    before = {path: path.stat().st_ino for path in files()}
    make_all(plan)
    assert {path: path.stat().st_ino for path in files()} == before
    folders = [path for path in Path("results").rglob("*") if path.is_dir() and path != WORK]
    assert all(any(folder.iterdir()) for folder in folders)


def test_a_lineage_is_deleted_with_the_last_of_its_members(configs):
    folders = [path.parent for path in Path("results/patch_scores").rglob("lineage.json")]
    assert folders
    member = next(folders[0].glob("*/spec.json")).parent
    prune.delete([prune.Unused(member, 0, 0)])
    assert (folders[0] / "lineage.json").exists()
    assert prune.main(["small.yaml"], ask=lambda text: "yes") == 0
    assert not any(folder.exists() for folder in folders)


def test_a_lineage_without_members_is_unused_unless_a_config_has_the_artifact(configs):
    lineages = sorted(Path("results/patch_scores").rglob("lineage.json"))
    for path in lineages:
        for member in path.parent.glob("*/"):
            shutil.rmtree(member)
    shutil.rmtree("results/manifests/patch_scores")
    assert prune.unused([of_file("all.yaml")]) == []
    listed = {leftover.path for leftover in prune.unused([of_file("small.yaml")])}
    assert listed >= {path.parent for path in lineages}
    assert prune.main(["small.yaml"], ask=lambda text: "yes") == 0
    assert not Path("results/patch_scores").exists()


def test_reports_logs_and_checkpoints_stay(configs):
    kept = [Path(f"results/{name}") for name in ("tables/x.md", "logs/teacher/a.log", ".work/a/b")]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert prune.main(["small.yaml"], ask=lambda text: "yes") == 0
    assert all(path.exists() for path in kept)


def test_nothing_is_deleted_while_a_job_runs(configs, capsys):
    before = files()
    with lock(WORK / "teacher-0.lock"):
        assert prune.main(["small.yaml"], ask=no_question) == 1
        assert "held by running jobs" in capsys.readouterr().err
    assert files() == before


def test_nothing_is_deleted_after_a_job_has_begun(configs, capsys):
    before = files()
    with contextlib.ExitStack() as jobs:

        def ask(text):
            jobs.enter_context(lock(WORK / "teacher-0.lock"))
            return "yes"

        assert prune.main(["small.yaml"], ask=ask) == 1
    assert "held by running jobs" in capsys.readouterr().err
    assert files() == before


def test_an_interrupted_deletion_leaves_artifacts_complete_or_missing(configs, monkeypatch):
    delete, calls = shutil.rmtree, []

    def interrupted(folder):
        calls.append(folder)
        if len(calls) == 3:
            next(path for path in Path(folder).rglob("*") if path.is_file()).unlink()
            raise KeyboardInterrupt
        delete(folder)

    with monkeypatch.context() as patch:
        patch.setattr(prune.shutil, "rmtree", interrupted)
        assert prune.main(["small.yaml"], ask=lambda text: "yes") == 130
    assert list(verify.verify(of_file("all.yaml"))) == []
    # Its remains are listed, also where nothing else is.
    (place,) = Path("results").rglob(".deleted")
    assert [leftover.path for leftover in prune.unused([of_file("all.yaml")])] == [place]
    assert prune.main(["small.yaml"], ask=lambda text: "yes") == 0
    assert list(Path("results").rglob(".deleted")) == []
    assert prune.unused([of_file("small.yaml")]) == []


@pytest.fixture
def other_disk(tmp_path):
    """Return a folder of another file system."""
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_stage_on_another_disk_is_pruned(configs, other_disk):
    for stage in ("students", "patch_scores"):
        shutil.move(f"results/{stage}", other_disk / stage)
        Path(f"results/{stage}").symlink_to(other_disk / stage)
    assert prune.main(["small.yaml"], ask=lambda text: "yes") == 0
    plan = of_file("small.yaml")
    assert prune.unused([plan]) == []
    assert list(verify.verify(plan)) == []
    assert any((other_disk / "students").iterdir())
    assert list((other_disk / "patch_scores").iterdir()) == []


def test_a_folder_that_cannot_be_deleted_is_one_line(configs, capsys, monkeypatch):
    def refused(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(prune.shutil, "rmtree", refused)
        assert prune.main(["small.yaml"], ask=lambda text: "yes") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: results/") and error.count("\n") == 1
    assert "cannot be deleted (Permission denied); " in error
    assert list(verify.verify(of_file("all.yaml"))) == []
    assert prune.main(["small.yaml"], ask=lambda text: "yes") == 0
    assert prune.unused([of_file("small.yaml")]) == []


def test_a_config_that_cannot_be_read_stops_the_command(configs, capsys):
    assert prune.main(["all.yaml", "missing.yaml"], ask=no_question) == 1
    assert "missing.yaml" in capsys.readouterr().err
    assert prune.main([], ask=no_question) == 2
