import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.artifacts import formats
from stillhouse.augmentation.views import draw
from stillhouse.errors import StillhouseError
from stillhouse.evaluation.label_tables import to_table
from stillhouse.evaluation.logit_encodings import decode_logits, encode_logits


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_float16_stores_logits_to_its_precision(n_classes, seed):
    logits = np.random.default_rng(seed).normal(0, 8, (5, n_classes)).astype(np.float32)
    found = decode_logits(pa.table(encode_logits(logits, "float16")), n_classes)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, logits.astype(np.float16).astype(np.float32))


@given(st.floats(-1e9, 1e9, width=32), st.sampled_from(["float16", "int8", "top1"]))
def test_logits_beyond_an_encoding_are_an_error_of_one_line(largest, encoding):
    logits = np.array([[1, largest, -2], [0, 3, 1]], np.float32)
    if encoding == "int8" or abs(largest) <= 65504:
        assert np.isfinite(decode_logits(pa.table(encode_logits(logits, encoding)), 3)).all()
        return
    with pytest.raises(StillhouseError, match=rf"conflicts with {encoding}, .*; set int8") as error:
        encode_logits(logits, encoding)
    assert "\n" not in str(error.value)


LOGITS = st.floats(-1e4, 1e4, width=32)


@given(
    st.lists(st.lists(LOGITS, min_size=3, max_size=3), min_size=1, max_size=5), st.integers(2, 8)
)
def test_errors_of_integers_are_at_most_half_a_step(rows, bits):
    logits = np.array(rows, np.float32)
    encoded = pa.table(encode_logits(logits, f"int{bits}"))
    largest = 2 ** (bits - 1) - 1
    assert encoded["logits"].type == pa.binary(3)
    found = decode_logits(encoded, 3)
    assert found.dtype == np.float32
    for row, decoded, scale in zip(logits, found, encoded["logit_scale"].to_pylist(), strict=True):
        assert scale == pytest.approx(np.abs(row).max() / largest, rel=1e-6, abs=1e-40)
        assert np.abs(decoded - row).max() <= scale / 2 * (1 + 1e-4) + 1e-40
        # The largest magnitude is an integer number of steps: it is exact.
        assert np.abs(decoded).max() == pytest.approx(np.abs(row).max(), rel=1e-5, abs=1e-40)


def test_int8_equals_a_computation_by_hand():
    encoded = encode_logits(np.array([[12.7, -0.04, 0.26], [0, 0, 0]], np.float32), "int8")
    assert encoded["logits"].to_pylist() == [b"\x7f\x00\x03", b"\x00\x00\x00"]
    assert encoded["logit_scale"].tolist() == pytest.approx([0.1, 0])
    encoded = encode_logits(np.array([[-12.7, -0.04, -0.26]], np.float32), "int8")
    assert encoded["logits"].to_pylist() == [b"\x81\x00\xfd"]


def test_fewer_bits_have_fewer_values_and_fewer_bytes(tmp_path):
    settings = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
    views = draw(settings, 0, 0, 500, 8, 10)
    logits = np.random.default_rng(0).normal(0, 8, (500, 100)).astype(np.float32)
    sizes = []
    for bits in range(8, 1, -1):
        table = to_table(0, views, logits, f"int{bits}", 8)
        values = np.unique(np.frombuffer(b"".join(table["logits"].to_pylist()), np.int8))
        most = 2 ** (bits - 1) - 1
        assert (values.min(), values.max()) == (-most, most)
        formats.save_table(tmp_path / "labels.parquet", table.schema, [table])
        sizes.append((tmp_path / "labels.parquet").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    # Compressed to the entropy of the values, not to a byte each.
    assert sizes[-1] < 0.35 * sizes[0]


def test_int8_takes_half_the_bytes(tmp_path):
    settings = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
    views = draw(settings, 0, 0, 50, 8, 10)
    logits = np.random.default_rng(0).normal(0, 8, (50, 1000)).astype(np.float32)
    sizes = {}
    for encoding in ("float16", "int8"):
        table = to_table(0, views, logits, encoding, 8)
        formats.save_table(tmp_path / f"{encoding}.parquet", table.schema, [table])
        sizes[encoding] = (tmp_path / f"{encoding}.parquet").stat().st_size
    assert sizes["int8"] < 0.6 * sizes["float16"]


@given(st.data(), st.integers(2, 9), st.integers(0, 2**32))
def test_top_k_stores_the_largest_and_the_mean_of_the_rest(data, n_classes, seed):
    top = data.draw(st.integers(1, n_classes - 1))
    logits = np.random.default_rng(seed).normal(0, 8, (5, n_classes)).astype(np.float32)
    encoded = pa.table(encode_logits(logits, f"top{top}"))
    assert encoded["logits"].type == pa.list_(pa.float16(), top)
    found = decode_logits(encoded, n_classes)
    for row, decoded in zip(logits, found, strict=True):
        largest = sorted(range(n_classes), key=lambda c: -row[c])[:top]
        rest = [c for c in range(n_classes) if c not in largest]
        assert decoded[largest].tolist() == row[largest].astype(np.float16).tolist()
        assert decoded[rest] == pytest.approx([row[rest].mean()] * len(rest), rel=2e-3, abs=2e-3)


def test_rows_that_are_not_mixed_have_no_partner():
    settings = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
    views = draw(settings, 0, 0, 3, 8, 2)
    table = to_table(4, views, np.zeros((3, 2), np.float32), "float16", 8)
    rows = table.to_pylist()
    assert [row["mix_index"] for row in rows] == [-1] * 3
    assert [row["mix_weight"] for row in rows] == [1.0] * 3
    assert all(row["patch_order"] == row["augment"] == [] for row in rows)
    assert {row["epoch"] for row in rows} == {4}


def test_operations_are_stored_by_name():
    settings = {"crop": [0.5, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
    views = draw({**settings, "randaugment": {"n": 2, "m": 9}}, 0, 0, 40, 8, 2)
    table = to_table(0, views, np.zeros((40, 2), np.float32), "float16", 8)
    rows = table["augment"].to_pylist()
    assert [len(row) for row in rows] == [2] * 40
    found = {(entry["op"], abs(entry["magnitude"])) for row in rows for entry in row}
    assert ("Posterize", 7) in found
    assert ("TranslateX", 1) in found
    assert len({op for op, _ in found}) == 14
