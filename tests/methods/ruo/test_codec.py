"""The codec in torch against straightforward versions of its parts."""

import numpy as np
import pytest
import torch
from scipy import stats
from stillhouse.artifacts.rng import generator
from stillhouse.data.bitstream.layout import STREAMS, Layout, context_offsets
from stillhouse.methods.ruo import codec as codecs
from stillhouse.methods.ruo import tiles
from stillhouse.methods.ruo.codec import Codec
from torch.nn import functional


def random_codec(resolution=8, widths=(12, 0), context=8, depth=2, n=3):
    """Return a codec, a vector with random networks, and integer latents."""
    codec = Codec(Layout(resolution, widths, context, depth), n)
    rng = generator(0, "test codec")
    vector = codec.initial(rng)
    noise = torch.from_numpy(rng.standard_normal(len(vector), np.float32))
    return codec, vector + 0.1 * noise, (3 * noise[: codec.n_latents]).round()


def test_the_initial_kernel_is_bicubic_enlargement():
    images = torch.rand(2, 3, 7, 7)
    expected = functional.interpolate(images, scale_factor=2, mode="bicubic")
    result = codecs.upsample(images, codecs.bicubic_kernel())
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_upsampling_is_the_padded_and_cropped_transposed_convolution():
    images, kernel = torch.rand(2, 3, 5, 5), torch.randn(8, 8)
    padded = functional.pad(images.view(6, 1, 5, 5), (4, 4, 4, 4), mode="replicate")
    out = functional.conv_transpose2d(padded, kernel[None, None], stride=2)
    expected = out[:, :, 11:-11, 11:-11].view(2, 3, 10, 10)
    torch.testing.assert_close(codecs.upsample(images, kernel), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("widths", [(12, 0), (12, 5)])
def test_images_are_those_of_torch_s_own_layers(widths):
    codec, vector, latents = random_codec(widths=widths)
    networks = codec.parts(vector)[1]
    weights, biases = networks["decoder_weights"], networks["decoder_biases"]
    grids = codec.grids(latents)
    stack = grids[-1][:, None]
    for grid in grids[-2::-1]:
        finer = codecs.upsample(stack.transpose(0, 1), networks["upsampling_weights"][0])
        finer = finer.transpose(0, 1)[:, :, : grid.shape[1], : grid.shape[1]]
        stack = torch.cat([grid[:, None], finer], 1)
    x = stack
    for weight, bias in zip(weights[:-3], biases[:-3], strict=True):
        x = functional.conv2d(x, weight[:, :, None, None], bias).relu()
    x = functional.conv2d(x, weights[-3][:, :, None, None], biases[-3])
    for number, activation in ((-2, torch.relu), (-1, lambda value: value)):
        padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        x = activation(x + functional.conv2d(padded, weights[number], biases[number]))
    torch.testing.assert_close(codec.images(latents, networks), x, atol=1e-5, rtol=1e-5)


def test_bits_are_those_of_each_latent_s_own_context():
    codec, vector, latents = random_codec(context=16)
    networks = codec.parts(vector)[1]
    total = 0.0
    for grid in codec.grids(latents):
        for n, i, j in np.ndindex(*grid.shape):
            near = [(i + di, j + dj) for di, dj in context_offsets(16)]
            side = grid.shape[1]
            x = torch.tensor(
                [grid[n, a, b] if 0 <= a < side and 0 <= b < side else 0.0 for a, b in near]
            )
            weights, biases = networks["entropy_weights"], networks["entropy_biases"]
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                x = (weight @ x + bias + x).relu()
            mean, raw = weights[-1] @ x + biases[-1]
            laplace = stats.laplace(float(mean), float(torch.exp((raw - 4).clamp(-4.6, 5.0))))
            value = float(grid[n, i, j])
            chance = laplace.cdf(value + 0.5) - laplace.cdf(value - 0.5)
            total -= np.log2(max(chance, 2.0**-16))
    assert float(codec.bits(latents, networks)) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("log_scale", [-4.6, -1.0, 0.0, 2.5, 5.0])
def test_laplace_bits_are_finite_and_exact(log_scale):
    difference = torch.linspace(-40, 40, 161, dtype=torch.float64).requires_grad_(True)
    bits = codecs.laplace_bits(difference, torch.full_like(difference, log_scale))
    laplace = stats.laplace(0, np.exp(log_scale))
    edges = difference.detach().abs().numpy()
    chance = laplace.sf(edges - 0.5) - laplace.sf(edges + 0.5)
    expected = -np.log2(np.maximum(chance, 2.0**-16))
    np.testing.assert_allclose(bits.detach().numpy(), expected, rtol=1e-7, atol=1e-9)
    bits.sum().backward()
    assert torch.isfinite(difference.grad).all()


def test_tiles_have_the_gradients_of_the_whole(monkeypatch):
    results = []
    for values in (2**18, 60):
        monkeypatch.setitem(tiles.TILE_VALUES, "cpu", values)
        codec, vector, latents = random_codec()
        leaf, inputs = vector.clone().requires_grad_(True), latents.clone().requires_grad_(True)
        networks = codec.parts(leaf)[1]
        images = codec.images(inputs, networks)
        loss = (images**2).sum() + codec.bits(inputs, networks)
        loss.backward()
        results.append((loss.detach(), leaf.grad, inputs.grad))
    for own, tiled in zip(*results, strict=True):
        torch.testing.assert_close(tiled, own, atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_finite_differences():
    codec, vector, latents = random_codec(resolution=4, widths=(3, 0), n=1)
    inputs = (latents + 0.2).double()
    networks = {
        name: [part.double() for part in parts] for name, parts in codec.parts(vector)[1].items()
    }

    def loss(values):
        return codec.images(values, networks).sum(), codec.bits(values, networks)

    assert torch.autograd.gradcheck(loss, inputs.requires_grad_(True), eps=1e-5, atol=1e-4)


def test_initial_networks_are_those_of_the_code():
    codec = Codec(Layout(16, (40, 0), 16, 2), 2)
    latents, networks = codec.parts(codec.initial(generator(0, "test")))
    assert float(latents.abs().max()) <= 0.05
    assert [name for name in networks] == list(STREAMS)
    first, second, *spatial = networks["decoder_weights"]
    assert float(first.abs().max()) <= 5**-0.5 / 1600 < 1.2 * float(first.abs().max())
    assert float(second.abs().max()) <= 40**-0.5 / 9 < 1.2 * float(second.abs().max())
    *hidden, last = networks["entropy_weights"]
    assert float(last.std()) == pytest.approx(0.25, rel=0.4)
    zero = [*spatial, *hidden, *networks["entropy_biases"], *networks["decoder_biases"]]
    assert not any(part.any() for part in zero)
