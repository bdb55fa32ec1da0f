import csv
import itertools
import json
import math
import statistics
from pathlib import Path

import pytest
import torch
from diffused import with_denoisers
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.reporting import latex, notes, published, table_layout, tables

SECONDS = {
    "index": 1,
    "images": 10,
    "teacher": 100,
    "patch_scores": 1000,
    "distilled": 10_000,
    "labels": 100_000,
    "students": 1_000_000,
}
# DESIGN, section 4.
COLUMNS = (
    "experiment,dataset,method,fidelity,ipc,distill_seed,teacher,labels,label_encoding,student,"
    "protocol,seed,accuracy,accuracy_best,accuracy_top5,image_bytes,label_bytes,seconds_teacher,"
    "seconds_denoiser,seconds_distill,seconds_label,seconds_train,device,published,published_std,"
    "digest,recognised,statistics_bytes"
)


@pytest.fixture
def timed(made):
    """Give every artifact seconds that tell its stage from their sum; return the plan."""
    for path in Path("results").glob("**/timing.json"):
        stage = path.parts[1]
        path.write_text(json.dumps({"seconds": SECONDS[stage], "device": "abacus"}))
    return made


def identities(plan):
    return [{**c, "artifact": str(c["artifact"].directory)} for c in plan.experiments["x"]]


def make(plan, published=()):
    cells = [c["artifact"].directory / "cell.json" for c in plan.experiments["x"]]
    outputs = {name: Path(f"out/x.{name}") for name in ("csv", "markdown", "latex")}
    inputs = {"cells": cells, "published": list(published), "indexes": []}
    tables.tables(inputs, {"cells": identities(plan)}, outputs)
    with open("out/x.csv", newline="") as stream:
        return list(csv.DictReader(stream)), Path("out/x.markdown").read_text()


