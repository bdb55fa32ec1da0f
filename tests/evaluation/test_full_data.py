import numpy as np
import pytest
import torch
from stillhouse.artifacts import context, store
from stillhouse.artifacts.context import Context
from stillhouse.data.class_images import read_class
from stillhouse.data.crops import whole_image
from stillhouse.data.splits import StoredImages, load_split
from stillhouse.evaluation import full_data, students
from stillhouse.planning.inputs import job_inputs

HARD = {"kind": "hard", "batch_size": 4}
PLAIN = {"crop": [1.0, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}


@pytest.fixture
def files(in_tiny_results):
    """Return the images of the tiny config's classes, by class id."""
    (dataset,) = in_tiny_results.artifacts["dataset"].values()
    spec = in_tiny_results.family(dataset.upstream["images"]).artifact
    return {name: spec.directory / name / "images.parquet" for name in dataset.settings["classes"]}


def test_every_image_is_used_once_before_any_is_used_again():
    rows = np.concatenate([full_data.epoch_rows(3, epoch, 4, 10) for epoch in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert list(rows[:10]) != list(rows[10:])


def test_rows_are_the_recorded_ones():
    # Other rows are other numbers of students: they need a new version of their stage.
    assert full_data.epoch_rows(0, 0, 4, 10).tolist() == [0, 6, 4, 1]
    assert full_data.epoch_rows(0, 2, 4, 10).tolist() == [7, 2, 9, 5]


def test_rows_of_an_epoch_depend_on_seed_and_epoch_alone():
    again = full_data.epoch_rows(3, 2, 4, 10)
    assert list(full_data.epoch_rows(3, 2, 4, 10)) == list(again)
    assert list(full_data.epoch_rows(4, 2, 4, 10)) != list(again)


def test_an_epoch_may_have_more_images_than_the_dataset():
    rows = full_data.epoch_rows(0, 1, 7, 3)
    assert len(rows) == 7
    assert np.bincount(rows).min() >= 2


def test_full_data_are_the_images_that_random_draws_from(files):
    images, labels = load_split(files, list(files), 16, "train")
    rows = read_class(files["1"], "train")
    first = int(labels.tolist().index(1))
    assert np.array_equal(images[first].numpy(), whole_image(*rows[0], 16)[0])


def labels_of(files, **settings):
    spec = {"settings": {"classes": list(files), "resolution": 8, "labels": HARD, **settings}}
    spec["settings"]["labels"] = {**HARD, "views": PLAIN}
    return full_data.labels_of_full_data({"images": files}, spec, Context())


def test_targets_are_the_classes_of_the_images_that_are_shown(files):
    labels = labels_of(files, images_per_epoch=6)
    views, targets = labels.epoch(1, seed=2)
    assert len(views.index) == len(targets[:]) == labels.n_views == 6
    assert torch.equal(targets[:].argmax(1), labels.hard[views.index])
    shown = {int(row) for epoch in range(3) for row in labels.epoch(epoch, 2)[0].index}
    assert len(shown) == 18


def test_targets_of_many_images_and_classes_need_no_memory():
    """At once, they would have 720 GB."""
    n, images = 300_000, torch.empty(300_000, 3, 2, 2, dtype=torch.uint8)
    settings = {**HARD, "views": {**PLAIN, "mix": "cutmix", "mix_alpha": 1.0, "mix_per": "row"}}
    labels = full_data.FullDataLabels(settings, images, torch.arange(n), n)
    views, targets = labels.epoch(0, seed=0)
    own, partner = views.index[5:7], views.index[views.partner[5:7]]
    rows = torch.arange(2)
    batch, weight = targets[5:7], views.mix_weight[5:7]
    assert batch.shape == (2, n)
    assert torch.equal(batch[rows, own], torch.where(own == partner, 1.0, weight))
    assert torch.allclose(batch.sum(1), torch.ones(2))


def test_without_a_number_an_epoch_has_all_images(files):
    labels = labels_of(files)
    views, _ = labels.epoch(0, seed=0)
    assert sorted(views.index.tolist()) == list(range(len(labels.images)))


def test_students_of_large_datasets_are_those_of_images_in_memory(
    made, planned, tiny, make, monkeypatch
):
    tiny["experiments"]["x"] |= {"full_data": ["matched"], "ipc": [2], "seeds": [0]}
    plan = planned(tiny)
    cell = next(cell for cell in plan.experiments["x"] if cell["kind"] == "full_data")
    artifact = cell["artifact"]
    (folder,) = make(artifact, [0])
    in_memory = store.read_json(folder / "cell.json")
    monkeypatch.setattr(context, "MEMORY_BYTES", 0)
    inputs = job_inputs(artifact.spec(), [0])
    stage = students.students(inputs, artifact.spec(), Context(work=folder / "other"))
    assert isinstance(stage.labels.images, StoredImages)
    assert isinstance(stage.test[0], StoredImages)
    assert stage(0, Context(work=folder / "other"))["cell.json"] == in_memory
