"""Encoded images: decoding, checking and encoding image files."""

import io

import numpy as np
import pyarrow as pa
from PIL import Image as Pillow
from PIL import ImageOps

from stillhouse.artifacts.foreign_files import IMAGE_FORMATS, placeholder
from stillhouse.errors import StillhouseError, one_line

# Arrow type of an encoded image, as in Hugging Face's data sets.
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# Options of Pillow's encoders.
OPTIONS = {"webp": {"method": 6}}


def open_image(data):
    """Open an image file of one of `IMAGE_FORMATS` with Pillow, which decodes it on demand.

    By default Pillow opens further formats, and runs Ghostscript to decode EPS.
    """
    return Pillow.open(io.BytesIO(data), formats=list(IMAGE_FORMATS))


def decode(data, name="image"):
    """Decode an image file to (3, height, width) uint8, RGB, upright by its EXIF orientation.

    Grey levels of 16 bits are divided by 257; transparency is ignored, as in torchvision's loader.
    """
    try:
        with open_image(data) as image:
            _check_range(image)
            image.load()
            _turn_upright(image)
            pixels = np.asarray(_rgb(image))
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise errors of any type
        raise StillhouseError(f"{name}: not a readable image ({_reason(error, data)})") from None
    return pixels.transpose(2, 0, 1)


def _turn_upright(image):
    """Apply the EXIF orientation in place; damaged EXIF data have no effect on loaded pixels."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF data raise errors of any type
        return


def _rgb(image):
    """Convert a Pillow image of any mode to 8-bit RGB."""
    if image.mode.startswith("I"):
        grey = np.rint(np.asarray(image) / 257).astype(np.uint8)
        return Pillow.fromarray(grey).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGBA")  # avoids Pillow's warning about transparency
    return image.convert("RGB")


def _check_range(image):
    # Pillow opens PGM files of more than 8 bits as 32-bit integers, scaled to 16 bits.
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise ValueError(f"pixels of mode {image.mode}, whose range of values is unknown")


def _reason(error, data):
    # Without the memory address at the end of Pillow's message: the index stores the reason.
    return placeholder(data) or one_line(error).split(" <_io.")[0]


def unreadable(data):
    """Return the reason why `decode` would fail on an image file; None for a readable one.

    The complete file is decoded; a JPEG file at an eighth of its size, which halves the time.
    """
    try:
        with open_image(data) as image:
            _check_range(image)
            image.draft(image.mode, (1, 1))
            image.load()
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise errors of any type
        return _reason(error, data)
    return None


def encode(pixels, encoding):
    """Encode the pixels of an image as an image file.

    Parameters
    ----------
    pixels : (3, height, width) uint8 array
    encoding : str
        ``png`` or ``webp``, lossless; ``webp<quality>`` or ``jpeg<quality>``, lossy, quality 1 to
        100; ``jpeg`` has Pillow's default quality of 75. Lossy files have chroma of half the
        resolution (4:2:0). WebP files are encoded with the slowest, most compact method.

    Returns
    -------
    bytes
    """
    form, quality = image_format(encoding)
    options = dict(OPTIONS.get(form, {}))
    if quality is not None:
        options["quality"] = quality
    elif form == "webp":
        options |= {"lossless": True, "quality": 100}
    buffer = io.BytesIO()
    image = Pillow.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(buffer, form.upper(), **options)
    return buffer.getvalue()


def image_format(encoding):
    """Return (format, quality) of an encoding such as ``webp30``; quality None without a number.

    The format is ``png``, ``webp`` or ``jpeg``, and the suffix of its files.
    """
    form = encoding.rstrip("0123456789")
    return form, int(encoding[len(form) :]) if encoding != form else None


def format_of(data):
    """Return the format of an image file, as of `image_format`; None for any other."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    starts = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
    return next((form for start, form in starts.items() if data.startswith(start)), None)