def test_columns_are_as_promised(timed):
    make(timed)
    text = Path("out/x.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    assert text.endswith("\n")
    assert "\r" not in text


def test_a_row_is_a_cell(timed):
    rows, _ = make(timed)
    assert len(rows) == 16
    for row, cell in zip(rows, timed.experiments["x"], strict=True):
        kept = store.read_json(cell["artifact"].directory / "cell.json")
        assert float(row["accuracy"]) == pytest.approx(kept["accuracy"], abs=1e-4)
        assert float(row["accuracy_best"]) == pytest.approx(kept["accuracy_best"], abs=1e-4)
        # Three classes have no top five.
        assert row["accuracy_top5"] == ""
        assert row["digest"] == cell["artifact"].digest
        for name in ("experiment", "dataset", "method", "student", "protocol", "labels"):
            assert row[name] == cell[name]
        for name in ("ipc", "seed", "distill_seed"):
            assert row[name] == str(cell[name])
        assert row["device"] == "abacus"
        assert row["published"] == row["published_std"] == ""
    assert {(row["protocol"], row["label_encoding"]) for row in rows} == {
        ("soft", "float16"),
        ("hard", ""),
    }
    assert {(r["method"], r["protocol"], r["teacher"]) for r in rows} == {
        ("random", "soft", "t"),
        ("random", "hard", ""),
        ("rded", "soft", "t"),
        ("rded", "hard", "t"),
    }


def test_seconds_are_of_all_that_a_cell_is_made_from_once(timed):
    rows, _ = make(timed)
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


def test_a_missing_timing_leaves_its_column_empty(timed):
    (teacher,) = timed.single["teacher"].values()
    (teacher.directory / "timing.json").unlink()
    rows, markdown = make(timed)
    for row in rows:
        uses = row["method"] == "rded" or row["protocol"] == "soft"
        assert (row["seconds_teacher"] == "") is uses
        assert row["seconds_distill"] != ""
        assert row["seconds_train"] != ""
    assert "| –" in markdown


def test_classes_of_a_lineage_are_those_of_its_users(made, tiny, planned):
    tiny["datasets"]["two"] = {**tiny["datasets"]["three"], "classes": ["2", "0"]}
    tiny["teachers"]["t"]["dataset"] = "three"
    tiny["experiments"]["x"]["dataset"] = "two"
    family = next(
        f.artifact
        for f in planned(tiny).families["students"].values()
        if {p.settings.get("kind") for p in f.artifact.upstream.values()} == {"rded"}
    )
    found = tables.lineage(family.at(student_seed=0).spec())
    classes = {
        stage: sorted(folder.name for folder in found if folder.parts[1] == stage)
        for stage in ("images", "patch_scores", "teacher", "index", "distilled", "students")
    }
    assert classes["patch_scores"] == ["0", "2"]
    # The teacher was trained on all three.
    assert classes["images"] == ["0", "1", "2"]
    columns = {folder.name: found[folder] for folder in found if folder.parts[1] == "images"}
    assert columns == {"0": "distill", "1": "teacher", "2": "distill"}
    assert [len(classes[s]) for s in ("teacher", "index", "distilled", "students")] == [1] * 4


def with_metadata(artifact, **changes):
    """Write a label table anew with other metadata; None drops an entry."""
    table = store.read_table(artifact.directory / "labels.parquet")
    kept = {**{k.decode(): v for k, v in table.schema.metadata.items()}, **changes}
    kept = {name: value for name, value in kept.items() if value is not None}
    table = table.replace_schema_metadata(kept)
    store.write(artifact.directory, artifact.spec(), {"labels.parquet": table})


def test_the_share_that_teachers_recognise_is_told_with_soft_labels(timed):
    shares = {}
    for i, artifact in enumerate(timed.single["labels"].values()):
        with_metadata(artifact, recognised=repr(20.25 + i))
        shares[artifact.place] = f"{20.25 + i:.4f}"
    rows, markdown = make(timed)
    for row, cell in zip(rows, timed.experiments["x"], strict=True):
        labels = cell["artifact"].upstream.get("labels")
        assert row["recognised"] == (shares[labels.place] if labels else "")
    assert len({row["recognised"] for row in rows}) == 5
    assert "recognised [%]" in markdown


def test_label_tables_of_before_tell_nothing_of_recognition(timed):
    for artifact in timed.single["labels"].values():
        with_metadata(artifact, recognised=None)
    rows, markdown = make(timed)
    assert {row["recognised"] for row in rows} == {""}
    assert "recognised" not in markdown.lower()


@pytest.fixture
def diffused(tiny, planned, empty):
    """Return the student of each diffusion method with hard labels; nothing of it is made."""
    tiny = with_denoisers(tiny)
    tiny["experiments"]["x"] |= {"protocols": ["hard"], "ipc": [2], "seeds": [0]}
    return {cell["method"]: cell["artifact"] for cell in planned(tiny).experiments["x"]}


def test_statistics_are_two_numbers_a_dimension_of_every_class(diffused):
    specs = {method: one.upstream["distilled"].spec() for method, one in diffused.items()}
    inversion = diffused["d3hr"].ancestor("inversion")
    # The first class is looked at, of which no more than the shape of the mean.
    first = inversion.at(class_id="0")
    tensors = {"mean": torch.zeros(2, 34), "variance": torch.zeros(2, 34)}
    store.write(first.directory, first.spec(), {"inversion.safetensors": tensors})
    assert tables.statistics_bytes(specs["d3hr"]) == 3 * (34 * 4 + 34 * 4)
    for method in ("ddps", "d4m"):
        assert math.isnan(tables.statistics_bytes(specs[method]))


def test_other_methods_have_no_statistics(timed):
    rows, markdown = make(timed)
    assert {row["statistics_bytes"] for row in rows} == {""}
    assert "statistics" not in markdown
    assert "denoiser [s]" not in markdown


def stages_of(found):
    """Return {stage: {class or last folder: column}} of a lineage."""
    stages = {}
    for folder, column in found.items():
        stages.setdefault(folder.parts[1], {})[folder.name] = column
    return stages


def test_a_denoiser_has_a_column_with_all_that_it_alone_is_made_from(diffused):
    found = stages_of(tables.lineage(diffused["d3hr"].spec()))
    assert set(found["denoiser"].values()) == {"denoiser"}
    # Three classes are distilled; the denoiser was trained on all ten.
    assert found["images"] == {
        c: "distill" if c in "012" else "denoiser" for c in map(str, range(10))
    }
    for stage in ("latents", "inversion", "samples", "decode"):
        assert found[stage] == dict.fromkeys("012", "distill"), stage
    assert set(found["distilled"].values()) == {"distill"}
    assert set(found["index"].values()) == {"distill"}
    assert set(found["students"].values()) == {"train"}
    assert "teacher" not in found
    ddps = stages_of(tables.lineage(diffused["ddps"].spec()))
    for stage in ("latents", "class_scores", "features", "clusters"):
        assert ddps[stage] == dict.fromkeys("012", "distill"), stage


def test_seconds_of_a_denoiser_are_told_apart(diffused):
    stages = {"index": 1, "images": 10, "denoiser": 100, "latents": 1000, "prototypes": 10_000}
    stages |= {"decode": 100_000, "distilled": 1_000_000, "students": 10_000_000}
    found = tables.seconds(
        diffused["d4m"].spec(), lambda folder: {"seconds": stages[folder.parts[1]]}
    )
    assert found == {
        "seconds_teacher": 0,
        "seconds_denoiser": 100 + 7 * 10,
        "seconds_distill": 1 + 3 * (10 + 1000 + 10_000 + 100_000) + 1_000_000,
        "seconds_label": 0,
        "seconds_train": 10_000_000,
    }


def test_a_given_denoiser_is_made_from_nothing(tiny, planned):
    tiny = with_denoisers(tiny)
    tiny["methods"]["d4m"]["denoiser"] = "dit"
    tiny["experiments"]["x"] |= {"methods": ["d4m"], "protocols": ["hard"]}
    artifact = planned(tiny).experiments["x"][0]["artifact"]
    found = stages_of(tables.lineage(artifact.spec()))
    assert found["images"] == dict.fromkeys("012", "distill")
    assert list(found["denoiser"].values()) == ["denoiser"]


def test_images_that_all_three_use_belong_to_the_set(tiny, planned):
    tiny = with_denoisers(tiny)
    tiny["experiments"]["x"] |= {"methods": ["d3hr"], "protocols": ["soft"]}
    artifact = planned(tiny).experiments["x"][0]["artifact"]
    found = stages_of(tables.lineage(artifact.spec()))
    assert {c for c, column in found["images"].items() if column == "distill"} == set("012")
    assert list(found["teacher"].values()) == ["teacher"]
    assert list(found["denoiser"].values()) == ["denoiser"]
    assert list(found["labels"].values()) == ["label"]


def test_bytes_are_of_the_whole_set(timed):
    rows, _ = make(timed)
    for row, cell in zip(rows, timed.experiments["x"], strict=True):
        artifact = cell["artifact"]
        distilled = artifact.upstream["distilled"].directory / "images.parquet"
        encoded = store.read_table(distilled)["image"].to_pylist()
        assert int(row["image_bytes"]) == sum(len(image["bytes"]) for image in encoded)
        if cell["protocol"] == "hard":
            assert int(row["label_bytes"]) == 8 * 3 * cell["ipc"]
        else:
            table = artifact.upstream["labels"].directory / "labels.parquet"
            assert int(row["label_bytes"]) == len(table.read_bytes())


def test_teachers_in_the_loop_store_nothing(made):
    spec = made.experiments["x"][0]["artifact"].spec()
    assert tables.label_bytes(spec) > 8 * 3
    spec["settings"]["labels"]["kind"] = "online"
    assert math.isnan(tables.label_bytes(spec))


@pytest.fixture
def as_papers(monkeypatch):
    """Take the small config's RDED and networks for what the papers describe."""
    scores = {"crops_per_image": 2, "images_per_class": 20, "crop": [0.08, 1.0]}
    monkeypatch.setattr(published, "RDED_SCORES", scores)
    monkeypatch.setattr(published, "CONVNET", {"width": 4})


def test_published_numbers_stand_beside(timed, as_papers):
    path = Path("published.csv")
    path.write_text(
        "dataset,method,ipc,student,labels,accuracy,std,source\n"
        "three,rded,2,convnet1,soft,61.5,0.4,a paper\n"
        "three,rded,1,convnet1,soft,23.0,,a paper\n"
        "three,rded,2,convnet3,hard,99.0,,another student\n"
        "three,random,5,convnet1,soft,98.0,,another IPC\n"
    )
    rows, markdown = make(timed, [path])
    found = {
        (row["method"], row["ipc"], row["protocol"]): (row["published"], row["published_std"])
        for row in rows
        if row["published"]
    }
    assert found == {
        ("rded", "2", "soft"): ("61.5000", "0.4000"),
        ("rded", "1", "soft"): ("23.0000", ""),
    }
    assert markdown.count("(published 61.5)") == markdown.count("(published 23.0)") == 1


def test_markdown_has_a_row_a_set_and_a_column_a_protocol(timed):
    rows, markdown = make(timed)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:4] == ["method", "IPC", "soft [%]", "hard [%]"]
    assert [row[:2] for row in cells[2:]] == [
        ["random", "1"],
        ["random", "2"],
        ["rded", "1"],
        ["rded", "2"],
    ]
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


