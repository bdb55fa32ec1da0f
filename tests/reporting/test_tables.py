import csv
import itertools
import json
import math
import re
import statistics
from pathlib import Path

import pytest
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.reporting import markup, notes, published, table_layout, tables

COLUMNS = (
    "experiment,dataset,method,fidelity,ipc,distill_seed,teacher,labels,label_encoding,student,"
    "protocol,seed,accuracy,accuracy_best,accuracy_top5,image_bytes,label_bytes,seconds_teacher,"
    "seconds_denoiser,seconds_distill,seconds_label,seconds_train,device,published,published_std,"
    "digest,recognised,statistics_bytes,image_bits_per_class,label_bits_per_class,artifact,diverged,"
    "report,kind,hlr,ior,lrs,ars,devices"
)
PUBLISHED = ",".join(published.COLUMNS) + "\n"


def test_every_column_of_the_csv_is_documented():
    page = Path(__file__).parents[2] / "docs/storage.md"
    rows = page.read_text().partition("## Columns of the CSV")[2].splitlines()
    names = " ".join(row.split("|")[1] for row in rows if row.startswith("| `"))
    assert sorted(re.findall(r"`(\w+)`", names)) == sorted(tables.COLUMNS)


def make(cells, rows=(), signatures=None):
    """Make the tables; return the rows of the CSV, and the Markdown."""
    Path("published.csv").write_text(PUBLISHED + "".join(f"{row}\n" for row in rows))
    Path("signatures.json").write_text(json.dumps(signatures or {}))
    inputs = {
        "published": [Path("published.csv")],
        "signatures": [Path("signatures.json")],
        "indexes": [],
        "datasets": [],
    }
    outputs = {name: Path(f"out/x.{name}") for name in ("csv", "markdown", "latex")}
    tables.tables(inputs, {"cells": cells}, outputs)
    with open("out/x.csv", newline="") as stream:
        return list(csv.DictReader(stream)), Path("out/x.markdown").read_text()


