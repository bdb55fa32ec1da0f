import copy
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.augmentation.views import draw, render
from stillhouse.data.distilled_set import read_set
from stillhouse.evaluation import label_sources, soft_labels, teacher_ensemble
from stillhouse.evaluation.label_tables import load_labels
from stillhouse.evaluation.logit_encodings import decode_logits
from stillhouse.evaluation.teacher_ensemble import TeacherEnsemble
from stillhouse.planning.inputs import job_inputs
from stillhouse.training import teachers

CPU = torch.device("cpu")


def table_of(plan, method="rded", ipc=2):
    """Return the label artifact of a method's set."""
    (found,) = (
        a
        for a in plan.artifacts["labels"].values()
        if a.upstream["distilled"].settings["kind"] == method
        and a.upstream["distilled"].keys["ipc"] == ipc
    )
    return found


def file_of(artifact):
    return Path(artifact.file)


def ensemble_of(artifact):
    return TeacherEnsemble(job_inputs(artifact.spec())["teachers"], ["0", "1", "2"], CPU)


@pytest.fixture
def make_labels(make, planned, tiny):
    """Return a function that makes the labels of the tiny config with other settings."""

    def make_labels(**changes):
        config = copy.deepcopy(tiny)
        config["labels"]["soft"] |= changes
        artifact = table_of(planned(config))
        make(artifact)
        return file_of(artifact)

    return make_labels


def images_of(artifact):
    """Return the images of a table's distilled set and their labels."""
    pixels, hard = read_set(store.read_table(artifact.upstream["distilled"].file))
    return torch.from_numpy(pixels), torch.from_numpy(np.array(hard))


def test_columns_are_as_promised(in_tiny_results):
    schema = pq.read_schema(file_of(table_of(in_tiny_results)))
    four = pa.list_(pa.float32(), 4)
    augment = pa.struct([("op", pa.string()), ("magnitude", pa.float32())])
    assert {field.name: field.type for field in schema} == {
        "epoch": pa.int32(),
        "index": pa.int32(),
        "crop": four,
        "flip": pa.bool_(),
        "mix_index": pa.int32(),
        "mix_box": four,
        "mix_weight": pa.float32(),
        "patch_order": pa.list_(pa.int8()),
        "augment": pa.list_(augment),
        "logits": pa.list_(pa.float16(), 3),
    }
    metadata = {k.decode(): v.decode() for k, v in schema.metadata.items()}
    (teacher,) = in_tiny_results.artifacts["teacher"].values()
    assert metadata["encoding"] == "float16"
    assert (metadata["resolution"], metadata["mix"], metadata["mix_per"]) == (
        "8",
        "cutmix",
        "batch",
    )
    assert json.loads(metadata["teachers"]) == [teacher.name]
    numbers = {"n_images": "6", "n_classes": "3", "batch_size": "4"}
    assert numbers.items() <= metadata.items()
    distilled = table_of(in_tiny_results).upstream["distilled"]
    assert metadata["distilled"] == str(distilled.directory)
    assert 0 <= float(metadata["recognised"]) <= 100


class FirstPixel:
    """Teachers that predict of each image the class that its first pixel is."""

    def __init__(self, n_classes):
        self.n_classes, self.batches = n_classes, []

    def __call__(self, inputs):
        self.batches.append(inputs)
        # Channel 0 is normalised by mean 0.485, deviation 0.229.
        pixels = ((inputs[:, 0, 0, 0] * 0.229 + 0.485) * 255).round().long()
        return torch.nn.functional.one_hot(pixels, self.n_classes).float()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_recognised_is_the_share_of_images_that_are_predicted_correctly(batch_size):
    images = torch.zeros(8, 3, 4, 4, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])[:, None]
    ensemble = FirstPixel(5)
    hard = np.array([0, 1, 2, 3, 4, 1, 1, 1])
    assert soft_labels.recognised(ensemble, images, hard, batch_size) == 75.0
    assert [len(inputs) for inputs in ensemble.batches] == [
        len(p) for p in images.split(batch_size)
    ]
    assert soft_labels.recognised(ensemble, images, images[:, 0, 0, 0], batch_size) == 100.0
    assert soft_labels.recognised(ensemble, images, hard + 5, batch_size) == 0.0