def test_a_damaged_cell_is_named(timed):
    path = timed.experiments["x"][3]["artifact"].directory / "cell.json"
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(StillhouseError, match=str(path)):
        make(timed)


def test_a_frame_read_from_its_csv_prints_the_same(timed, as_papers):
    (timed.experiments["x"][0]["artifact"].directory / "timing.json").unlink()
    path = Path("published.csv")
    path.write_text(
        "dataset,method,ipc,student,labels,accuracy,std,source\n"
        "three,rded,2,convnet1,soft,61.5,,a paper\n"
    )
    _, markdown = make(timed, [path])
    frame = tables.read(Path("out/x.csv"), identities(timed))
    assert table_layout.markdown(frame, notes.notes(frame)) == markdown
    assert latex.latex(frame) == Path("out/x.latex").read_text()
    assert frame["label_encoding"].isin(["", "float16"]).all()
    assert frame["published"].isna().sum() == 14


def test_markdown_rounds_what_the_csv_says(timed, monkeypatch):
    accuracies, original = itertools.cycle((58.57999920845, 58.91999816895)), tables.cell_row
    monkeypatch.setattr(
        tables, "cell_row", lambda *given: {**original(*given), "accuracy": next(accuracies)}
    )
    rows, markdown = make(timed)
    assert {row["accuracy"] for row in rows} == {"58.5800", "58.9200"}
    assert "58.8 ± 0.2" in markdown and "58.7" not in markdown


