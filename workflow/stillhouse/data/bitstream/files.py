"""The file of one slice: header, networks and latents in one range-coded stream, checksum.

====================  ==============================================================================
magic                 4 bytes, ``SHRU``
version               1 byte
sizes                 side of the images [px], first label, classes, images per class, D1, D2, C and
                      depth, 7 bits per byte, the lowest first (LEB128)
networks              per stream of `layout.STREAMS`: 1 byte n of the step size 2^-n, 1 byte ln b of
                      the Laplace distribution of its parameters
words                 LEB128 count, then 32-bit words: parameters by stream, then latents
checksum              4 bytes, CRC-32 of everything before
====================  ==============================================================================

Integers have their lowest byte first. The images of a class are consecutive, classes in order from
the first label. A decoder needs this file alone; its memory and time are bounded by the limits
below before it allocates anything.
"""

import functools
import zlib
from dataclasses import dataclass

import numpy as np

from stillhouse.data.bitstream import latents, tables
from stillhouse.data.bitstream.layout import CONTEXTS, STREAMS, Layout
from stillhouse.data.bitstream.networks import FINEST, Networks
from stillhouse.data.bitstream.range_coder import (
    Encoder,
    decode_values,
    encode_values,
    open_decoder,
)
from stillhouse.errors import StillhouseError

MAGIC, VERSION = b"SHRU", 1
CHECKSUM = 4
# Limits of sizes in a file.
MOST_BYTES = 2**28
MOST_PIXELS = 2**25  # n × side², of all images of a slice
MOST_SIDE = 1024  # px
MOST_WIDTHS = (4096, 256)
MOST_DEPTH = 8
MOST_LABEL = 2**31 - 1
MOST_PARAMETER = 2**16 - 1  # in steps
PARAMETER_FIRST, PARAMETER_LAST = tables.FIRST, tables.LAST


