"""Wrong configs, missing sources and hostile names give one line and no damage."""

import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = pytest.mark.workflow

HOSTILE = ["../x", "a/b", "a b", "a%2Fb", "{x}", "-r *", "$(id)", "~", "é'\""]


def assert_one_line(folder, key, problem):
    """Check that a run ends before any job, with one line that names the file and the key."""
    output, _ = folder.fail()
    lines = [ln for ln in output.splitlines() if ln.strip() and "specific profile" not in ln]
    assert len(lines) <= 3
    (line,) = [line for line in lines if key in line]
    assert str(folder / "config.yaml") in line
    assert problem in line
    assert not (folder / "results").exists()


def test_a_wrong_config_ends_before_any_job_and_names_file_and_key(folder, config):
    rded = config["methods"]["rded"]
    rded["crop_per_image"] = rded.pop("crops_per_image")
    folder.configure(config)
    assert_one_line(folder, "methods.rded", "crops_per_image")


def test_conflicts_that_the_plan_finds_name_file_and_key(folder, config):
    config["experiments"]["tiny"] |= {"methods": ["random"], "protocols": ["hard"]}
    config["students"]["small"]["zca"] = 0.1
    config["datasets"]["few"]["resolution"] = 80
    folder.configure(config)
    assert_one_line(folder, "datasets.few.resolution", "80 px conflicts with zca")
    del config["students"]["small"]["zca"]
    config["datasets"]["few"]["resolution"] = 8
    for name in "ab":
        weights = {"folder": f"weights/{name}", "sha256": "5" * 64}
        config["denoisers"][name] = {
            **{"kind": "dit", "resolution": 8, "pretrained": weights},
            "class_labels": {"0": 0, "1": 1, "2": 2},
        }
    folder.configure(config)
    assert_one_line(folder, "denoisers.b.pretrained.folder", "conflicts with weights/a of")


IN_THE_WAY = {
    "a file": (Path.touch, "is a file, not a folder"),
    "a broken link": (lambda path: path.symlink_to("gone"), "a link to a missing file"),
    "a link to a file": (lambda path: path.symlink_to("config.yaml"), "is a file, not a folder"),
}


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_what_is_in_place_of_the_results_ends_before_any_job(folder, kind):
    place, problem = IN_THE_WAY[kind]
    place(folder / "results")
    output, _ = folder.fail("--dry-run")
    lines = [ln for ln in output.splitlines() if ln.strip() and "specific profile" not in ln]
    assert len(lines) <= 3
    assert f"results: {problem}; must be a readable folder: correct it, or set --directory" in lines


def test_results_may_be_a_link_to_a_folder(folder):
    (folder / "elsewhere").mkdir()
    (folder / "results").symlink_to("elsewhere")
    assert folder.jobs()


def test_a_duplicate_key_ends_before_any_job_and_names_both_lines(folder):
    lines = (folder / "config.yaml").read_text().splitlines()
    first = lines.index("students:") + 1
    (folder / "config.yaml").write_text("\n".join([*lines, "students: {}"]))
    assert_one_line(folder, "students", f"in lines {first} and {len(lines) + 1}")


def test_an_existing_teacher_below_min_accuracy_stops_the_run(finished, config):
    config["teachers"]["small"]["min_accuracy"] = 100
    finished.configure(config)
    assert finished.jobs() == {}
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    finished.configure(config)
    output, _ = finished.fail("--dry-run")
    (line,) = [line for line in output.splitlines() if "min_accuracy" in line]
    assert "min_accuracy 100% (chance is 25.0%)" in line


def png(value):
    """Return a small grey image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def write_source(path, n_images):
    """Write a Parquet source with some images of every hostile class."""
    labels = [label for label in range(len(HOSTILE)) for _ in range(n_images)]
    images = [{"bytes": png(9 * i), "path": "../../escaped.png"} for i in range(len(labels))]
    pq.write_table(pa.table({"image": images, "label": labels}), path)


@pytest.fixture
def hostile(folder, config):
    """Return a folder whose source has hostile class names, and its config."""
    write_source(folder / "train.parquet", 2)
    write_source(folder / "test.parquet", 1)
    config["sources"] = {
        "foreign": {
            "kind": "parquet",
            "train": ["train.parquet"],
            "test": ["test.parquet"],
            "classes": HOSTILE,
            "smallest_class": 2,
        }
    }
    config["datasets"] = {"few": {"source": "foreign", "resolution": 8}}
    config["teachers"], config["labels"], config["denoisers"] = {}, {}, {}
    config["methods"] = {"random": {"kind": "random"}}
    config["protocols"] = {"hard": {"labels": "hard", "epochs": 2}}
    config["experiments"]["tiny"] |= {"methods": ["random"], "protocols": ["hard"]}
    folder.configure(config)
    return folder, config


def test_hostile_class_names_stay_inside_results(hostile):
    folder, config = hostile
    config["sources"]["foreign"]["classes_per_block"] = 4
    folder.configure(config)
    assert folder.jobs()["images"] == 3
    around = set(os.listdir(folder.path.parent))
    (target,) = folder.outputs("distilled")
    folder.make(target)
    assert set(os.listdir(folder.path.parent)) == around
    assert set(os.listdir(folder.path)) == {
        *(".snakemake", "config.yaml", "results", "test.parquet", "train.parquet"),
    }
    images = folder.one("images/*")
    classes = set(os.listdir(images)) - {"lineage.json"}
    assert len(classes) == len(HOSTILE)
    assert all(os.listdir(images / name) for name in classes)
    names = pq.read_table(folder / target, columns=["class_id"])["class_id"].to_pylist()
    assert names == HOSTILE

    # A missing source file is no error once its images are stored.
    (folder / "train.parquet").unlink()
    assert not {"index", "images"} & set(folder.jobs())


def test_a_missing_source_file_ends_before_any_job_and_is_named(hostile):
    folder, config = hostile
    (folder / "train.parquet").unlink()
    output, _ = folder.fail()
    (line,) = [line for line in output.splitlines() if "file not found" in line]
    assert line.endswith("sources.foreign.train: file not found: train.parquet; correct the path")
    assert not (folder / "results").exists()

    # It is no error if no experiment needs the source.
    config["sources"]["digits"] = {"kind": "digits"}
    config["datasets"]["fine"] = {"source": "digits", "resolution": 8}
    config["experiments"]["fine"] = {**config["experiments"]["tiny"], "dataset": "fine"}
    folder.configure(config)
    folder.make("--unlock")
    assert folder.jobs("results/tables/fine.csv")["tables"] == 1


def test_broken_aliases_end_before_any_job_and_name_file_and_line(folder):
    text = (folder / "config.yaml").read_text()
    line = len(text.splitlines()) + 1
    (folder / "config.yaml").write_text(f"{text}x: &x [1, *x]\n")
    assert_one_line(folder, "an anchor that contains its own alias", f"line {line}")