def test_names_that_look_like_numbers_stay_names(timed):
    cells = [{**cell, "method": "007", "student": "1e3"} for cell in identities(timed)]
    paths = [Path(cell["artifact"]) / "cell.json" for cell in cells]
    outputs = {name: Path(f"out/x.{name}") for name in ("csv", "markdown", "latex")}
    tables.tables({"cells": paths, "published": [], "indexes": []}, {"cells": cells}, outputs)
    frame = tables.read(Path("out/x.csv"), cells)
    assert set(frame["method"]) == {"007"}
    assert set(frame["student"]) == {"1e3"}


def test_a_lineage_has_every_batch_and_the_statistics_of_every_observer(tiny, planned):
    for seed, name in enumerate("ab"):
        tiny["teachers"][name] = {"arch": "convnet1", "norm": "batch", "seed": seed}
    shared = {"kind": "edc", "observers": ["a", "b"], "batch_size": 2}
    tiny["methods"]["edc"] = {**shared, "initial": "rded"}
    tiny["experiments"]["x"] |= {"methods": ["edc"], "protocols": ["hard"], "ipc": [3]}
    artifact = planned(tiny).experiments["x"][0]["artifact"]
    found = stages_of(tables.lineage(artifact.spec()))
    assert found["synthesis"] == {f"ipc3-seed0-batch{n}": "distill" for n in range(5)}
    assert list(found["statistics"].values()) == ["distill"] * 2
    # Both observers, and that of the set which it starts from.
    assert list(found["teacher"].values()) == ["teacher"] * 3
    assert found["patch_scores"] == dict.fromkeys("012", "distill")
    stages = {"index": 1, "images": 10, "patch_scores": 100, "statistics": 1000}
    stages |= {"synthesis": 10_000, "distilled": 100_000, "teacher": 2, "students": 3}
    seconds = tables.seconds(artifact.spec(), lambda at: {"seconds": stages[at.parts[1]]})
    # Its own set, and the one which it starts from.
    assert seconds["seconds_distill"] == 1 + 30 + 300 + 2 * 1000 + 5 * 10_000 + 2 * 100_000
    assert (seconds["seconds_teacher"], seconds["seconds_train"]) == (6, 3)
    batches = {
        str(artifact.upstream["distilled"].upstream["synthesis"].at(batch=n).directory)
        for n in range(5)
    }
    assert batches == {str(at) for at in tables.lineage(artifact.spec()) if "synthesis" in at.parts}
    assert math.isnan(tables.statistics_bytes(artifact.upstream["distilled"].spec()))
