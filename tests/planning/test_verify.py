"""Verifying all artifacts of a config."""

from pathlib import Path

import pytest
import yaml
from stillhouse.artifacts import manifests, store
from stillhouse.planning import verify

from tests.conftest import TINY


@pytest.fixture
def listed(made):
    """Work in complete results whose manifests exist; return the plan."""
    for by_name in made.families.values():
        for family in by_name.values():
            for block in family.blocks.values():
                artifact = block.artifact
                manifests.write(block.manifest, artifact.stage, artifact.spec(), block.members)
    return made


def scores_of(plan):
    (family,) = plan.families["patch_scores"].values()
    (block,) = family.blocks.values()
    return Path(family.artifact.member_file("1")), Path(block.manifest)


def test_complete_artifacts_are_intact(listed):
    assert list(verify.verify(listed)) == []


def test_missing_artifacts_are_not_damaged(planned, empty):
    assert list(verify.verify(planned(TINY))) == []


def test_the_manifest_of_a_damaged_member_is_removed(listed, aged):
    path, manifest = scores_of(listed)
    path.write_bytes(path.read_bytes()[:-1])
    (line,) = verify.verify(listed)
    assert line.startswith(f"{path}: has {path.stat().st_size} bytes") and str(manifest) in line
    assert not manifest.exists()


def test_a_missing_member_of_a_manifest_is_an_error(listed):
    path, manifest = scores_of(listed)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    (line,) = verify.verify(listed)
    assert line.startswith(f"{path}: missing; ")
    assert not manifest.exists()
    assert list(verify.verify(listed)) == []


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9])],
    ids=["missing", "altered"],
)
def test_a_damaged_lineage_is_one_line_and_is_written_again(listed, aged, damage):
    """No job would do so: none needs to run."""
    path, manifest = scores_of(listed)
    lineage = path.parents[1] / "lineage.json"
    content = lineage.read_bytes()
    damage(lineage)
    (line,) = verify.verify(listed)
    assert line == f"{lineage}: missing or damaged; written again"
    assert lineage.read_bytes() == content and manifest.exists()
    assert list(verify.verify(listed)) == []


def test_the_manifest_of_a_dataset_with_damaged_images_is_removed(listed):
    (dataset,) = listed.artifacts["dataset"].values()
    image = Path(dataset.upstream["images"].member_file("2"))
    image.write_bytes(bytes(image.stat().st_size))
    (line,) = verify.verify(listed)
    assert line.startswith(f"{image}: altered") and dataset.file in line
    assert not Path(dataset.file).exists()


@pytest.mark.parametrize("name", ["model.safetensors", "metrics.json"])
def test_every_file_of_an_artifact_is_checked(listed, name):
    (teacher,) = listed.artifacts["teacher"].values()
    (teacher.directory / name).unlink()
    (line,) = verify.verify(listed)
    assert line.startswith(f"{teacher.directory / name}: missing; delete the folder")


def test_files_that_no_stage_reads_are_checked(listed):
    (teacher,) = listed.artifacts["teacher"].values()
    contents = {"part/config.json": {}, "model.safetensors": {}, "metrics.json": {}}
    store.write(teacher.directory, teacher.spec(), contents)
    assert list(verify.verify(listed)) == []
    (teacher.directory / "part/config.json").unlink()
    (line,) = verify.verify(listed)
    assert line.startswith(f"{teacher.directory}/part/config.json: missing; ")


def test_the_exit_status_is_zero_for_intact_artifacts(listed, capsys):
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    assert verify.main(["tiny.yaml"]) == 0
    assert capsys.readouterr().out == "all computed artifacts are intact\n"
    path, _ = scores_of(listed)
    path.unlink()
    assert verify.main(["tiny.yaml"]) == 1
    assert capsys.readouterr().out.endswith("1 missing or damaged artifacts\n")


@pytest.mark.parametrize("arguments", [[], [""], ["a.yaml", "b.yaml"]])
def test_usage_is_shown(arguments, capsys):
    assert verify.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: make verify ")


def test_a_wrong_config_is_one_line(empty, capsys):
    Path("wrong.yaml").write_text("sources: {}\n")
    for name in ("wrong.yaml", "missing.yaml"):
        assert verify.main([name]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and name in error and error.count("\n") == 1
