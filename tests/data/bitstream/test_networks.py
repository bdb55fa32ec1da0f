"""Fixed-point arithmetic against Python's fractions, and against other orders of the sums."""

import os
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from stillhouse.data.bitstream import latents, networks
from stillhouse.data.bitstream.layout import context_offsets
from stillhouse.data.bitstream.networks import ENTROPY_BITS, HIDDEN_BITS, IMAGE_BITS

from tests.data.bitstream.slices import contents


def exact_layers(part, name):
    """Return the parameters of a network as fractions, [(weights, biases)]."""
    layout, steps, values = part.layout, part.steps, part.values
    result = []
    for stream in (f"{name}_weights", f"{name}_biases"):
        shapes, flat = layout.shapes[stream], iter(values[stream].tolist())
        unit = Fraction(1, 2 ** steps[stream])
        result.append(
            [
                np.array([next(flat) * unit for _ in range(int(np.prod(s)))], object).reshape(s)
                for s in shapes
            ]
        )
    return list(zip(*result, strict=True))


def rounded(value, bits):
    """Return a fraction rounded to so many bits, ties to the even."""
    return Fraction(round(value * 2**bits), 2**bits)


def naive_distribution(part, context):
    x = [Fraction(int(value)) for value in context]
    *hidden, (last, bias) = exact_layers(part, "entropy")
    for weight, own in hidden:
        sums = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
        x = [max(rounded(s + b, ENTROPY_BITS) + v, 0) for s, b, v in zip(sums, own, x, strict=True)]
    mean, raw = (
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(last, bias, strict=True)
    )
    return round(mean * 16), min(max(round((raw - 4) * 8), -37), 40)


