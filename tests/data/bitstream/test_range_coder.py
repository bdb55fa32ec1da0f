"""The range coder: round trips, its size, and agreement of both decoders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stillhouse.artifacts.rng import generator
from stillhouse.data.bitstream import range_coder, tables
from stillhouse.data.bitstream.range_coder import Encoder, FastDecoder, PlainDecoder
from stillhouse.errors import StillhouseError

DECODERS = [
    PlainDecoder,
    pytest.param(
        FastDecoder,
        marks=pytest.mark.skipif(range_coder.constriction is None, reason="no constriction"),
    ),
]
N_ROWS = len(tables.all_tables())


def drawn(n, seed=0):
    """Return rows, and symbols drawn by their probabilities."""
    rng = generator(seed, "test symbols")
    rows = rng.integers(0, N_ROWS, n)
    places = rng.integers(0, 2**tables.PRECISION, n)
    chosen = tables.all_tables()[rows]
    return rows, (chosen <= places[:, None]).sum(1) - 1


def encoded(rows, symbols):
    encoder = Encoder()
    encoder.encode(rows, symbols)
    return encoder.finish()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("n", [1, 2, 3, 40, 5000])
def test_decoders_return_what_was_encoded(decoder, n):
    rows, symbols = drawn(n)
    words = encoded(rows, symbols)
    one = decoder(words)
    parts = [one.decode(part) for part in np.array_split(rows, 3)]
    assert np.concatenate(parts).tolist() == symbols.tolist()


@pytest.mark.parametrize("decoder", DECODERS)
def test_improbable_symbols_survive_carries(decoder):
    for seed in range(30):
        rng = generator(seed, "test carries")
        rows, symbols = rng.integers(0, N_ROWS, 200), rng.integers(0, 64, 200)
        words = encoded(rows, symbols)
        assert decoder(words).decode(rows).tolist() == symbols.tolist()


def test_the_size_is_that_of_the_probabilities():
    rows, symbols = drawn(5000)
    table = tables.all_tables()
    counts = table[rows, symbols + 1] - table[rows, symbols]
    bits = (tables.PRECISION - np.log2(counts)).sum()
    assert bits <= 32 * len(encoded(rows, symbols)) <= bits + 64


def test_nothing_takes_no_words():
    assert len(Encoder().finish()) == 0


@pytest.mark.parametrize("decoder", DECODERS)
def test_values_of_any_size_return(decoder):
    rng = generator(0, "test values")
    values = np.concatenate([rng.integers(-5, 5, 100), rng.integers(-60000, 60000, 50)])
    scales = rng.integers(tables.LOWEST, tables.HIGHEST + 1, 150)
    rows = tables.laplace_row(scales, rng.integers(-8, 8, 150)), tables.geometric_row(scales)
    encoder = Encoder()
    range_coder.encode_values(encoder, *rows, values, tables.FIRST, tables.LAST)
    limits = (tables.FIRST, tables.LAST, 65535)
    decoded = range_coder.decode_values(decoder(encoder.finish()), *rows, *limits)
    assert decoded.tolist() == values.tolist()


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_excess_without_end_is_an_error(decoder):
    encoder, row = Encoder(), tables.geometric_row(tables.HIGHEST)
    rows = np.array([tables.laplace_row(0, 0)]), np.array([row])
    range_coder.encode_values(encoder, *rows, np.array([70000]), tables.FIRST, tables.LAST)
    with pytest.raises(StillhouseError, match="no encoder writes"):
        range_coder.decode_values(
            decoder(encoder.finish()), *rows, tables.FIRST, tables.LAST, 65535
        )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.integers(0, 2**32 - 1))
def test_both_decoders_agree_on_any_words(words, seed):
    if range_coder.constriction is None:
        pytest.skip("no constriction")
    rows = generator(seed, "test rows").integers(0, N_ROWS, 50)
    results = []
    for decoder in (PlainDecoder, FastDecoder):
        try:
            results.append(decoder(np.array(words, np.uint32)).decode(rows).tolist())
        except StillhouseError as error:
            results.append(str(error))
    assert results[0] == results[1]
