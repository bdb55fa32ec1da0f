"""Range coder: symbols to 32-bit words by integer probabilities, and back.

The arithmetic is that of the range coder of the library constriction (Bamler, 2022, version 0.5):
64-bit state, 32-bit words, probabilities of 24 bits. The library decodes where it is installed;
`PlainDecoder` reads the same words without it, at a third of the speed.
"""

import bisect
import itertools

import numpy as np

from stillhouse.data.bitstream.tables import HIGH, LOW, PRECISION, all_tables
from stillhouse.errors import StillhouseError

try:
    import constriction
except ImportError:  # no wheel for this platform
    constriction = None

WORD, STATE = 32, 64
ALL = 2**STATE - 1


class Encoder:
    """Encode symbols to words; the decoders return them in the same order."""

    def __init__(self):
        self.lower, self.range = 0, ALL
        self.stream = []

    def encode(self, rows, symbols):
        """Encode symbols.

        Parameters
        ----------
        rows : (n,) int64
            Row of `tables.all_tables` of each symbol.
        symbols : (n,) int64
            0 to 63.
        """
        table = all_tables()
        lefts = table[rows, symbols]
        counts = table[rows, symbols + 1] - lefts
        lower, span, stream = self.lower, self.range, self.stream
        for left, count in zip(lefts.tolist(), counts.tolist(), strict=True):
            scale = span >> PRECISION
            lower, span = lower + scale * left, scale * count
            if lower > ALL:
                lower &= ALL
                _carry(stream)
            if span >> WORD == 0:
                stream.append(lower >> WORD)
                lower, span = lower << WORD & ALL, span << WORD
        self.lower, self.range = lower, span

    def position(self):
        """Return the bits of what was encoded so far, to a bit or so."""
        return WORD * len(self.stream) + STATE - self.range.bit_length()

    def finish(self):
        """Return all words, (n,) uint32; the decoders read zeros after the last of them."""
        if not self.stream and self.range == ALL:
            return np.zeros(0, np.uint32)
        stream, point = list(self.stream), self.lower + 2**WORD - 1
        if point > ALL:
            point &= ALL
            _carry(stream)
        stream.append(point >> WORD)
        return np.array(stream, np.uint32)


def _carry(stream):
    """Add one to a number of many words, in place."""
    place = len(stream) - 1
    while stream[place] == 2**WORD - 1:
        stream[place] = 0
        place -= 1
    stream[place] += 1


class PlainDecoder:
    """Decode words with Python's integers.

    Parameters
    ----------
    stream : (n,) uint32
    """

    def __init__(self, stream):
        self.stream = itertools.chain(stream.tolist(), itertools.repeat(0))
        self.lower, self.range = 0, ALL
        self.point = next(self.stream) << WORD | next(self.stream)
        self.rows = {}

    def decode(self, rows):
        """Return the next symbols, (n,) int64, by the row of `tables.all_tables` of each.

        Raises
        ------
        StillhouseError
            If no encoder writes these words.
        """
        cumulative, symbols = self.rows, []
        lower, span, point = self.lower, self.range, self.point
        for row in rows.tolist():
            if row not in cumulative:
                cumulative[row] = all_tables()[row].tolist()
            counts, scale = cumulative[row], span >> PRECISION
            symbol = bisect.bisect_right(counts, ((point - lower) & ALL) // scale) - 1
            if symbol > HIGH:
                raise _damaged()
            symbols.append(symbol)
            left = counts[symbol]
            lower, span = lower + scale * left & ALL, scale * (counts[symbol + 1] - left)
            if span >> WORD == 0:
                lower, span = lower << WORD & ALL, span << WORD
                point = point << WORD & ALL | next(self.stream)
        self.lower, self.range, self.point = lower, span, point
        return np.array(symbols, np.int64)


class FastDecoder:
    """Decode words with constriction.

    Parameters
    ----------
    stream : (n,) uint32
    """

    def __init__(self, stream):
        self.decoder = constriction.stream.queue.RangeDecoder(stream)
        # Weights that are one less than the counts, of which constriction adds one to each.
        self.family = constriction.stream.model.Categorical(perfect=False)
        self.weights = _weights()

    def decode(self, rows):
        """Return the next symbols as `PlainDecoder` does."""
        if len(rows) == 0:
            return np.zeros(0, np.int64)
        try:
            return self.decoder.decode(self.family, self.weights[rows]).astype(np.int64)
        except (AssertionError, ValueError):
            raise _damaged() from None


_cached_weights = []


def _weights():
    if not _cached_weights:
        _cached_weights.append(np.diff(all_tables()).astype(np.float64) - 1)
    return _cached_weights[0]


def open_decoder(stream):
    """Return the fastest decoder that is installed."""
    return PlainDecoder(stream) if constriction is None else FastDecoder(stream)


def _damaged():
    return StillhouseError("has entropy-coded data that no encoder writes; copy it again")


def encode_values(encoder, rows, excess_rows, residuals, first, last):
    """Encode values around the nearest integer to their mean, with the excess of those far off.

    Parameters
    ----------
    encoder : Encoder
    rows, excess_rows : (n,) int64
        Rows of the tables of each value, and of its excess.
    residuals : (n,) int64
        Value minus nearest integer.
    first, last : int
        Residuals that have symbols of their own.
    """
    encoder.encode(rows, np.clip(residuals, first - 1, last + 1) - first + 1)
    excess = np.maximum(residuals - last, first - residuals) - 1
    while (far := excess >= 0).any():
        excess, excess_rows = excess[far], excess_rows[far]
        encoder.encode(excess_rows, np.minimum(excess, HIGH))
        excess = excess - HIGH


def decode_values(decoder, rows, excess_rows, first, last, most):
    """Return the residuals that `encode_values` encoded, (n,) int64.

    Raises
    ------
    StillhouseError
        If an excess is more than `most`, or if no encoder writes these words.
    """
    symbols = decoder.decode(rows)
    residuals = symbols + first - 1
    sign = np.where(symbols == LOW, -1, np.where(symbols == HIGH, 1, 0))
    far = np.flatnonzero(sign)
    while len(far):
        more = decoder.decode(excess_rows[far])
        residuals[far] += sign[far] * more
        if (np.abs(residuals[far]) > most).any():
            raise _damaged()
        far = far[more == HIGH]
    return residuals