def naive_image(part, grids):
    """Return the pixels of one image, (3, side, side), by loops over fractions."""
    (kernel,) = (
        np.array(part.values["upsampling_weights"].tolist(), object).reshape(8, 8)
        * Fraction(1, 2 ** part.steps["upsampling_weights"]),
    )
    stack = [[[Fraction(int(v)) for v in row] for row in grids[-1]]]
    for grid in grids[-2::-1]:
        side = len(grid)
        finer = [naive_upsampled(channel, kernel, side) for channel in stack]
        stack = [[[Fraction(int(v)) for v in row] for row in grid], *finer]
    layers = exact_layers(part, "decoder")
    side = len(grids[0])
    values = np.empty((side, side, 3), object)
    for i in range(side):
        for j in range(side):
            x = [channel[i][j] for channel in stack]
            for number, (weight, bias) in enumerate(layers[:-2]):
                x = [
                    sum(w * v for w, v in zip(row, x, strict=True)) + b
                    for row, b in zip(weight, bias, strict=True)
                ]
                last = number == len(layers) - 3
                bits = IMAGE_BITS if last else HIDDEN_BITS
                x = [rounded(v, bits) if last else max(rounded(v, bits), 0) for v in x]
            values[i, j] = x
    for number, layer in enumerate(layers[-2:]):
        values = naive_residual(values, *layer)
        values = np.maximum(values, Fraction(0)) if number == 0 else values
    pixels = [int((v * 255 + Fraction(1, 2)) // 1) for v in values.reshape(-1)]
    return np.clip(pixels, 0, 255).reshape(values.shape).transpose(2, 0, 1)


def naive_residual(values, weight, bias):
    """Return values plus their 3 × 3 convolution with replicated edges."""
    side, result = len(values), np.empty_like(values)
    for i, j, out in np.ndindex(side, side, 3):
        total = values[i, j, out] + bias[out]
        for di, dj, channel in np.ndindex(3, 3, 3):
            row, column = np.clip([i + di - 1, j + dj - 1], 0, side - 1)
            total += weight[out, channel, di, dj] * values[row, column, channel]
        result[i, j, out] = rounded(total, IMAGE_BITS)
    return result


def naive_upsampled(channel, kernel, side):
    """Return a channel after a transposed convolution with replicated edges, cropped."""
    old = len(channel)
    out = [[Fraction(0)] * (2 * old + 22) for _ in range(2 * old + 22)]
    for i in range(-4, old + 4):
        for j in range(-4, old + 4):
            value = channel[min(max(i, 0), old - 1)][min(max(j, 0), old - 1)]
            for k in range(8):
                for m in range(8):
                    out[2 * (i + 4) + k][2 * (j + 4) + m] += value * kernel[k, m]
    return [[rounded(v, HIDDEN_BITS) for v in row[11 : 11 + side]] for row in out[11 : 11 + side]]


@pytest.mark.parametrize("case", [{}, {"widths": (5, 4), "resolution": 7}])
def test_pixels_are_those_of_exact_arithmetic(case):
    written = contents(**{"widths": (6, 0), "shape": (1, 2), **case})
    pixels = written.images()
    for number in range(2):
        grids = [grid[number].tolist() for grid in written.grids]
        assert (pixels[number] == naive_image(written.networks, grids)).all()
    assert len(np.unique(pixels)) > 10


@pytest.mark.parametrize("context", [8, 32])
def test_distributions_are_those_of_exact_arithmetic(context):
    part = contents(context=context, scale=6.0).networks
    inputs = contents(context=context, seed=1, scale=6.0).grids[0].reshape(-1)[: context * 6]
    means, scales = part.distributions(inputs.reshape(6, context).astype(float))
    expected = [naive_distribution(part, row) for row in inputs.reshape(6, context)]
    assert list(zip(means.tolist(), scales.tolist(), strict=True)) == expected


def test_contexts_are_the_neighbours_of_a_latent():
    written = contents(resolution=9, context=16, shape=(1, 2))
    steps, places, length = latents._schedule(tuple(written.networks.layout.sides), 16)
    flat = np.zeros((length, 2), int)
    for place, grid in zip(places, written.grids, strict=True):
        flat[place] = grid.transpose(1, 2, 0)
    expected = {}
    for place, grid in zip(places, written.grids, strict=True):
        side = grid.shape[1]
        for i in range(side):
            for j in range(side):
                near = [(i + di, j + dj) for di, dj in context_offsets(16)]
                expected[place[i, j]] = [
                    grid[0, a, b] if 0 <= a < side and 0 <= b < side else 0 for a, b in near
                ]
    seen = {
        int(own): flat[context, 0].tolist()
        for chosen, contexts in steps
        for own, context in zip(chosen, contexts, strict=True)
    }
    assert seen == expected


def test_sums_do_not_depend_on_their_order(monkeypatch):
    written = contents(resolution=16, widths=(64, 0), scale=30.0)
    pixels = written.images()
    shuffled = np.random.default_rng(0).permutation(64)
    part = written.networks
    (first, bias), last = part.pixelwise
    part.pixelwise = [(first[:, shuffled], bias[shuffled]), (last[0][shuffled], last[1])]
    monkeypatch.setattr(networks, "TILE", 7)
    assert (written.images() == pixels).all()


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("kernel", ["Haswell", "Sandybridge", "Nehalem"])
def test_pixels_do_not_depend_on_threads_or_the_blas_kernel(threads, kernel):
    written = contents(resolution=16, widths=(64, 0), scale=30.0)
    code = (
        "import sys, zlib; sys.path[:0] = sys.argv[1:3]\n"
        "from tests.data.bitstream.slices import contents\n"
        "pixels = contents(resolution=16, widths=(64, 0), scale=30.0).images()\n"
        "print(zlib.crc32(pixels.tobytes()))\n"
    )
    root = Path(__file__).parents[3]
    environment = {
        **os.environ,
        "OPENBLAS_CORETYPE": kernel,
        "OPENBLAS_NUM_THREADS": threads,
    }
    command = [sys.executable, "-c", code, str(root), str(root / "workflow")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(result.stdout) == zlib.crc32(written.images().tobytes())