def test_columns_are_as_promised(experiment):
    make(experiment)
    text = Path("out/x.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    assert text.endswith("\n")
    assert "\r" not in text


def test_the_csv_has_one_row_per_cell(experiment):
    rows, _ = make(experiment)
    assert len(rows) == 16
    for row, cell in zip(rows, experiment, strict=True):
        stored = store.read_json(Path(cell["artifact"]) / "cell.json")
        assert float(row["accuracy"]) == pytest.approx(stored["accuracy"], abs=1e-4)
        assert float(row["accuracy_best"]) == pytest.approx(stored["accuracy_best"], abs=1e-4)
        assert row["digest"] == store.read_spec(cell["artifact"])["digest"]
        for name in ("experiment", "dataset", "method", "teacher", "student", "protocol", "labels"):
            assert row[name] == cell[name]
        for name in ("ipc", "seed", "distill_seed"):
            assert row[name] == str(cell[name])
        assert row["device"] == "abacus"
        missing = ("accuracy_top5", "published", "published_std", "statistics_bytes")
        assert {row[name] for name in missing} == {""}
        soft = cell["protocol"] == "soft"
        assert row["recognised"] == ("87.5000" if soft else "")
        assert row["label_encoding"] == ("float16" if soft else "")


def test_seconds_count_the_lineage_of_a_cell_once(experiment):
    rows, markdown = make(experiment)
    found = {
        (row["method"], row["protocol"]): tuple(
            float(row[f"seconds_{name}"])
            for name in ("teacher", "denoiser", "distill", "label", "train")
        )
        for row in rows
    }
    # An index, images of three classes, the set; scores of three classes.
    assert found == {
        ("random", "hard"): (0, 0, 10_031, 0, 1_000_000),
        ("random", "soft"): (100, 0, 10_031, 100_000, 1_000_000),
        ("rded", "hard"): (100, 0, 13_031, 0, 1_000_000),
        ("rded", "soft"): (100, 0, 13_031, 100_000, 1_000_000),
    }
    assert "denoiser [s]" not in markdown and "statistics" not in markdown


def test_devices_are_those_of_the_whole_lineage(experiment):
    path = Path("results/teacher/t/timing.json")
    path.write_text(json.dumps({"seconds": 100, "device": "NVIDIA H200, its own"}))
    rows, markdown = make(experiment)
    for row in rows:
        uses = row["method"] == "rded" or row["protocol"] == "soft"
        assert row["devices"] == ("NVIDIA H200, its own; abacus" if uses else "abacus")
        assert row["device"] == "abacus"
    assert "- Seconds on NVIDIA H200, its own; abacus: compute time" in markdown


def test_a_missing_timing_leaves_its_column_empty(experiment):
    Path("results/teacher/t/timing.json").unlink()
    rows, markdown = make(experiment)
    for row in rows:
        uses = row["method"] == "rded" or row["protocol"] == "soft"
        assert (row["seconds_teacher"] == "") is uses
        assert row["seconds_distill"] != ""
        assert row["seconds_train"] != ""
    assert "| –" in markdown


def test_a_published_number_is_shown_beside_cells_of_its_lineage(experiment):
    spec = store.read_spec("results/students/rded-ipc2-soft/seed0")
    rows = [
        "paper,1,three,8,rded,2,,,convnet1,soft,,61.5,0.4,%,,preset/x/rded/soft",
        "paper,1,three,8,rded,1,,,convnet1,soft,,23.0,,%,another lineage,preset/x/other/soft",
        "paper,1,three,8,random,2,,,convnet1,hard,,98.0,,%,reproduced by no preset,",
    ]
    signatures = {
        "paper Table 1: three, rded, 2, convnet1, soft, %": {
            "preset/x/rded/soft": published.signature(spec, "last")
        },
        "paper Table 1: three, rded, 1, convnet1, soft, %": {"preset/x/other/soft": "0" * 12},
    }
    rows, markdown = make(experiment, rows, signatures)
    found = {
        (row["method"], row["ipc"], row["protocol"], row["published"], row["published_std"])
        for row in rows
        if row["published"]
    }
    assert found == {("rded", "2", "soft", "61.5000", "0.4000")}
    assert markdown.count("(published 61.5)") == markdown.count("published") == 1


def test_markdown_has_one_row_per_set_and_one_column_per_protocol(experiment):
    rows, markdown = make(experiment)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:4] == ["method", "IPC", "soft [%]", "hard [%]"]
    sets = [["random", "1"], ["random", "2"], ["rded", "1"], ["rded", "2"]]
    assert [row[:2] for row in cells[2:]] == sets
    for row in cells[2:]:
        for column, protocol in ((2, "soft"), (3, "hard")):
            values = [
                float(r["accuracy"])
                for r in rows
                if (r["method"], r["ipc"], r["protocol"]) == (*row[:2], protocol)
            ]
            mean, deviation = row[column].split(" ± ")
            assert float(mean) == pytest.approx(statistics.mean(values), abs=0.051)
            assert float(deviation) == pytest.approx(statistics.stdev(values), abs=0.051)
    assert len({len(line) for line in lines}) == 1
    assert "# x" in markdown
    assert "## three, student s" in markdown


def test_a_damaged_cell_is_named(experiment):
    path = Path(experiment[3]["artifact"]) / "cell.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(StillhouseError, match=re.escape(str(path))):
        make(experiment)


def test_a_frame_read_from_its_csv_gives_the_same_tables(experiment):
    (Path(experiment[0]["artifact"]) / "timing.json").unlink()
    _, markdown = make(experiment)
    frame = tables.read(Path("out/x.csv"), experiment)
    assert markup.markdown(frame, notes.all_notes(frame, [])) == markdown
    latex = markup.latex(frame, notes.accuracy_notes(frame))
    assert latex == Path("out/x.latex").read_text()
    assert frame["label_encoding"].isin(["", "float16"]).all()
    assert frame["published"].isna().all()


