import json
from pathlib import Path

import pytest
from stillhouse.artifacts import lineage
from stillhouse.artifacts.addresses import VERSIONS
from stillhouse.errors import StillhouseError


def student_of(plan, method="rded", kind="soft"):
    """Return the folder of a student of a method."""
    artifact = next(
        f.artifact
        for f in plan.families["students"].values()
        if f.artifact.settings["labels"]["kind"] == kind
        and f.artifact.upstream["distilled"].settings["kind"] == method
    )
    return artifact.at(student_seed=1)


def upstream_of(spec):
    """Yield the address of everything upstream, as often as it is mentioned."""
    for part in spec["upstream"].values():
        yield part["address"]
        yield from upstream_of(part)


@pytest.mark.parametrize("target", ["", "/cell.json"])
def test_everything_upstream_is_told_once(in_kitchen, capsys, target):
    artifact = student_of(in_kitchen)
    assert lineage.main([str(artifact.directory) + target]) == 0
    lines = capsys.readouterr().out.splitlines()
    addresses = list(upstream_of(artifact.spec()))
    assert len(addresses) > len(set(addresses)) == 6
    for address in [str(artifact.directory), *set(addresses)]:
        # The rest of the line tells the seconds, or that it was told before.
        mentions = [line for line in lines if f", {address}" in line]
        told = [line for line in mentions if not line.endswith("(as above)")]
        assert len(told) == 1, address
    assert lines[0].startswith(f"a student, {artifact.directory} (made in ")


def test_settings_are_told(in_kitchen, capsys):
    lineage.main([str(student_of(in_kitchen).directory)])
    lines = {line.strip() for line in capsys.readouterr().out.splitlines()}
    assert {
        "student_seed: 1",
        "training.temperature: 20.0",
        "labels.kind: soft",
        "encoding: float16",
        "crops_per_image: 2",
        "classes: 0, 1, 2",
        "version: 1",
    } <= lines


def test_long_lists_are_told_in_short():
    settings = {"classes": [f"n{i:08d}" for i in range(1000)], "crop": [0.5, 1.0]}
    assert list(lineage._settings(settings)) == [
        "classes: 1000 values, n00000000 to n00000999",
        "crop: 0.5, 1.0",
    ]


def test_roles_and_depth_are_told(in_kitchen):
    spec = lineage.find(student_of(in_kitchen, kind="hard").directory)
    lines = lineage.explain(spec)
    (line,) = (line for line in lines if "distilled: a distilled set" in line)
    assert line.startswith("  distilled: ")
    (line,) = (line for line in lines if "scores: scores of patches" in line)
    assert line.startswith("    scores: ")


def test_every_stage_has_words():
    assert set(VERSIONS) - {"tables", "figures"} <= set(lineage.WORDS)


def test_a_folder_without_a_spec_gets_one_line_and_a_hint(in_kitchen, capsys):
    assert lineage.main(["results/students"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: results/students: no spec.json there")
    assert "there is one in results/students/" in error
    assert error.count("\n") == 1
    assert lineage.main(["nowhere/at/all"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_altered_spec_is_named(made):
    folder = student_of(made).directory
    path = folder / "spec.json"
    spec = json.loads(path.read_text())
    spec["settings"]["training"]["epochs"] += 1
    path.write_text(json.dumps(spec))
    with pytest.raises(StillhouseError, match=r"spec\.json: was altered"):
        lineage.find(folder)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], [""]])
def test_usage_is_told(arguments, capsys):
    assert lineage.main(arguments) == 2
    assert "usage: make explain" in capsys.readouterr().err


def test_what_lies_elsewhere_is_told_without_its_timing(in_kitchen):
    spec = lineage.find(student_of(in_kitchen).directory)
    spec["address"] = str(Path("results/students/elsewhere"))
    assert "(made in" not in lineage.explain(spec)[0]


def test_of_a_family_the_members_that_there_are_are_told(empty):
    spec = {"stage": "synthesis", "address": "results/synthesis/x/ipc1-seed0"}
    for folder, seconds in ("ipc1-seed0-batch0", 1.5), ("ipc1-seed0-batch1", 2.25), ("ipc10", 9):
        path = Path("results/synthesis/x") / folder
        path.mkdir(parents=True)
        timing = {"seconds": seconds, "device": "a CPU", "finished": f"2026-01-0{int(seconds)}"}
        (path / "timing.json").write_text(json.dumps(timing))
    assert lineage._made(spec) == " (2 there, made in 3.8 s on a CPU, 2026-01-02)"
    spec = {"stage": "images", "address": "results/synthesis/x"}
    assert lineage._made(spec) == " (3 there, made in 12.8 s on a CPU, 2026-01-09)"


def test_a_synthesis_tells_its_observers_and_what_they_saw(tiny, planned):
    tiny["teachers"]["u"] = {**tiny["teachers"]["t"], "seed": 1}
    method = {"kind": "edc", "observers": ["t", "u"], "initial": "random"}
    tiny["methods"]["edc"] = {**method, "weights": {"first_layer": 3}}
    tiny["experiments"]["x"] |= {"methods": ["edc"], "protocols": ["hard"]}
    lines = lineage.explain(planned(tiny).experiments["x"][0]["artifact"].spec())
    told = [line.split(", results/")[0].strip() for line in lines if ", results/" in line]
    for role in ("statistics0", "statistics1"):
        assert f"{role}: statistics of a teacher's layers" in told
    assert "synthesis: images synthesised for teachers" in told
    assert "initial: a distilled set" in told
    assert {"weights.first_layer: 3.0", "momentum: 0.8"} <= {line.strip() for line in lines}
    teachers = [line for line in lines if "a teacher, results/" in line]
    # Where they are observers again, and in their statistics.
    assert sum(not line.endswith("(as above)") for line in teachers) == 2
