"""Wrong configs, damaged artifacts and hostile names: one clear line, and no harm."""

import io
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = pytest.mark.workflow

HOSTILE = ["../x", "a/b", "a b", "a%2Fb", "{x}", "-r *", "$(id)", "~", "é'\""]


def unknown_key(config):
    """Misspell a setting."""
    rded = config["methods"]["rded"]
    rded["crop_per_image"] = rded.pop("crops_per_image")
    return "methods.rded", "crops_per_image"


def missing_reference(config):
    """Name a teacher that is not there."""
    config["methods"]["rded"]["teacher"] = "smal"
    return "methods.rded.teacher", "small"


def impossible_ipc(config):
    """Want more images than a class has."""
    config["experiments"]["tiny"]["ipc"] = [5000]
    return "experiments.tiny.ipc", "at most"


@pytest.mark.parametrize("mistake", [unknown_key, missing_reference, impossible_ipc])
def test_a_wrong_config_ends_before_any_job_and_names_file_and_key(folder, config, mistake):
    key, right = mistake(config)
    folder.configure(config)
    done = folder.snakemake()
    assert done.returncode != 0
    lines = [ln for ln in done.stderr.splitlines() if ln.strip() and "specific profile" not in ln]
    assert len(lines) <= 3
    (line,) = [line for line in lines if key in line]
    assert str(folder / "config.yaml") in line
    assert right in line
    assert not (folder / "results").exists()


def test_a_kept_teacher_under_the_bar_of_today_stops_the_run(finished, config):
    config["teachers"]["small"]["min_accuracy"] = 100
    finished.configure(config)
    assert finished.jobs() == {}
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    finished.configure(config)
    done = finished.snakemake()
    assert done.returncode != 0
    (line,) = [ln for ln in done.stderr.splitlines() if "min_accuracy" in ln]
    assert "is under min_accuracy 100% (chance is 25.0%)" in line


def test_a_truncated_artifact_is_named_with_the_remedy_and_the_remedy_works(finished, cold):
    scores = finished.one("patch_scores/*/seed0/1/scores.parquet")
    state = scores.stat()
    scores.write_bytes(scores.read_bytes()[:-100])
    os.utime(scores, ns=(state.st_atime_ns, state.st_mtime_ns))
    finished.remove("distilled/few/rded-*")
    target = cold.one("distilled/few/rded-*/ipc1-seed0/images.parquet").relative_to(cold.path)
    done = finished.snakemake(str(target))
    assert done.returncode != 0
    (line,) = [ln for ln in done.stderr.splitlines() if ln.lstrip().startswith("error: ")]
    assert str(scores.relative_to(finished.path)) in line
    remedy = f"delete the folder {scores.parent.relative_to(finished.path)} and run again"
    assert line.endswith(remedy)
    assert not (finished / target).exists()

    finished.remove(scores.parent.relative_to(finished / "results"))
    finished.make(str(target))
    assert finished.artifacts() == cold.artifacts()


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
    config["teachers"]["small"].pop("dataset")
    config["experiments"]["tiny"] |= {"methods": ["random"], "protocols": ["hard"]}
    folder.configure(config)
    return folder, config


def test_hostile_class_names_stay_inside_results(hostile):
    folder, _ = hostile
    around = set(os.listdir(folder.path.parent))
    (job,) = [job for job in folder.plan() if job.stage == "distilled"]
    folder.make(*job.outputs)
    assert set(os.listdir(folder.path.parent)) == around
    assert set(os.listdir(folder.path)) == {
        *(".snakemake", "config.yaml", "results", "test.parquet", "train.parquet"),
    }
    images = folder.one("images/*")
    assert len(os.listdir(images)) == len(HOSTILE)
    assert all(os.listdir(images / name) for name in os.listdir(images))
    names = pq.read_table(folder / job.outputs[0], columns=["class_id"])["class_id"].to_pylist()
    assert names == HOSTILE


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_source_file_ends_before_any_job_and_is_named(hostile, split):
    folder, _ = hostile
    (folder / f"{split}.parquet").unlink()
    done = folder.snakemake()
    assert done.returncode != 0
    (line,) = [ln for ln in (done.stdout + done.stderr).splitlines() if "is not there" in ln]
    assert line.endswith(
        f"{split}.parquet: is not there; it is named under sources.foreign.{split}"
    )
    assert not (folder / "results").exists()


def test_a_source_file_is_not_missed_once_its_images_are_kept(hostile):
    folder, _ = hostile
    (job,) = [job for job in folder.plan() if job.stage == "distilled"]
    folder.make(*job.outputs)
    (folder / "train.parquet").unlink()
    assert not {"index", "images"} & set(folder.jobs())


def test_a_missing_source_that_is_not_wanted_is_no_error(hostile):
    folder, config = hostile
    config["sources"]["digits"] = {"kind": "digits"}
    config["datasets"]["fine"] = {"source": "digits", "resolution": 8}
    config["experiments"]["fine"] = {**config["experiments"]["tiny"], "dataset": "fine"}
    (folder / "train.parquet").unlink()
    folder.configure(config)
    assert folder.jobs("results/tables/fine.csv")["tables"] == 1
    folder.make("--unlock")


def test_hostile_class_names_can_be_cut_into_blocks_of_one(hostile):
    folder, config = hostile
    config["sources"]["foreign"]["classes_per_block"] = 1
    folder.configure(config)
    assert folder.jobs()["images"] == len(HOSTILE)


@pytest.mark.parametrize("name", ["..", "x" * 200])
def test_a_class_name_that_cannot_be_a_folder_is_refused(hostile, name):
    folder, config = hostile
    config["sources"]["foreign"]["classes"] = [*HOSTILE[:-1], name]
    folder.configure(config)
    done = folder.snakemake()
    assert done.returncode != 0
    assert "cannot name a folder" in done.stderr
    assert not (folder / "results").exists()
