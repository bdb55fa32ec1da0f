import json
from pathlib import Path

import pandas as pd
import pytest
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry
from stillhouse.reporting import lineage

from tests.reporting.fakes import put_timing, spec_of

RDED_SOFT = "results/students/rded-ipc2-soft/seed1"


def description(stage):
    return registry.stages()[stage].description


@pytest.mark.parametrize("target", ["", "/cell.json"])
def test_every_upstream_artifact_is_explained_once(experiment, capsys, target):
    assert lineage.main([RDED_SOFT + target]) == 0
    lines = capsys.readouterr().out.splitlines()
    for address in ("labels/rded-ipc2-soft", "distilled/rded-ipc2", "teacher/t", "images/digits"):
        mentions = [line for line in lines if f", results/{address}" in line]
        explained = [line for line in mentions if not line.endswith("(as above)")]
        assert len(mentions) > len(explained) == 1 or address.startswith("labels"), address
    assert lines[0].startswith(f"{description('students')}, {RDED_SOFT} (computed in 1000000.0 s ")


def test_settings_are_listed(experiment, capsys):
    lineage.main([RDED_SOFT])
    lines = {line.strip() for line in capsys.readouterr().out.splitlines()}
    assert {
        "seed: 1",
        "training.temperature: 20.0",
        "labels.kind: soft",
        "encoding: float16",
        "classes: 0, 1, 2",
        "version: 1",
    } <= lines


def test_long_settings_are_abridged():
    ids = [f"n{i:08d}" for i in range(1000)]
    settings = {
        "classes": ids,
        "crop": [0.5, 1.0],
        "class_labels": {class_id: label for label, class_id in enumerate(ids)},
    }
    assert list(lineage._setting_lines(settings)) == [
        "class_labels: 1000 entries",
        "classes: 1000 values, n00000000 to n00000999",
        "crop: 0.5, 1.0",
    ]


def test_roles_and_depth_are_shown(experiment):
    lines = lineage.explain(lineage.find("results/students/rded-ipc1-hard/seed0"))
    assert [line for line in lines if line.startswith(f"  distilled: {description('distilled')}, ")]
    assert [line for line in lines if line.startswith(f"    scores: {description('patch_scores')}")]


def test_several_upstreams_of_a_name_are_all_explained():
    teachers = [spec_of("teacher", name) for name in "ab"]
    lines = lineage.explain(spec_of("labels", "l", {}, {"teachers": teachers}))
    heads = [line for line in lines if "results/" in line]
    assert heads[1:] == [
        f"  teachers: {description('teacher')}, results/teacher/{name}" for name in "ab"
    ]


def test_computation_of_members_is_summed(empty):
    spec = spec_of("synthesis", "x")
    for number in range(2):
        put_timing(Path(spec["address"]) / f"batch{number}", 1.5 + number)
    (head, *_) = lineage.explain(spec)
    assert head.endswith("results/synthesis/x (2 members, computed in 4.0 s on abacus, 2026-01-01)")


def test_a_missing_artifact_has_no_compute_time(empty):
    (head, *_) = lineage.explain(spec_of("students", "elsewhere"))
    assert head == f"{description('students')}, results/students/elsewhere"


def test_a_folder_without_a_spec_gives_one_line_with_a_hint(experiment, capsys):
    assert lineage.main(["results/students"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: results/students: spec.json missing; give the path of an ")
    assert ", such as results/students/" in error
    assert error.count("\n") == 1
    assert lineage.main(["nowhere/at/all"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_being_deleted_is_no_hint(empty, capsys):
    deleted = Path("results/students/.deleted/x/spec.json")
    deleted.parent.mkdir(parents=True)
    deleted.write_text("{}")
    assert lineage.main(["results"]) == 1
    assert capsys.readouterr().err.endswith("give the path of an artifact's folder\n")


def test_a_pattern_explains_all_that_match(experiment, capsys):
    assert lineage.main(["results/students/rded-ipc2-*/seed1"]) == 0
    printed = capsys.readouterr().out
    matching = sorted(str(path) for path in Path("results/students").glob("rded-ipc2-*/seed1"))
    assert RDED_SOFT in matching and len(matching) > 1
    assert all(f", {path} (computed in" in printed for path in matching)
    assert lineage.main(["results/students/no-*"]) == 1
    assert capsys.readouterr().err.startswith("error: results/students/no-*: no such artifact")


def test_an_altered_spec_is_named(experiment):
    path = Path(RDED_SOFT) / "spec.json"
    spec = json.loads(path.read_text())
    spec["settings"]["training"]["epochs"] += 1
    path.write_text(json.dumps(spec))
    with pytest.raises(StillhouseError, match=str(path)):
        lineage.find(RDED_SOFT)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], [""]])
def test_wrong_arguments_print_the_usage(arguments, capsys):
    assert lineage.main(arguments) == 2
    assert "usage: make explain" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["tables/x.md", "report/x.html", "figures/x/rates.svg"])
def test_a_report_is_explained_by_its_cells(experiment, target, capsys):
    rows = pd.DataFrame(experiment).assign(accuracy=50.0)
    path = Path("results/tables/x.csv")
    path.parent.mkdir(parents=True)
    rows.to_csv(path)
    assert lineage.main([f"results/{target}"]) == 0
    printed = capsys.readouterr().out
    for cell in experiment:
        assert f"method {cell['method']}, ipc {cell['ipc']}, " in printed
        assert f"{description('students')}, {cell['artifact']} (computed in" in printed


def test_a_report_without_its_table_is_refused_in_one_line(empty, capsys):
    assert lineage.main(["results/report/x.html"]) == 1
    assert "results/tables/x.csv missing" in capsys.readouterr().err


def test_the_overview_is_refused_in_one_line(empty, capsys):
    assert lineage.main(["results/report/index.html"]) == 1
    assert capsys.readouterr().err.endswith("has all experiments; give the page or table of one\n")


def test_a_table_of_an_earlier_version_is_refused_in_one_line(empty, capsys):
    path = Path("results/tables/x.csv")
    path.parent.mkdir(parents=True)
    path.write_text("method,ipc\nrandom,1\n")
    assert lineage.main(["results/tables/x.csv"]) == 1
    assert "missing column artifact; rerun" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["", "/lineage.json"])
def test_an_artifact_is_explained_with_all_its_members(in_tiny_results, capsys, target):
    (family,) = in_tiny_results.families["patch_scores"].values()
    assert lineage.main([f"{family.artifact.directory}{target}"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    expected = f"{description('patch_scores')}, {family.artifact.directory} (3 members, computed in"
    assert head.startswith(expected)
    assert any(line.startswith(f"  teacher: {description('teacher')}, ") for line in lines)
