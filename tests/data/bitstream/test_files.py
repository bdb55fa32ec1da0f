"""Files of slices: round trips, limits, and an error for every altered or missing byte."""

import random
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stillhouse.data.bitstream import files, range_coder
from stillhouse.errors import StillhouseError

from tests.data.bitstream.slices import contents

CASES = [
    {},
    {"widths": (12, 7), "context": 32, "depth": 0},
    {"resolution": 9, "context": 16, "depth": 4, "scale": 40.0},
    {"resolution": 16, "context": 24, "shape": (1, 1)},
    {"resolution": 1, "shape": (3, 1)},
]


def sealed(body):
    """Return a body with its checksum."""
    return bytes(body) + zlib.crc32(bytes(body)).to_bytes(4, "little")


@pytest.mark.parametrize("case", CASES)
def test_a_file_returns_what_was_written(case):
    written = contents(**case)
    result = files.read(files.write(written), "x.bits")
    for own, expected in zip(result.grids, written.grids, strict=True):
        assert own.tolist() == expected.tolist()
    assert result.networks.steps == written.networks.steps
    assert result.networks.layout == written.networks.layout
    assert (result.images() == written.images()).all()
    n_classes, per_class = case.get("shape", (2, 3))
    assert result.labels.tolist() == [4 + i for i in range(n_classes) for _ in range(per_class)]


def test_the_fallback_reads_the_same_pixels(monkeypatch):
    written = contents(resolution=16, scale=20.0)
    data = files.write(written)
    monkeypatch.setattr(range_coder, "constriction", None)
    result = files.read(data, "x.bits")
    assert (result.images() == written.images()).all()


def test_images_do_not_depend_on_the_chunk():
    written = contents(resolution=16, shape=(1, 5))
    whole = written.images(1000)
    for chunk in (1, 5, 17):
        assert (written.images(chunk) == whole).all()


def test_the_counted_bits_are_those_of_the_file():
    written = contents()
    data, bits = files.write_counted(written)
    assert sum(bits.values()) == 8 * len(data)
    for name, values in written.networks.values.items():
        assert bits[name] == pytest.approx(files.best_scale(values)[1], abs=3)


def test_every_altered_byte_is_an_error():
    data = files.write(contents())
    rng = random.Random(0)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= rng.randrange(1, 256)
        with pytest.raises(StillhouseError) as caught:
            files.read(bytes(altered), "x.bits")
        assert str(caught.value).startswith("x.bits: ") and "\n" not in str(caught.value)


def test_every_truncation_and_any_extra_byte_is_an_error():
    data = files.write(contents())
    for end in range(len(data)):
        with pytest.raises(StillhouseError, match=r"^x\.bits: "):
            files.read(data[:end], "x.bits")
    for extra in (b"\0", b"SHRU", data):
        with pytest.raises(StillhouseError, match=r"^x\.bits: "):
            files.read(data + extra, "x.bits")


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ([2**20, 0, 1, 1, 16, 0, 8, 2], "side: must be 1 to 1024"),
        ([1024, 0, 1, 33, 16, 0, 8, 2], "pixels: must be 1 to"),
        ([8, 0, 2**34, 2**34, 16, 0, 8, 2], "last label: must be"),
        ([8, 0, 1, 0, 16, 0, 8, 2], "pixels: must be 1 to"),
        ([8, 0, 0, 1, 16, 0, 8, 2], "last label: must be 1 to"),
        ([8, 0, 1, 1, 5000, 0, 8, 2], "decoder width D1"),
        ([8, 0, 1, 1, 16, 257, 8, 2], "decoder width D2"),
        ([8, 0, 1, 1, 16, 0, 12, 2], "context size: must be 8, 16, 24, 32"),
        ([8, 0, 1, 1, 16, 0, 8, 9], "depth: must be 0 to 8"),
    ],
)
def test_sizes_beyond_the_limits_are_refused_before_decoding(sizes, problem):
    body = files.MAGIC + bytes([files.VERSION]) + b"".join(map(files._leb128, sizes))
    with pytest.raises(StillhouseError, match=problem):
        files.read(sealed(body + bytes(20)), "x.bits")


def test_another_version_is_named():
    data = bytearray(files.write(contents())[:-4])
    data[4] = 9
    with pytest.raises(StillhouseError, match="has version 9; this decoder reads version 1"):
        files.read(sealed(data), "x.bits")


def test_another_file_is_named():
    with pytest.raises(StillhouseError, match=r"x\.png: not a bitstream of Stillhouse"):
        files.read(b"\x89PNG" + bytes(100), "x.png")


def test_weights_that_would_not_sum_exactly_are_refused():
    written = contents()
    values = {**written.networks.values}
    values["decoder_weights"] = np.full_like(values["decoder_weights"], files.MOST_PARAMETER)
    networks = type(written.networks)(written.networks.layout, written.networks.steps, values)
    with pytest.raises(StillhouseError, match="too large for exact sums"):
        networks.images(written.grids)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_error_or_contents(data):
    with pytest.raises(StillhouseError):
        files.read(sealed(files.MAGIC + bytes([files.VERSION]) + data), "x.bits")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_file_with_a_mended_checksum_gives_an_error_or_pixels_in_bounds(data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "MOST_PIXELS", 2**12)
        _check_mended(data)


def _check_mended(data):
    body = bytearray(files.write(contents())[:-4])
    for place in data.draw(st.lists(st.integers(5, len(body) - 1), min_size=1, max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    try:
        result = files.read(sealed(body), "x.bits")
        result.images()
    except StillhouseError as error:
        assert "\n" not in str(error)
        return
    assert len(result.grids[0]) * result.networks.layout.resolution**2 <= files.MOST_PIXELS