def test_recognised_images_are_not_augmented(in_tiny_results):
    for artifact in in_tiny_results.artifacts["labels"].values():
        images, hard = images_of(artifact)
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        inputs = (images.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
        predicted = ensemble_of(artifact)(torch.from_numpy(inputs).float()).argmax(1)
        metadata = pq.read_schema(file_of(artifact)).metadata
        share = 100 * (predicted == hard).float().mean().item()
        assert float(metadata[b"recognised"]) == pytest.approx(share)


def test_an_epoch_has_every_row_once(in_tiny_results):
    table = pq.read_table(file_of(table_of(in_tiny_results)))
    assert table.num_rows == 2 * 6
    for epoch in range(2):
        rows = table[6 * epoch : 6 * epoch + 6].to_pylist()
        assert {row["epoch"] for row in rows} == {epoch}
        assert sorted(row["index"] for row in rows) == list(range(6))
        crops = np.array([row["crop"] for row in rows])
        assert (crops >= 0).all()
        assert (crops[:, :2] + crops[:, 2:] <= 1).all()
        assert {row["mix_index"] for row in rows} == set(range(6))
        for batch in (rows[:4], rows[4:]):
            assert {row["mix_index"] for row in batch} == {row["index"] for row in batch}


MIXES = [
    {"mix": "cutmix"},
    {"mix": "cutmix", "mix_per": "row"},
    {"mix": "mixup", "mix_alpha": 0.8},
    {"mix": "mixup", "mix_per": "row"},
    {"mix": "none"},
    {"mix": "cutmix", "randaugment": {"n": 2, "m": 9}},
    {"mix": "mixup", "mix_per": "row", "randaugment": {"n": 1, "m": 30}},
    {"mix": "cutmix", "jitter": 0.4, "lighting": 0.1},
    {"mix": "none", "siamese": {}},
]
AUGMENTS = {"randaugment", "jitter", "siamese"}
VIEW_FIELDS = (
    *("index", "box", "flip", "patch_order", "partner"),
    *("mix_box", "mix_weight", "op", "magnitude"),
)


@pytest.mark.parametrize("views", MIXES, ids=lambda views: "-".join(map(str, views.values())))
def test_stored_labels_are_those_of_the_teacher_online(made, tiny, planned, make, views):
    views = {"patches_per_side": 2, "flip": 0.5, **views}
    tiny["labels"]["soft"] |= {"views": views, "epochs_stored": 3}
    artifact = table_of(planned(tiny))
    make(artifact, batch_size=5)
    images, hard = images_of(artifact)
    settings = {"views": artifact.settings["views"], "batch_size": 4, "seed": 0}
    table = load_labels(file_of(artifact), CPU)
    stored = label_sources.StoredLabels(settings, images, hard, table)
    online = label_sources.OnlineLabels(settings, images, hard, ensemble_of(artifact))
    for epoch in range(3):
        recorded, logits = stored.epoch(epoch, seed=7)
        drawn, wanted = online.epoch(epoch, seed=8)
        assert (logits - wanted).abs().max() < 1e-3 * max(1, wanted.abs().max().item())
        assert (logits / 20).softmax(1).sub((wanted / 20).softmax(1)).abs().max() < 1e-3
        assert recorded.mix == drawn.mix
        for name in VIEW_FIELDS:
            assert torch.equal(getattr(recorded, name), getattr(drawn, name)), name
        assert (recorded.op.shape[1] > 0) == bool(views.keys() & AUGMENTS)
        assert torch.equal(render(images, recorded, 0, 6), render(images, drawn, 0, 6))


def test_labels_are_the_teachers_logits_of_each_view(in_tiny_results):
    artifact = table_of(in_tiny_results)
    images, _ = images_of(artifact)
    views, logits = load_labels(file_of(artifact)).epoch(1)
    logits = logits.numpy()
    net = teachers.load_teacher(Path(artifact.upstream["teachers"][0].file), CPU).net
    alone = torch.cat([net(image[None]) for image in render(images, views)]).numpy()
    assert np.abs(logits - alone).max() < 1e-2
    assert np.abs(logits).max() > 0.05


def test_other_artifacts_are_refused_as_tables(in_tiny_results):
    path = file_of(table_of(in_tiny_results).upstream["distilled"])
    with pytest.raises(store.WrongType, match="must be a soft label table") as caught:
        load_labels(path)
    assert caught.value.path == path


def test_a_longer_table_extends_a_shorter_one(made, make_labels):
    short = make_labels(epochs_stored=2)
    long = make_labels(epochs_stored=5)
    assert short != long
    short, long = pq.read_table(short), pq.read_table(long)
    assert (short.num_rows, long.num_rows) == (2 * 6, 5 * 6)
    assert long[: 2 * 6].equals(short)


def test_a_table_starts_over_after_its_last_epoch(in_tiny_results):
    table = load_labels(file_of(table_of(in_tiny_results)))
    for epoch, again in [(0, 2), (1, 3), (1, 101)]:
        views, logits = table.epoch(epoch)
        same, same_logits = table.epoch(again)
        np.testing.assert_array_equal(logits, same_logits)
        np.testing.assert_array_equal(views.index, same.index)
        np.testing.assert_array_equal(views.mix_box, same.mix_box)
    assert table.epoch(0)[0].index.tolist() != table.epoch(1)[0].index.tolist()


def test_labels_do_not_depend_on_the_batch_of_forward_passes(made, make):
    artifact = table_of(made)
    reference = pq.read_table(file_of(artifact))
    file_of(artifact).unlink()
    make(artifact, batch_size=1)
    again = pq.read_table(file_of(artifact))
    assert again.drop_columns("logits").equals(reference.drop_columns("logits"))
    found, wanted = decode_logits(again, 3), decode_logits(reference, 3)
    assert np.abs(found - wanted).max() < 1e-2


@pytest.mark.parametrize("stops", [[1], [0, 3], [3, 4, 5]])
def test_an_interrupted_table_has_the_same_bytes(made, tiny, planned, make, monkeypatch, stops):
    tiny["labels"]["soft"]["epochs_stored"] = 6
    artifact = table_of(planned(tiny))
    make(artifact)
    path, drawn = file_of(artifact), []
    undisturbed = path.read_bytes()
    path.unlink()

    for stop in [*stops, None]:

        def interrupted(settings, seed, epoch, *rest, stop=stop):
            drawn.append(epoch)
            if epoch == stop:
                raise KeyboardInterrupt
            return draw(settings, seed, epoch, *rest)

        monkeypatch.setattr(soft_labels, "draw", interrupted)
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                make(artifact, checkpoint_seconds=0.0)
            assert not path.exists()
    make(artifact)
    # Every epoch once, and those where it stopped once more.
    assert drawn == sorted([*range(6), *stops])
    assert path.read_bytes() == undisturbed


def test_labels_are_the_mean_logits_of_two_teachers(made, tiny, planned, make):
    tiny["teachers"]["u"] = {**tiny["teachers"]["t"], "width": 6, "seed": 3}
    tiny["labels"]["soft"]["teachers"] = ["t", "u"]
    artifact = table_of(planned(tiny))
    for teacher in artifact.upstream["teachers"]:
        make(teacher)
    make(artifact)
    views, logits = load_labels(file_of(artifact)).epoch(0)
    logits = logits.numpy()
    images = render(images_of(artifact)[0], views, 0, 6)
    nets = [teachers.load_teacher(Path(t.file), CPU).net for t in artifact.upstream["teachers"]]
    assert len(nets) == 2
    outputs = [net(images).numpy() for net in nets]
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    assert np.abs(logits - (outputs[0] + outputs[1]) / 2).max() < 1e-2


def test_a_teacher_of_more_classes_is_restricted(monkeypatch):
    known = ["hen", "cat", "pig", "dog"]
    teacher = teachers.Teacher(torch.nn.Identity(), known, 8)
    monkeypatch.setattr(teacher_ensemble, "load_teacher", lambda path, device: teacher)
    ensemble = TeacherEnsemble(["t"], ["dog", "hen"], CPU)
    outputs = ensemble(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    assert outputs.tolist() == [[4.0, 1.0], [8.0, 5.0]]


def test_tables_have_only_the_classes_of_the_dataset(made, tiny, planned, make_all):
    tiny["datasets"]["two"] = {**tiny["datasets"]["three"], "classes": ["2", "0"]}
    tiny["teachers"]["t"]["dataset"] = "three"
    tiny["experiments"]["x"] |= {"dataset": "two", "ipc": [2], "protocols": ["soft"]}
    wanted = planned(tiny)
    wanted.families["students"].clear()
    make_all(wanted)
    artifact = table_of(wanted)
    views, logits = load_labels(file_of(artifact)).epoch(0)
    logits = logits.numpy()
    pixels, hard = images_of(artifact)
    teacher = teachers.load_teacher(Path(artifact.upstream["teachers"][0].file), CPU)
    assert teacher.class_ids == ["0", "1", "2"]
    outputs = teacher.net(render(pixels, views)).numpy()
    assert np.abs(logits - outputs[:, [2, 0]]).max() < 1e-2
    assert hard.tolist() == [0, 0, 1, 1]


def test_int8_tables_decode_to_within_half_a_step(made, make_labels):
    reference = load_labels(file_of(table_of(made))).epoch(1)[1].numpy()
    path = make_labels(encoding="int8")
    schema = pq.read_schema(path)
    assert schema.field("logits").type == pa.binary(3)
    assert schema.field("logit_scale").type == pa.float32()
    assert schema.metadata[b"encoding"] == b"int8"
    found = load_labels(path).epoch(1)[1].numpy()
    assert np.abs(found - reference).max() <= np.abs(reference).max() / 254 + 2e-3
    assert (found != reference).any()


def test_top_k_tables_decode_to_the_largest_logits_and_the_mean_of_the_others(made, make_labels):
    reference = load_labels(file_of(table_of(made))).epoch(1)[1].numpy()
    path = make_labels(encoding="top1")
    schema = pq.read_schema(path)
    assert schema.field("logit_classes").type == pa.list_(pa.int16(), 1)
    assert schema.field("logit_rest").type == pa.float16()
    found = load_labels(path).epoch(1)[1].numpy()
    for row, kept in zip(reference, found, strict=True):
        first, *rest = np.argsort(-row)
        assert kept[first] == row[first]
        assert kept[rest] == pytest.approx([row[rest].mean()] * 2, abs=2e-3)
