import copy
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.artifacts import formats, jobs, store
from stillhouse.augmentation.views import draw, render
from stillhouse.data.distilled_set import read_set
from stillhouse.evaluation import label_sources, soft_labels, teacher_ensemble
from stillhouse.evaluation.soft_labels import SoftLabelTable, decode_logits, encode_logits
from stillhouse.evaluation.teacher_ensemble import TeacherEnsemble
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


def files_of(artifact):
    upstream = artifact.upstream.values()
    return {
        "images": [p.directory / "images.parquet" for p in upstream if p.stage == "distilled"],
        "teachers": [p.directory / "model.safetensors" for p in upstream if p.stage == "teacher"],
    }


@pytest.fixture
def make_labels(make, planned, tiny):
    """Return a function that makes the labels of the tiny config with other settings."""

    def make_labels(**changes):
        config = copy.deepcopy(tiny)
        config["labels"]["soft"] |= changes
        return make(table_of(planned(config))) / "labels.parquet"

    return make_labels


def images_of(artifact):
    (path,) = files_of(artifact)["images"]
    pixels, hard = read_set(store.read_table(path))
    return torch.from_numpy(pixels), torch.from_numpy(np.array(hard))


def test_columns_are_as_promised(in_tiny_results):
    path = table_of(in_tiny_results).directory / "labels.parquet"
    schema = pq.read_schema(path)
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
    kept = {k.decode(): v.decode() for k, v in schema.metadata.items()}
    (teacher,) = in_tiny_results.artifacts["teacher"].values()
    assert kept["encoding"] == "float16"
    assert (kept["resolution"], kept["mix"], kept["mix_per"]) == ("8", "cutmix", "batch")
    assert json.loads(kept["teachers"]) == [teacher.name]
    assert 0 <= float(kept["recognised"]) <= 100


class Saying:
    """Judges that say of each image the class that its first pixel is."""

    def __init__(self, n_classes):
        self.n_classes, self.seen = n_classes, []

    def __call__(self, inputs):
        self.seen.append(inputs)
        # Back from what the networks see: channel 0 has mean 0.485, deviation 0.229.
        said = ((inputs[:, 0, 0, 0] * 0.229 + 0.485) * 255).round().long()
        return torch.nn.functional.one_hot(said, self.n_classes).float()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_recognised_is_the_share_of_images_whose_class_is_named_first(batch_size):
    images = torch.zeros(8, 3, 4, 4, dtype=torch.uint8)
    images[:, :, 0, 0] = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])[:, None]
    ensemble = Saying(5)
    hard = np.array([0, 1, 2, 3, 4, 1, 1, 1])
    assert soft_labels.recognised(ensemble, images, hard, batch_size) == 75.0
    assert [len(inputs) for inputs in ensemble.seen] == [len(p) for p in images.split(batch_size)]
    assert soft_labels.recognised(ensemble, images, images[:, 0, 0, 0], batch_size) == 100.0
    assert soft_labels.recognised(ensemble, images, hard + 5, batch_size) == 0.0