@dataclass(frozen=True)
class Contents:
    """The content of the file of a slice.

    Parameters
    ----------
    networks : Networks
    grids : list of (n, side, side) int arrays
        Latents, finest grid first.
    first_label, n_classes, images_per_class : int
        n = n_classes × images_per_class images.
    """

    networks: Networks
    grids: list
    first_label: int
    n_classes: int
    images_per_class: int

    @property
    def labels(self):
        """Labels of the images, (n,) int64."""
        labels = np.arange(self.first_label, self.first_label + self.n_classes)
        return np.repeat(labels, self.images_per_class)

    @property
    def shape(self):
        """Shape of an image: (3, side, side)."""
        return (3, *[self.networks.layout.resolution] * 2)

    def images(self, chunk=16):
        """Return the pixels, (n, 3, side, side) uint8, decoded `chunk` 32 px images at a time."""
        side = self.networks.layout.resolution
        chunk = max(chunk * 32 * 32 // (side * side), 1)
        n = len(self.grids[0])
        pixels = np.empty((n, 3, side, side), np.uint8)
        for first in range(0, n, chunk):
            part = [grid[first : first + chunk] for grid in self.grids]
            pixels[first : first + chunk] = self.networks.images(part)
        return pixels


def write(contents):
    """Return the file of a slice as bytes."""
    data, _ = write_counted(contents)
    return data


def write_counted(contents):
    """Return (file as bytes, {part: bits}): of header, each stream of parameters, and latents."""
    networks, layout = contents.networks, contents.networks.layout
    encoder, bits, done = Encoder(), {}, 0
    scales = {name: best_scale(networks.values[name])[0] for name in STREAMS}
    for name in STREAMS:
        encode_parameters(encoder, networks.values[name], scales[name])
        bits[name], done = encoder.position() - done, encoder.position()
    latents.encode(encoder, networks, contents.grids)
    bits["latents"] = encoder.position() - done
    stream = encoder.finish()
    sizes = [layout.resolution, contents.first_label, contents.n_classes]
    sizes += [contents.images_per_class, *layout.widths, layout.context, layout.depth]
    header = MAGIC + bytes([VERSION]) + b"".join(map(_leb128, sizes))
    for name in STREAMS:
        header += bytes([networks.steps[name], scales[name] - tables.LOWEST])
    header += _leb128(len(stream))
    data = header + stream.astype("<u4").tobytes()
    data += zlib.crc32(data).to_bytes(CHECKSUM, "little")
    bits["header"] = 8 * len(data) - sum(bits.values())
    return data, bits


def best_scale(values):
    """Return (ln b in eighths, bits) of what encodes parameters of mean 0 in the fewest bits.

    Parameters
    ----------
    values : (count,) int64
        In steps.
    """
    own, more = _bits_of_symbols()
    symbols = np.clip(values, PARAMETER_FIRST - 1, PARAMETER_LAST + 1) - PARAMETER_FIRST + 1
    bits = own @ np.bincount(symbols, minlength=tables.SYMBOLS)
    excess = np.maximum(values - PARAMETER_LAST, PARAMETER_FIRST - values) - 1
    rounds, last = np.divmod(excess[excess >= 0], tables.HIGH)
    counts = np.bincount(last, minlength=tables.SYMBOLS)
    counts[tables.HIGH] += rounds.sum()
    bits += more @ counts
    best = int(bits.argmin())
    return best + tables.LOWEST, float(bits[best])


@functools.cache
def _bits_of_symbols():
    """Return the bits of symbols of mean 0 and of excesses, two (scales, 64) arrays."""
    scales = np.arange(tables.LOWEST, tables.HIGHEST + 1)
    counts = np.diff(tables.all_tables()).astype(np.float64)
    rows = tables.laplace_row(scales, 0), tables.geometric_row(scales)
    return tuple(tables.PRECISION - np.log2(counts[chosen]) for chosen in rows)


def encode_parameters(encoder, values, scale):
    """Encode the parameters of one stream, (count,) int64, in steps."""
    rows, excess_rows = _parameter_rows(len(values), scale)
    encode_values(encoder, rows, excess_rows, values, PARAMETER_FIRST, PARAMETER_LAST)


def _parameter_rows(count, scale):
    rows = np.full(count, tables.laplace_row(scale, 0))
    return rows, np.full(count, tables.geometric_row(scale))


def read(data, name):
    """Decode a file.

    Parameters
    ----------
    data : bytes
    name : str
        Of the file, for messages.

    Returns
    -------
    Contents

    Raises
    ------
    StillhouseError
        One line that names the file, if a byte is missing or altered, or if a size exceeds its
        limit.
    """
    try:
        return _read(data)
    except StillhouseError as error:
        raise StillhouseError(f"{name}: {error}") from None


def _read(data):
    if len(data) > MOST_BYTES:
        raise StillhouseError(f"has {len(data)} bytes; must be at most {MOST_BYTES}")
    if data[: len(MAGIC)] != MAGIC:
        raise StillhouseError("not a bitstream of Stillhouse; give a file of results/bitstream/")
    body, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    if len(data) < 24 or zlib.crc32(body) != int.from_bytes(checksum, "little"):
        raise StillhouseError("damaged, its checksum does not match; copy it again")
    if body[4] != VERSION:
        raise StillhouseError(f"has version {body[4]}; this decoder reads version {VERSION}")
    fields = _Fields(body, 5)
    resolution, first_label, n_classes, per_class, wide, narrow, context, depth = (
        fields.number() for _ in range(8)
    )
    layout = Layout(resolution, (wide, narrow), context, depth)
    _check_sizes(layout, first_label, n_classes, per_class)
    steps, scales = {}, {}
    for stream in STREAMS:
        steps[stream] = fields.byte(FINEST)
        scales[stream] = fields.byte(tables.HIGHEST - tables.LOWEST)
    n_words = fields.number()
    if len(body) - fields.place != 4 * n_words:
        raise StillhouseError("has another length than its header states; copy it again")
    decoder = open_decoder(np.frombuffer(body, "<u4", offset=fields.place).astype(np.uint32))
    values = {}
    for stream in STREAMS:
        rows = _parameter_rows(layout.counts[stream], scales[stream] + tables.LOWEST)
        limits = (PARAMETER_FIRST, PARAMETER_LAST, MOST_PARAMETER)
        values[stream] = decode_values(decoder, *rows, *limits)
    networks = Networks(layout, steps, values)
    grids = latents.decode(decoder, networks, n_classes * per_class)
    return Contents(networks, grids, first_label, n_classes, per_class)


def _check_sizes(layout, first_label, n_classes, per_class):
    """Raise a `StillhouseError` if a size exceeds its limit."""
    limits = [
        ("side", layout.resolution, 1, MOST_SIDE),
        ("last label", first_label + n_classes, 1, MOST_LABEL),
        ("pixels", n_classes * per_class * layout.resolution**2, 1, MOST_PIXELS),
        ("decoder width D1", layout.widths[0], 1, MOST_WIDTHS[0]),
        ("decoder width D2", layout.widths[1], 0, MOST_WIDTHS[1]),
        ("depth", layout.depth, 0, MOST_DEPTH),
    ]
    for what, value, least, most in limits:
        if not least <= value <= most:
            raise StillhouseError(
                f"{what}: must be {least} to {most}, not {value}; encode smaller slices"
            )
    if layout.context not in CONTEXTS:
        raise StillhouseError(
            f"context size: must be {', '.join(map(str, CONTEXTS))}, not {layout.context}"
        )


def _leb128(number):
    """Return a number as bytes of 7 bits, the lowest first; the top bit is set if more follow."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


class _Fields:
    """Reader of a header's fields."""

    def __init__(self, data, place):
        self.data, self.place = data, place

    def byte(self, most):
        """Return the next byte, at most `most`."""
        if self.place >= len(self.data) or self.data[self.place] > most:
            raise StillhouseError("has an invalid header; copy it again")
        self.place += 1
        return self.data[self.place - 1]

    def number(self):
        """Return the next LEB128 number, below 2^35."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte(255)
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise StillhouseError("has an invalid header; copy it again")
