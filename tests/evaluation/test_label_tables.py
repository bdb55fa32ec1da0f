import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from stillhouse.artifacts import formats, store
from stillhouse.augmentation.views import draw
from stillhouse.errors import StillhouseError
from stillhouse.evaluation import label_sources, label_tables
from stillhouse.evaluation.label_tables import load_labels
from stillhouse.planning.work import VIEW_BYTES, logit_bytes

PLAIN = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
CUTMIX = {**PLAIN, "mix": "cutmix", "mix_alpha": 1.0, "mix_per": "batch"}


@pytest.fixture
def make_table(made, tiny, planned, make):
    """Return a function that makes the labels of RDED's images with other settings."""

    def make_table(**changes):
        tiny["labels"]["soft"] |= changes
        tiny["experiments"]["x"] |= {"methods": ["rded"], "ipc": [2], "protocols": ["soft"]}
        (artifact,) = planned(tiny).artifacts["labels"].values()
        make(artifact)
        return Path(artifact.file)

    return make_table


def write_table(path, views=CUTMIX, n_images=10, n_classes=10, n_epochs=100, **texts):
    """Write a label table of random logits of some epochs, without its artifact."""
    texts = {"encoding": "float16", "mix": views["mix"], **texts}
    rng = np.random.default_rng(0)
    tables = [
        label_tables.to_table(
            epoch,
            draw(views, 0, epoch, n_images, 16, 10),
            rng.normal(0, 4, (n_images, n_classes)).astype(np.float32),
            texts["encoding"],
            16,
        )
        for epoch in range(n_epochs)
    ]
    numbers = {"n_images": n_images, "n_classes": n_classes, "resolution": 16, "batch_size": 10}
    metadata = {name: str(number) for name, number in numbers.items()} | texts
    schema = tables[0].schema.with_metadata(metadata)
    size = label_tables.epochs_per_group(n_images, n_classes)
    groups = label_tables.grouped(tables, size)
    content = formats.RowGroups(schema, groups, label_tables.PARQUET)
    formats.write_temporary(path.parent, path.name, content).rename(path)
    return pa.concat_tables(tables)


def test_a_small_table_has_few_bytes_beyond_its_logits(tmp_path):
    path = tmp_path / "labels.parquet"
    content = write_table(path)
    logits = 2 * 10 * content.num_rows
    assert path.stat().st_size < 1.5 * logits
    assert pq.read_table(path).equals(content)


@pytest.mark.parametrize("encoding", ["float16", "int8", "int4", "int2", "top3", "top1"])
def test_bytes_are_estimated_within_half(tmp_path, encoding):
    path = tmp_path / "labels.parquet"
    content = write_table(path, n_images=100, encoding=encoding)
    estimated = len(content) * (VIEW_BYTES + logit_bytes(encoding, 10))
    assert path.stat().st_size == pytest.approx(estimated, rel=0.5)


@pytest.mark.parametrize(
    ("n_images", "n_classes", "n_epochs"),
    [(10, 10, 4993), (100, 10, 499), (1000, 100, 15), (1000, 1000, 2), (10_000, 1000, 1)],
)
def test_row_groups_are_of_four_megabytes_or_one_epoch(n_images, n_classes, n_epochs):
    assert label_tables.epochs_per_group(n_images, n_classes) == n_epochs


def test_groups_are_complete_epochs_that_are_read_alike(tmp_path, monkeypatch):
    one = tmp_path / "one.parquet"
    write_table(one, n_epochs=5)
    monkeypatch.setattr(label_tables, "GROUP_BYTES", 2 * 10 * (64 + 20))
    several = tmp_path / "several.parquet"
    write_table(several, n_epochs=5)
    stored = pq.ParquetFile(several).metadata
    assert [stored.row_group(i).num_rows for i in range(stored.num_row_groups)] == [20, 20, 10]
    assert pq.read_table(one).equals(pq.read_table(several))
    one, several = load_labels(one), load_labels(several)
    assert len(one) == len(several) == 5
    for epoch in (0, 3, 4, 1, 7):
        (views, logits), (same, same_logits) = one.epoch(epoch), several.epoch(epoch)
        assert torch.equal(logits, same_logits)
        assert views.checksum() == same.checksum()


