"""Sets made elsewhere in configs, plans and distilled sets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stillhouse.artifacts import formats
from stillhouse.config import load
from stillhouse.data.distilled_set import DistilledSet
from stillhouse.errors import StillhouseError
from stillhouse.methods.given.files import digest, set_files
from stillhouse.planning.inputs import check_files, check_user_files, user_files
from stillhouse.reporting import costs

from tests.config.changes import put, refusal
from tests.methods.given import layouts
from tests.methods.given.layouts import LABELS, SOFT, pixels


@pytest.fixture
def config(tiny, empty):
    """Return a small config with a set of two images per class, in an empty folder."""
    layouts.rded(empty)
    tiny["methods"] = {"mine": {"kind": "given", "folder": "rded"}}
    tiny["protocols"] = {"hard": tiny["protocols"]["hard"]}
    tiny["experiments"]["x"] |= {"methods": ["mine"], "ipc": [2], "protocols": ["hard"]}
    return tiny


def set_of(plan):
    """Return the artifact of the only distilled set."""
    (artifact,) = plan.artifacts["distilled"].values()
    return artifact


def test_a_set_is_known_by_its_content_wherever_it_is(config, planned):
    before = set_of(planned(config))
    shutil.move("rded", "moved")
    config["methods"]["mine"]["folder"] = str(Path("moved").absolute())
    after = set_of(planned(config))
    assert after.relative_path == before.relative_path and "moved" not in json.dumps(after.spec())
    config["methods"]["mine"] |= {"folder": "gone", "sha256": after.settings["sha256"]}
    assert set_of(planned(config)).relative_path == before.relative_path
    image = next(Path("moved/00001").iterdir())
    shutil.copy(next(Path("moved/00000").iterdir()), image)
    config["methods"]["mine"] = {"kind": "given", "folder": "moved"}
    assert set_of(planned(config)).relative_path != before.relative_path


def test_the_digest_is_that_of_sha256sum(empty):
    path = layouts.npz(empty)
    assert digest(set_files(path, False)) == formats.checksum(path)
    folder = layouts.mtt(empty, rate="lr_best.pt")
    names = ("images_best.pt", "labels_best.pt", "lr_best.pt")
    assert set_files(folder, True).names == names
    text = "".join(f"{formats.checksum(folder / name)}  {name}\n" for name in names)
    (empty / "list").write_text(text)
    assert digest(set_files(folder, True)) == formats.checksum(empty / "list")


def test_other_files_are_not_part_of_a_set(empty):
    root = layouts.rded(empty)
    before = digest(set_files(root, True))
    for name in (".DS_Store", "log.txt", "00000/notes.txt", "00000/.hidden.png"):
        (root / name).write_text("x")
    for name in ("empty", ".ipynb_checkpoints", "__MACOSX"):
        (root / name).mkdir()
    (root / "__MACOSX/a.png").write_text("x")
    assert digest(set_files(root, True)) == before


def test_the_normalisation_of_the_dataset_shapes_a_set_without_its_own(config, planned):
    before = set_of(planned(config)).settings
    assert not {"normalisation", "dataset_normalisation"} & before.keys()
    config["datasets"]["three"]["normalisation"] = "cifar"
    assert set_of(planned(config)).settings["dataset_normalisation"][0][0] == 0.4914
    config["methods"]["mine"]["normalisation"] = "imagenet"
    settings = set_of(planned(config)).settings
    assert settings["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    assert "dataset_normalisation" not in settings


def test_the_job_reads_the_files_of_the_set(config, planned, make):
    plan = planned(config)
    artifact = set_of(plan)
    assert user_files(plan, artifact) == {"set": ["rded"]}
    check_user_files(plan, artifact)
    path = make(artifact, files={"set": [Path("rded")]}) / "images.parquet"
    table = pq.read_table(path)
    assert table["label"].to_pylist() == [0, 0, 1, 1, 2, 2]
    sizes = [file.stat().st_size for file in Path("rded").rglob("*.png")]
    assert costs.image_bytes(artifact.spec()) == sum(sizes)
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(DistilledSet(path).images.numpy(), pixels()[order])
    shutil.rmtree("rded")
    config["methods"]["mine"]["sha256"] = artifact.settings["sha256"]
    check_files(planned(config))
    assert user_files(plan, artifact) == {}


def test_a_set_that_is_neither_stored_nor_there_is_one_line(config, planned, make):
    config["methods"]["mine"] |= {"folder": "gone", "sha256": "0" * 64}
    plan = planned(config)
    with pytest.raises(StillhouseError, match=r"methods\.mine\.folder: folder not found: gone"):
        check_user_files(plan, set_of(plan))
    with pytest.raises(StillhouseError, match="the files of the set are missing; restore them"):
        make(set_of(plan))


def test_soft_labels_and_a_rate_are_stored_with_the_set(config, planned, make):
    layouts.npz(Path.cwd(), labels=SOFT, learning_rate=0.5)
    config["methods"]["mine"] = {"kind": "given", "file": "set.npz"}
    training = {"labels": "learned", "epochs": 2, "learning_rate": "learned"}
    config["labels"]["learned"] = {"kind": "learned"}
    config["protocols"] = {"learned": training}
    config["experiments"]["x"]["protocols"] = ["learned"]
    artifact = set_of(planned(config))
    stored = DistilledSet(make(artifact, files={"set": [Path("set.npz")]}) / "images.parquet")
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(stored.learned_labels.numpy(), SOFT[order])
    assert (stored.learned_label_kind, stored.learning_rate) == ("probabilities", 0.5)


def test_the_seconds_of_a_set_made_elsewhere_are_unknown(config, planned, make):
    artifact = set_of(planned(config))
    make(artifact, files={"set": [Path("rded")]})
    seconds = costs.of_lineage(artifact.spec(), lambda folder: {"seconds": 1})
    assert np.isnan(seconds["seconds_distill"]) and seconds["seconds_teacher"] == 0


MINE = "methods.mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(MINE, {"kind": "given"}), "methods.mine.file: missing, as is folder; set one"),
        (put(f"{MINE}.file", "a.npz"), "methods.mine.file: conflicts with folder; set one"),
        (put(f"{MINE}.folder", "gone"), "methods.mine.folder: folder not found: gone; correct"),
        (
            put(MINE, {"kind": "given", "file": "rded"}),
            "methods.mine.file: rded: is a folder, not a file; must be a readable file",
        ),
        (put(f"{MINE}.folder", "."), "methods.mine.folder: .: no set of a known layout; must have"),
        (
            put(MINE, {"kind": "given", "file": "x.txt"}),
            "methods.mine.file: x.txt: unknown format; must be one of .parquet, .npz,",
        ),
        (
            put(MINE, {"kind": "given", "file": "half/images_best.pt"}),
            "methods.mine.file: half/images_best.pt: is one of two files of a set; name their",
        ),
        (
            put(f"{MINE}.folder", "half"),
            "methods.mine.folder: half: labels_best.pt is missing beside images_best.pt; store",
        ),
        (
            put(f"{MINE}.folder", "rde{ipc}"),
            "experiments.x.methods.mine.folder: folder not found: rde2; correct the path",
        ),
        (
            put(MINE, {"kind": "given", "folder": "{ipc}", "sha256": "0" * 64}),
            "methods.mine.sha256: conflicts with {ipc} in the path; remove it",
        ),
        (
            put("experiments.x.ipc", [2, 1]),
            "experiments.x.methods.mine: has one set for the IPCs 2, 1; write {ipc} in the path",
        ),
    ],
)
def test_a_config_without_a_usable_set_is_one_line(config, change, message):
    Path("x.txt").write_text("x")
    Path("half").mkdir()
    Path("half/images_best.pt").write_bytes(b"")
    change(config)
    assert refusal(config).removeprefix("tiny.yaml: ").startswith(message)


def test_an_experiment_may_name_another_set(config, planned):
    layouts.npz(Path.cwd())
    config["experiments"]["y"] = {
        **config["experiments"]["x"],
        "methods": [{"mine": {"folder": "rded", "encoding": "webp"}}],
    }
    assert len(planned(config).artifacts["distilled"]) == 2
    assert load.complete(config, "x")["experiments"]["y"]["methods"]["mine"]["sha256"]


def test_sets_of_several_ipcs_have_it_in_their_path(config, planned, make):
    shutil.move("rded", "of 2")
    for folder in Path("of 2").iterdir():
        (Path("of 1") / folder.name).mkdir(parents=True)
        shutil.copy(min(folder.iterdir()), Path("of 1") / folder.name)
    config["methods"]["mine"]["folder"] = "of {ipc}"
    config["experiments"]["x"]["ipc"] = [1, 2]
    plan = planned(config)
    for artifact in plan.artifacts["distilled"].values():
        ipc = artifact.keys["ipc"]
        files = user_files(plan, artifact)
        assert files == {"set": [f"of {ipc}"]}
        path = make(artifact, files={"set": [Path(f"of {ipc}")]}) / "images.parquet"
        assert len(DistilledSet(path)) == 3 * ipc
