import io
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin
from PIL import Image as Pillow
from stillhouse.artifacts.foreign_files import IMAGE_FORMATS
from stillhouse.data import codecs
from stillhouse.data.codecs import decode, encode, image_format, open_image, unreadable
from stillhouse.errors import StillhouseError

from tests.data.test_class_images import picture


def test_decode_gives_rgb_for_any_mode():
    for mode in ("RGB", "L", "RGBA"):
        data = picture(1, (5, 4), mode)
        pixels = decode(data)
        assert pixels.shape == (3, 4, 5)
        assert pixels.dtype == np.uint8
        with Pillow.open(io.BytesIO(data)) as image:
            wanted = np.asarray(image)
        wanted = np.stack([wanted] * 3, 2) if mode == "L" else wanted[:, :, :3]
        np.testing.assert_array_equal(pixels, wanted.transpose(2, 0, 1))


def saved(image, form, **options):
    """Return a Pillow image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_decode_scales_sixteen_bits_and_does_not_clip_them():
    grey = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    for form in ("PNG", "TIFF"):
        found = decode(saved(Pillow.fromarray(grey), form))
        assert found[:, 0].tolist() == [[0, 0, 1, 1, 128, 255]] * 3
    swapped = Pillow.frombytes("I;16B", (6, 1), grey.astype(">u2").tobytes())
    assert decode(saved(swapped, "TIFF"))[0, 0].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("largest", [300, 65535])
def test_decode_scales_pgm_files_of_more_than_eight_bits(largest):
    grey = np.array([[0, largest // 3, largest]])
    plain = f"P2 3 1 {largest}\n{' '.join(map(str, grey[0]))}\n".encode()
    binary = f"P5 3 1 {largest}\n".encode() + grey.astype(">u2").tobytes()
    for data in (plain, binary):
        assert unreadable(data) is None
        assert decode(data)[:, 0].tolist() == [[0, 85, 255]] * 3


def test_decode_ignores_transparency():
    grey = Pillow.fromarray(np.array([[[7, 0], [200, 255]]], np.uint8), "LA")
    assert decode(saved(grey, "PNG"))[:, 0].tolist() == [[7, 200]] * 3
    palette = Pillow.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.putdata([1, 0])
    for transparency in (1, b"\x80\x00"):
        data = saved(palette, "PNG", transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = decode(data)
        assert found[:, 0].T.tolist() == [[200, 100, 0], [10, 20, 30]]
    assert decode(saved(Pillow.new("1", (1, 1), 1), "PNG")).tolist() == [[[255]]] * 3


@pytest.mark.parametrize(("form", "near"), [("TIFF", 0), ("JPEG", 3)])
def test_decode_converts_cmyk_to_rgb(form, near):
    inks = {(0, 0, 0, 0): (255, 255, 255), (0, 255, 255, 0): (255, 0, 0)}
    inks |= {(255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 55): (200,) * 3}
    for ink, light in inks.items():
        found = decode(saved(Pillow.new("CMYK", (8, 8), ink), form))
        assert np.abs(found.astype(int)[:, 4, 4] - light).max() <= near


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_decode_applies_the_exif_orientation(tag, form):
    # What EXIF's numbers mean: where the first row and the first column of the file belong.
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8], upright[:8, 8:] = 80, 160
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[tag]
    exif = Pillow.Exif()
    exif[0x0112] = tag
    data = saved(Pillow.fromarray(np.ascontiguousarray(stored)), form, exif=exif)
    found = decode(data)
    assert found.shape == (3, 16, 24)
    assert np.abs(found[0].astype(int) - upright).max() <= (4 if form == "JPEG" else 0)


def test_damaged_exif_data_do_not_prevent_decoding():
    image = Pillow.new("RGB", (8, 8), (90, 90, 90))
    data = saved(image, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\x12" * 9)
    assert unreadable(data) is None
    assert decode(data).shape == (3, 8, 8)


def test_pixels_of_unknown_range_are_refused():
    for mode in ("I", "F"):
        data = saved(Pillow.new(mode, (2, 2), 7), "TIFF")
        with pytest.raises(StillhouseError, match=f"pixels of mode {mode}, whose range"):
            decode(data)
        assert "whose range of values is unknown" in unreadable(data)


def test_floats_in_a_pfm_file_are_refused():
    data = b"Pf\n1 1\n-1.0\n" + np.float32(0.5).tobytes()
    assert "pixels of mode F" in unreadable(data)


@pytest.mark.parametrize("error", [TypeError("seven"), KeyError(7), RuntimeError()])
def test_any_error_of_pillow_makes_a_file_unreadable(monkeypatch, error):
    def raising(*_, **__):
        raise error

    monkeypatch.setattr(codecs.Pillow, "open", raising)
    assert unreadable(b"II*") == (str(error) or "RuntimeError")
    with pytest.raises(StillhouseError, match="cat-7: not a readable image"):
        decode(b"II*", "cat-7")


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_errors_that_are_not_about_the_file_are_raised(monkeypatch, error):
    def raising(*_, **__):
        raise error

    monkeypatch.setattr(codecs.Pillow, "open", raising)
    for function in (unreadable, decode):
        with pytest.raises(error):
            function(b"II*")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"


def test_no_image_file_runs_ghostscript(monkeypatch, tmp_path):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\necho >> '{tmp_path}/ran'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    assert unreadable(EPS) == "cannot identify image file"
    with pytest.raises(StillhouseError, match=r"^cat-7: not a readable image \(cannot identify"):
        decode(EPS, "cat-7")
    with pytest.raises(Pillow.UnidentifiedImageError):
        open_image(EPS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", IMAGE_FORMATS)
def test_files_of_every_listed_format_are_read(form):
    data = saved(Pillow.new("RGB", (40, 30), (90, 90, 90)), form)
    assert unreadable(data) is None
    assert decode(data).shape == (3, 30, 40)


def test_a_jpeg_file_of_several_images_is_read():
    images = [Pillow.new("RGB", (40, 30), (grey,) * 3) for grey in (90, 20)]
    data = saved(images[0], "MPO", save_all=True, append_images=images[1:])
    assert unreadable(data) is None
    assert np.abs(decode(data).astype(int) - 90).max() <= 3


def test_no_other_module_opens_images_with_pillow():
    package = Path(codecs.__file__).parents[1]
    paths = [path for path in package.rglob("*.py") if path != Path(codecs.__file__)]
    opening = re.compile(r"\b(Image|Pillow)\.open\(|imread\(")
    assert [path.name for path in paths if opening.search(path.read_text())] == []


def test_the_reason_does_not_depend_on_the_process():
    assert unreadable(b"no image") == "cannot identify image file"


def test_decodable_images_are_readable_and_truncated_ones_are_not():
    rng = np.random.default_rng(0)
    noise = Pillow.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = saved(noise, form)
        assert unreadable(data) is None
        assert decode(data).shape == (3, 40, 50)
        assert unreadable(data[:-900]), form
        with pytest.raises(StillhouseError):
            decode(data[:-900])
    for mode in ("L", "LA", "RGBA", "P", "1"):
        assert unreadable(saved(noise.convert(mode), "PNG")) is None
    assert unreadable(saved(noise.convert("CMYK"), "JPEG")) is None


def test_decode_resolves_a_palette():
    image = Pillow.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putdata([1, 0])
    buffer = io.BytesIO()
    image.save(buffer, "GIF")
    assert decode(buffer.getvalue())[:, 0].T.tolist() == [[200, 100, 0], [10, 20, 30]]


@pytest.mark.parametrize(
    "data", [b"", b"no image", picture(1)[:40], picture(1, (40, 40))[:-300], b"\x89PNG\r\n\x1a\n"]
)
def test_an_undecodable_image_is_an_error_with_its_name(data):
    with pytest.raises(StillhouseError, match=r"^cat-7: not a readable image") as caught:
        decode(data, "cat-7")
    assert "\n" not in str(caught.value)


def test_png_is_lossless_and_jpeg_has_quality_75():
    pixels = decode(picture(3, (9, 9)))
    np.testing.assert_array_equal(decode(encode(pixels, "png")), pixels)
    smooth = np.broadcast_to(np.arange(16, dtype=np.uint8) * 16, (3, 16, 16))
    found = decode(encode(smooth, "jpeg")).astype(int)
    assert 0 < np.abs(found - smooth).max() < 12
    with Pillow.open(io.BytesIO(encode(smooth, "jpeg"))) as image:
        # Quality 75: the standard luminance table halved.
        assert image.format == "JPEG"
        assert image.quantization[0][0] == 8


def photograph(side=48):
    """Return smooth pixels with a little noise, (3, side, side) uint8."""
    ramp = np.linspace(0, 1, side)
    waves = np.sin(6 * ramp)[:, None] * np.cos(5 * ramp)
    waves = waves * np.array([80, 60, 40])[:, None, None]
    noise = np.random.default_rng(0).normal(0, 4, (3, side, side))
    return np.clip(128 + waves + noise, 0, 255).astype(np.uint8)


def test_webp_without_a_quality_is_lossless():
    pixels = photograph()
    data = encode(pixels, "webp")
    np.testing.assert_array_equal(decode(data), pixels)
    with Pillow.open(io.BytesIO(data)) as image:
        assert image.format == "WEBP"


@pytest.mark.parametrize("form", ["webp", "jpeg"])
def test_a_lower_quality_has_fewer_bytes_and_larger_errors(form):
    pixels = photograph()
    data = [encode(pixels, f"{form}{quality}") for quality in (1, 10, 30, 75, 100)]
    sizes = [len(one) for one in data]
    errors = [np.square(decode(one).astype(float) - pixels).mean() for one in data]
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)
    with Pillow.open(io.BytesIO(data[0])) as image:
        assert image.format == form.upper()


def test_equal_pixels_give_equal_files_and_jpeg_without_a_quality_has_75():
    pixels = photograph()
    assert encode(pixels, "jpeg") == encode(pixels, "jpeg75") != encode(pixels, "jpeg76")
    for encoding in ("png", "webp", "webp30", "jpeg30"):
        assert encode(pixels, encoding) == encode(pixels.copy(), encoding)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("png", ("png", None)),
        ("webp", ("webp", None)),
        ("webp1", ("webp", 1)),
        ("jpeg", ("jpeg", None)),
        ("jpeg100", ("jpeg", 100)),
    ],
)
def test_an_encoding_names_format_and_quality(encoding, expected):
    assert image_format(encoding) == expected