VIEWS = {
    "crop and flip": {"flip": 0.5, "mix": "none"},
    "pad": {"pad": 2, "flip": 0.5, "mix": "none"},
    "cutmix per batch": {"mix": "cutmix"},
    "cutmix per row": {"mix": "cutmix", "mix_per": "row", "mix_alpha": 0.7},
    "mixup per batch": {"mix": "mixup", "mix_alpha": 0.8},
    "mixup per row": {"mix": "mixup", "mix_per": "row"},
    "patches": {"patches_per_side": 2, "mix": "cutmix"},
    "randaugment": {"mix": "cutmix", "randaugment": {"n": 2, "m": 9}},
    "colours": {"mix": "cutmix", "jitter": 0.4, "lighting": 0.1},
    "siamese": {"mix": "none", "siamese": {}},
    "siamese per batch": {"mix": "none", "siamese": {"per": "batch"}},
}


@pytest.mark.parametrize("kind", VIEWS)
def test_views_of_a_seed_are_those_that_would_be_stored(make_table, kind):
    stored = make_table(views=VIEWS[kind], seed=5, epochs_stored=3)
    seeded = make_table(views=VIEWS[kind], seed=5, epochs_stored=3, views_stored=False)
    assert pq.read_schema(seeded).names == ["epoch", "logits"]
    stored, seeded = load_labels(stored), load_labels(seeded)
    checksums = set()
    for epoch in range(3):
        (views, logits), (drawn, same_logits) = stored.epoch(epoch), seeded.epoch(epoch)
        assert torch.equal(logits, same_logits)
        assert views.checksum() == drawn.checksum()
        checksums.add(views.checksum())
    assert len(checksums) == 3


@pytest.mark.parametrize("key", ["view_generator", "views_sha256"])
def test_views_of_another_generator_are_refused_in_one_line(make_table, tmp_path, key):
    table = pq.read_table(make_table(views_stored=False))
    metadata = {**table.schema.metadata, key.encode(): b"2"}
    path = tmp_path / "copied.parquet"
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(StillhouseError, match=rf"copied.parquet: {key}: .*; use ") as error:
        load_labels(path)
    assert "\n" not in str(error.value)


def test_a_table_opens_where_it_was_copied_to(in_tiny_results, tmp_path):
    path = Path(next(iter(in_tiny_results.artifacts["labels"].values())).file)
    copied = shutil.copy(path, tmp_path / "mine.parquet")
    assert torch.equal(load_labels(copied).epoch(1)[1], load_labels(path).epoch(1)[1])
    beside = shutil.copy(path, tmp_path)
    shutil.copy(path.with_name(store.SPEC), tmp_path)
    assert torch.equal(load_labels(beside).epoch(1)[1], load_labels(path).epoch(1)[1])
    table = pq.read_table(beside)
    pq.write_table(table.slice(6), beside)
    with pytest.raises(store.Damaged, match="copy both again"):
        load_labels(beside)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.replace_schema_metadata(None),
        lambda table: table[:-1],
        lambda table: table[:0],
        lambda table: table.replace_schema_metadata({**table.schema.metadata, b"n_images": b"0"}),
        lambda table: table.replace_schema_metadata({**table.schema.metadata, b"views": b"{"}),
        lambda table: table.replace_schema_metadata({**table.schema.metadata, b"encoding": b"x"}),
        lambda table: table.drop_columns("flip"),
        lambda table: table.drop_columns("logits"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, change):
    path = tmp_path / "labels.parquet"
    write_table(path, n_epochs=2)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(store.WrongType, match=r"labels\.parquet: ") as error:
        load_labels(path)
    assert "\n" not in str(error.value)


def test_epochs_in_random_order_are_drawn_from_all_with_the_students_seed(tmp_path):
    path = tmp_path / "labels.parquet"
    write_table(path, n_epochs=10)
    images = torch.zeros(10, 3, 16, 16, dtype=torch.uint8)
    wanted = [load_labels(path).epoch(epoch)[1] for epoch in range(10)]

    def taken(seed, **settings):
        labels = label_sources.StoredLabels(settings, images, None, load_labels(path))
        logits = [labels.epoch(epoch, seed)[1] for epoch in range(100)]
        return [next(i for i in range(10) if torch.equal(wanted[i], one)) for one in logits]

    assert taken(0) == [*range(10)] * 10
    drawn = taken(0, epoch_order="random")
    assert drawn == taken(0, epoch_order="random") != taken(1, epoch_order="random")
    counts = np.bincount(drawn, minlength=10)
    assert (counts > 0).all()
    assert counts.max() < 30
    assert drawn[:10] != sorted(drawn[:10])
