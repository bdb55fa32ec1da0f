"""Counts of Tables A1 and A3 of the paper, and the order in which latents are coded."""

import pytest
from stillhouse.data.bitstream.layout import (
    CONTEXTS,
    DECODERS,
    Layout,
    context_offsets,
    grid_sides,
    wavefront_slope,
)

# Table A1, and the same decoders with the grids of 32, 16 and 8 px: six, five and four.
TABLE_A1 = {
    "v4-40": (571, 571, 531, 491),
    "v4-160": (1771, 1771, 1611, 1451),
    "v4-240": (2571, 2571, 2331, 2091),
    "v4-480": (4971, 4971, 4491, 4011),
    "v4-960": (9771, 9771, 8811, 7851),
    "v4-1200": (12171, 12171, 10971, 9771),
    "v5-240": (11611, 11611, 11371, 11131),
    "v5-320": (15371, 15371, 15051, 14731),
}
# Table A3: images per class, decoder, context and depth of Table A2, parameters per class.
TABLE_A3 = [
    (1, "v4-40", 16, 2, 23_053),
    (8, "v4-160", 16, 2, 177_133),
    (15, "v4-240", 16, 2, 330_813),
    (51, "v5-240", 32, 4, 1_129_805),
    (102, "v5-240", 32, 4, 2_243_645),
]


@pytest.mark.parametrize("name", TABLE_A1)
def test_decoders_have_the_parameters_of_table_a1(name):
    counts = []
    for resolution in (128, 32, 16, 8):
        counted = Layout(resolution, DECODERS[name], 16, 2).counts
        counts.append(counted["decoder_weights"] + counted["decoder_biases"])
    assert tuple(counts) == TABLE_A1[name]


@pytest.mark.parametrize(("ipc", "decoder", "context", "depth", "expected"), TABLE_A3)
def test_slices_have_the_parameters_of_table_a3(ipc, decoder, context, depth, expected):
    layout = Layout(128, DECODERS[decoder], context, depth)
    assert layout.n_parameters(ipc) == expected


def test_entropy_networks_have_the_paper_s_parameters():
    for context, depth, expected in ((16, 2, 578), (16, 4, 1122), (32, 4, 4290)):
        counts = Layout(128, (40, 0), context, depth).counts
        assert counts["entropy_weights"] + counts["entropy_biases"] == expected


def test_budgets_are_those_of_one_uncompressed_image():
    assert 3 * 128 * 128 * 4 == 192 * 1024
    assert 3 * 32 * 32 * 4 == 12 * 1024


def test_grids_halve_down_to_one_latent_or_six_grids():
    assert grid_sides(128) == [128, 64, 32, 16, 8, 4]
    assert grid_sides(64) == [64, 32, 16, 8, 4, 2]
    assert grid_sides(32) == [32, 16, 8, 4, 2, 1]
    assert grid_sides(28) == [28, 14, 7, 4, 2]
    assert grid_sides(1) == [1]
    assert Layout(128, (40, 0), 16, 2).latents_per_image == 21_840
    assert Layout(32, (40, 0), 16, 2).latents_per_image == 1365


@pytest.mark.parametrize("context", CONTEXTS)
def test_contexts_precede_their_latent_in_raster_order(context):
    offsets = context_offsets(context)
    assert len(set(offsets)) == len(offsets) == context
    assert all(offset < (0, 0) for offset in offsets)
    assert all(-4 <= place <= 4 for offset in offsets for place in offset)


@pytest.mark.parametrize("context", CONTEXTS)
def test_latents_of_a_wavefront_need_none_of_each_other(context):
    slope = wavefront_slope(context)
    assert all(column + slope * row < 0 for row, column in context_offsets(context))
    too_low = slope - 1
    assert any(column + too_low * row >= 0 for row, column in context_offsets(context))