def test_whole_images_are_judged_and_not_their_views(in_tiny_results):
    for artifact in in_tiny_results.artifacts["labels"].values():
        images, hard = images_of(artifact)
        ensemble = TeacherEnsemble(files_of(artifact)["teachers"], ["0", "1", "2"], CPU)
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        inputs = (images.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
        said = ensemble(torch.from_numpy(inputs).float()).argmax(1)
        wanted = 100 * (said == hard).float().mean().item()
        kept = pq.read_schema(artifact.directory / "labels.parquet").metadata
        assert float(kept[b"recognised"]) == pytest.approx(wanted)


def test_a_row_group_holds_an_epoch(in_tiny_results):
    kept = pq.ParquetFile(table_of(in_tiny_results).directory / "labels.parquet")
    assert kept.num_row_groups == 2
    for epoch in range(2):
        rows = kept.read_row_group(epoch).to_pylist()
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


@pytest.mark.parametrize("views", MIXES, ids=lambda views: "-".join(map(str, views.values())))
def test_a_stored_table_is_the_teacher_in_the_loop(made, tiny, planned, make, views):
    views = {"patches_per_side": 2, "flip": 0.5, **views}
    tiny["labels"]["soft"] |= {"views": views, "epochs_stored": 3}
    artifact = table_of(planned(tiny))
    path = make(artifact, batch_size=5) / "labels.parquet"
    images, hard = images_of(artifact)
    settings = {"views": artifact.settings["views"], "batch_size": 4, "seed": 0}
    stored = label_sources.StoredLabels(settings, images, hard, SoftLabelTable(path, 3))
    ensemble = TeacherEnsemble(files_of(artifact)["teachers"], ["0", "1", "2"], CPU)
    online = label_sources.OnlineLabels(settings, images, hard, ensemble)
    for epoch in range(3):
        told, logits = stored.epoch(epoch, seed=7)
        drawn, wanted = online.epoch(epoch, seed=8)
        assert (logits - wanted).abs().max() < 1e-3 * max(1, wanted.abs().max().item())
        assert (logits / 20).softmax(1).sub((wanted / 20).softmax(1)).abs().max() < 1e-3
        assert told.mix == drawn.mix
        for name in (
            "index",
            "box",
            "flip",
            "patch_order",
            "partner",
            "mix_box",
            "mix_weight",
            "op",
            "magnitude",
        ):
            assert torch.equal(getattr(told, name), getattr(drawn, name)), name
        assert (told.op.shape[1] > 0) == bool(views.keys() & AUGMENTS)
        assert torch.equal(render(images, told, 0, 6), render(images, drawn, 0, 6))


def test_labels_are_what_a_teacher_says_of_each_view(in_tiny_results):
    artifact = table_of(in_tiny_results)
    images, _ = images_of(artifact)
    views, logits = SoftLabelTable(artifact.directory / "labels.parquet", 3).epoch(1)
    net = teachers.load_teacher(files_of(artifact)["teachers"][0], CPU).net
    seen = render(images, views.to(CPU), 0, 6)
    alone = torch.cat([net(image[None]) for image in seen]).numpy()
    assert np.abs(logits - alone).max() < 1e-2
    assert np.abs(logits).max() > 0.05


def test_a_longer_table_extends_a_shorter_one(made, make_labels):
    short = make_labels(epochs_stored=2)
    long = make_labels(epochs_stored=5)
    assert short != long
    short, long = pq.ParquetFile(short), pq.ParquetFile(long)
    assert long.num_row_groups == 5
    for epoch in range(2):
        assert long.read_row_group(epoch).equals(short.read_row_group(epoch))


def test_epochs_come_round_again(in_tiny_results):
    table = SoftLabelTable(table_of(in_tiny_results).directory / "labels.parquet", 3)
    for epoch, again in [(0, 2), (1, 3), (1, 101)]:
        views, logits = table.epoch(epoch)
        same, same_logits = table.epoch(again)
        np.testing.assert_array_equal(logits, same_logits)
        np.testing.assert_array_equal(views.index, same.index)
        np.testing.assert_array_equal(views.mix_box, same.mix_box)
    assert table.epoch(0)[0].index.tolist() != table.epoch(1)[0].index.tolist()


def test_what_does_not_shape_labels_does_not_change_them(made, make):
    artifact = table_of(made)
    reference = pq.read_table(artifact.directory / "labels.parquet")
    (artifact.directory / "labels.parquet").unlink()
    again = pq.read_table(make(artifact, batch_size=1) / "labels.parquet")
    assert again.drop_columns("logits").equals(reference.drop_columns("logits"))
    found, wanted = decode_logits(again, 3), decode_logits(reference, 3)
    assert np.abs(found - wanted).max() < 1e-2


@pytest.mark.parametrize("stops", [[1], [0, 3], [3, 4, 5]])
def test_an_interrupted_table_has_the_same_bytes(made, tiny, planned, make, monkeypatch, stops):
    tiny["labels"]["soft"]["epochs_stored"] = 6
    artifact = table_of(planned(tiny))
    path = make(artifact) / "labels.parquet"
    whole = path.read_bytes()
    path.unlink()
    drawn = []

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
    assert path.read_bytes() == whole


class Epochs:
    """Tables of one number, and which of them were asked for."""

    schema = pa.schema([("epoch", pa.int32())])

    def __init__(self, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def __call__(self, epoch):
        if epoch == self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(epoch)
        return pa.table({"epoch": [epoch]}, schema=self.schema)


def numbers(tables):
    return [table["epoch"].to_pylist()[0] for table in tables]


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_what_is_in_side_files_is_not_made_again(tmp_path, seconds):
    context = jobs.Context(work=tmp_path / "work", checkpoint_seconds=seconds)
    first = Epochs(fails_at=3)
    with pytest.raises(KeyboardInterrupt):
        numbers(soft_labels.resumed_epochs(first, 5, first.schema, context))
    second = Epochs()
    found = numbers(soft_labels.resumed_epochs(second, 5, second.schema, context))
    assert found == [0, 1, 2, 3, 4]
    assert second.asked == ([3, 4] if seconds == 0 else [0, 1, 2, 3, 4])


def test_two_teachers_are_averaged(made, tiny, planned, make):
    tiny["teachers"]["u"] = {**tiny["teachers"]["t"], "width": 6, "seed": 3}
    tiny["labels"]["soft"]["teachers"] = ["t", "u"]
    artifact = table_of(planned(tiny))
    (other,) = (p for p in artifact.upstream.values() if p.settings.get("width") == 6)
    make(other)
    views, logits = SoftLabelTable(make(artifact) / "labels.parquet", 3).epoch(0)
    pixels, _ = images_of(artifact)
    seen = render(pixels, views.to(CPU), 0, 6)
    nets = [teachers.load_teacher(path, CPU).net for path in files_of(artifact)["teachers"]]
    assert len(nets) == 2
    outputs = [net(seen).numpy() for net in nets]
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    assert np.abs(logits - (outputs[0] + outputs[1]) / 2).max() < 1e-2


def test_a_teacher_of_more_classes_is_restricted(monkeypatch):
    known = ["hen", "cat", "pig", "dog"]
    net = lambda inputs: inputs  # noqa: E731
    monkeypatch.setattr(
        teacher_ensemble, "load_teacher", lambda path, device: teachers.Teacher(net, known, 8)
    )
    ensemble = TeacherEnsemble(["t"], ["dog", "hen"], CPU)
    outputs = ensemble(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    assert outputs.tolist() == [[4.0, 1.0], [8.0, 5.0]]


def test_a_table_of_a_teacher_of_more_classes(made, tiny, planned, make_all):
    tiny["datasets"]["two"] = {**tiny["datasets"]["three"], "classes": ["2", "0"]}
    tiny["teachers"]["t"]["dataset"] = "three"
    tiny["experiments"]["x"] |= {"dataset": "two", "ipc": [2], "protocols": ["soft"]}
    wanted = planned(tiny)
    wanted.families["students"].clear()
    make_all(wanted)
    artifact = table_of(wanted)
    views, logits = SoftLabelTable(artifact.directory / "labels.parquet", 2).epoch(0)
    pixels, hard = images_of(artifact)
    teacher = teachers.load_teacher(files_of(artifact)["teachers"][0], CPU)
    net, known = teacher.net, teacher.class_ids
    assert known == ["0", "1", "2"]
    outputs = net(render(pixels, views.to(CPU), 0, 4)).numpy()
    assert np.abs(logits - outputs[:, [2, 0]]).max() < 1e-2
    assert hard.tolist() == [0, 0, 1, 1]


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_float16_keeps_logits_to_its_precision(n_classes, seed):
    logits = np.random.default_rng(seed).normal(0, 8, (5, n_classes)).astype(np.float32)
    found = decode_logits(pa.table(encode_logits(logits, "float16")), n_classes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, logits.astype(np.float16).astype(np.float32))


LOGITS = st.floats(-1e4, 1e4, width=32)


@given(st.lists(st.lists(LOGITS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_int8_is_off_by_half_a_step_at_most(rows):
    logits = np.array(rows, np.float32)
    encoded = pa.table(encode_logits(logits, "int8"))
    assert encoded["logits"].type == pa.binary(3)
    found = decode_logits(encoded, 3)
    assert found.dtype == np.float32
    for row, kept, scale in zip(logits, found, encoded["logit_scale"].to_pylist(), strict=True):
        assert scale == pytest.approx(np.abs(row).max() / 127, rel=1e-6, abs=1e-40)
        assert np.abs(kept - row).max() <= scale / 2 * (1 + 1e-4) + 1e-40
        # The largest magnitude is a whole number of steps: it is kept.
        assert np.abs(kept).max() == pytest.approx(np.abs(row).max(), rel=1e-5, abs=1e-40)


def test_int8_by_hand():
    encoded = encode_logits(np.array([[12.7, -0.04, 0.26], [0, 0, 0]], np.float32), "int8")
    assert encoded["logits"].to_pylist() == [b"\x7f\x00\x03", b"\x00\x00\x00"]
    assert encoded["logit_scale"].tolist() == pytest.approx([0.1, 0])
    encoded = encode_logits(np.array([[-12.7, -0.04, -0.26]], np.float32), "int8")
    assert encoded["logits"].to_pylist() == [b"\x81\x00\xfd"]


def test_a_table_of_int8(made, make_labels):
    whole = SoftLabelTable(table_of(made).directory / "labels.parquet", 3).epoch(1)[1]
    path = make_labels(encoding="int8")
    schema = pq.read_schema(path)
    assert schema.field("logits").type == pa.binary(3)
    assert schema.field("logit_scale").type == pa.float32()
    assert schema.metadata[b"encoding"] == b"int8"
    found = SoftLabelTable(path, 3).epoch(1)[1]
    assert np.abs(found - whole).max() <= np.abs(whole).max() / 254 + 2e-3
    assert (found != whole).any()


def test_int8_takes_half_the_bytes(tmp_path):
    settings = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
    views = draw(settings, 0, 0, 50, 8, 10)
    logits = np.random.default_rng(0).normal(0, 8, (50, 1000)).astype(np.float32)
    sizes = {}
    for encoding in ("float16", "int8"):
        table = soft_labels.to_table(0, views, logits, {"encoding": encoding}, 8)
        formats.save_table(tmp_path / f"{encoding}.parquet", table.schema, [table])
        sizes[encoding] = (tmp_path / f"{encoding}.parquet").stat().st_size
    assert sizes["int8"] < 0.6 * sizes["float16"]


@given(st.data(), st.integers(2, 9), st.integers(0, 2**32))
def test_top_k_keeps_the_largest_and_the_mean_of_the_rest(data, n_classes, seed):
    top = data.draw(st.integers(1, n_classes - 1))
    logits = np.random.default_rng(seed).normal(0, 8, (5, n_classes)).astype(np.float32)
    encoded = pa.table(encode_logits(logits, f"top{top}"))
    assert encoded["logits"].type == pa.list_(pa.float16(), top)
    found = decode_logits(encoded, n_classes)
    for row, kept in zip(logits, found, strict=True):
        largest = sorted(range(n_classes), key=lambda c: -row[c])[:top]
        rest = [c for c in range(n_classes) if c not in largest]
        assert kept[largest].tolist() == row[largest].astype(np.float16).tolist()
        assert kept[rest] == pytest.approx([row[rest].mean()] * len(rest), rel=2e-3, abs=2e-3)


def test_a_table_of_top_k(made, make_labels):
    whole = SoftLabelTable(table_of(made).directory / "labels.parquet", 3).epoch(1)[1]
    path = make_labels(encoding="top1")
    schema = pq.read_schema(path)
    assert schema.field("logit_classes").type == pa.list_(pa.int16(), 1)
    assert schema.field("logit_rest").type == pa.float16()
    found = SoftLabelTable(path, 3).epoch(1)[1]
    for row, kept in zip(whole, found, strict=True):
        first, *rest = np.argsort(-row)
        assert kept[first] == row[first]
        assert kept[rest] == pytest.approx([row[rest].mean()] * 2, abs=2e-3)


def test_rows_that_are_not_mixed_have_no_partner():
    settings = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
    views = draw(settings, 0, 0, 3, 8, 2)
    table = soft_labels.to_table(4, views, np.zeros((3, 2), np.float32), {"encoding": "float16"}, 8)
    rows = table.to_pylist()
    assert [row["mix_index"] for row in rows] == [-1] * 3
    assert [row["mix_weight"] for row in rows] == [1.0] * 3
    assert all(row["patch_order"] == row["augment"] == [] for row in rows)
    assert {row["epoch"] for row in rows} == {4}


def test_operations_are_stored_by_name():
    settings = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
    views = draw({**settings, "randaugment": {"n": 2, "m": 9}}, 0, 0, 40, 8, 2)
    table = soft_labels.to_table(
        0, views, np.zeros((40, 2), np.float32), {"encoding": "float16"}, 8
    )
    rows = table["augment"].to_pylist()
    assert [len(row) for row in rows] == [2] * 40
    found = {(entry["op"], abs(entry["magnitude"])) for row in rows for entry in row}
    assert ("Posterize", 7) in found
    assert ("TranslateX", 1) in found
    assert len({op for op, _ in found}) == 14


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: flipped(data, 30)])
def test_a_damaged_side_file_is_made_again(tmp_path, damage):
    schema = pa.schema([("epoch", pa.int32())])
    made = []

    def epoch(number):
        made.append(number)
        return pa.table({"epoch": [number]}, schema=schema)

    context = jobs.Context(work=tmp_path, checkpoint_seconds=0)
    first = pa.concat_tables(soft_labels.resumed_epochs(epoch, 4, schema, context))
    parts = sorted(tmp_path.glob("part-*"))
    parts[2].write_bytes(damage(parts[2].read_bytes()))
    made.clear()
    assert pa.concat_tables(soft_labels.resumed_epochs(epoch, 4, schema, context)).equals(first)
    assert made == [2, 3]