def test_markdown_rounds_the_numbers_of_the_csv(experiment, monkeypatch):
    accuracies, original = itertools.cycle((58.57999920845, 58.91999816895)), tables.cell_row
    monkeypatch.setattr(
        tables, "cell_row", lambda *given: {**original(*given), "accuracy": next(accuracies)}
    )
    rows, markdown = make(experiment)
    assert {row["accuracy"] for row in rows} == {"58.5800", "58.9200"}
    assert "58.8 ± 0.2" in markdown and "58.7" not in markdown


def test_names_that_resemble_numbers_stay_names(experiment):
    cells = [{**cell, "method": "007", "student": "1e3"} for cell in experiment]
    make(cells)
    frame = tables.read(Path("out/x.csv"), cells)
    assert set(frame["method"]) == {"007"}
    assert set(frame["student"]) == {"1e3"}


CHANGES = {
    "emptied": lambda text: b"",
    "semicolons": lambda text: text.replace(b",", b";"),
    "a row less": lambda text: text.rsplit(b"\n", 2)[0] + b"\n",
    "a column less": lambda text: text.replace(b"accuracy_top5,", b"", 1),
    "decimal commas": lambda text: re.sub(rb"([0-9])\.([0-9])", rb'"\1 \2"', text),
    "another program's": lambda text: b"PK\x03\x04\xff\xfe" + bytes(range(256)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_csv_that_another_program_changed_is_an_error_of_one_line(experiment, change):
    make(experiment)
    path = Path("out/x.csv")
    path.write_bytes(CHANGES[change](path.read_bytes()))
    with pytest.raises(StillhouseError, match=r"^out/x.csv: was changed .*; delete it and rerun"):
        tables.read(path, experiment)


def mark(cells, *numbers):
    """Replace cells by those of students that diverged; return the identities that allow it."""
    for number in numbers:
        folder = Path(cells[number]["artifact"])
        spec = {k: v for k, v in store.read_spec(folder).items() if k not in ("files", "seal")}
        none = dict.fromkeys(("accuracy", "accuracy_best", "accuracy_top5"))
        store.write(folder, spec, {"cell.json": {**none, "diverged": True, "curve": []}})
    return [{**cell, "on_divergence": "mark"} for cell in cells]


def test_diverged_students_are_marked_and_left_out_of_means(experiment):
    before, _ = make(experiment)
    marked = mark(experiment, 1, 2, 3)
    rows, markdown = make(marked)
    assert [row["diverged"] for row in rows[:5]] == ["False", "True", "True", "True", "False"]
    assert [rows[i]["accuracy"] for i in (1, 2, 3)] == ["", "", ""]
    assert rows[0]["accuracy"] == before[0]["accuracy"]
    line = next(line for line in markdown.splitlines() if line.startswith("| random"))
    alone = float(rows[0]["accuracy"])
    assert f"| {alone:.1f} (1 of 2 diverged) | – (2 of 2 diverged) |" in re.sub(" +", " ", line)
    note = "3 of 16 students diverged and are left out of means, standard deviations"
    assert note in markdown and note in Path("out/x.latex").read_text()
    assert "random (distill seed 0), IPC 1, soft, s: seed 1" in markdown
    frame = tables.read(Path("out/x.csv"), marked)
    times = table_layout.costs(frame)["train"]
    assert times["s", "random", 0, 1, "soft"] == 1_000_000
    assert math.isnan(times["s", "random", 0, 1, "hard"])


def test_a_diverged_student_of_a_strict_protocol_is_an_error(experiment):
    cells = [{**cell, "on_divergence": "error"} for cell in mark(experiment, 1)]
    with pytest.raises(StillhouseError, match=r"protocols.soft.on_divergence: error conflicts"):
        make(cells)
