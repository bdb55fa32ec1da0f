import io

import numpy as np
import pipelines
import pyarrow as pa
import pytest
import torch
from PIL import Image
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data.class_images import IMAGES_SCHEMA, ClassImages
from stillhouse.data.transforms import cut
from stillhouse.diffusion import latents
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.errors import StillhouseError
from torchvision.transforms.v2.functional import resize

SIZES = [(8, 8), (16, 12), (8, 8), (10, 31), (24, 16), (12, 16), (8, 8), (31, 10)]


def picture(i, height, width):
    """Return a smooth picture, which resizing hardly changes, (3, height, width) uint8."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + i + c) * np.cos(y / 4 + c) for c in range(3)]
    return np.uint8(np.stack(waves) * 100 + 128)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {f"im{i}": picture(i, *size) for i, size in enumerate(SIZES)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pipelines.tiny_dit(tmp_path_factory.mktemp("pipeline") / "dit")


@pytest.fixture
def made(folder, empty):
    """Return a function that encodes class 1, and the denoiser."""
    path, roots = pipelines.denoiser(folder, "dit", "denoiser")
    source = empty / "results/images/x/1"
    rows = [
        {
            "image": {"bytes": png(image), "path": None},
            "class_id": "1",
            "image_id": name,
            "split": split,
        }
        for split, names in (("train", PICTURES), ("test", ["im1"]))
        for name, image in ((name, PICTURES[name]) for name in names)
    ]
    table = pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)
    store.write(source, {"address": str(source)}, {"images.parquet": table})

    def make(shape="square", batch_size=64):
        at = empty / f"results/latents/{shape}{batch_size}/1"
        settings = {"shape": shape, "precision": "float32"}
        spec = {"stage": "latents", "settings": settings, "keys": {"class_id": "1"}}
        spec["address"] = str(at.relative_to(empty))
        inputs = {"images": {"1": source / "images.parquet"}, "denoiser": path}
        context = Context(batch_size=batch_size, weight_folders=roots)
        store.write(at, spec, latents.latents(inputs, spec, context)("1", context))
        return latents.read(at / "latents.safetensors")

    denoiser = load_denoiser(path, {"precision": "float32"}, Context(weight_folders=roots))
    return make, denoiser


def test_squares_are_cut_from_the_middle_and_encoded(made):
    make, denoiser = made
    actual = make()
    assert actual.names == sorted(PICTURES) and len(actual) == len(SIZES)
    assert list(actual.by_size()) == [(4, 4, 4)]
    for i, name in enumerate(actual.names):
        image = torch.from_numpy(PICTURES[name])
        side = min(image.shape[1:])
        top, left = ((length - side) // 2 for length in image.shape[1:])
        square = image[:, top : top + side, left : left + side]
        shown = resize(square.float(), [8, 8], antialias=True)[None] / 127.5 - 1
        assert shown.min() < -0.2 and shown.max() > 0.2
        mean, std = denoiser.encode(shown)
        torch.testing.assert_close(actual.latent(i, "mode", "1"), mean[0], atol=1e-5, rtol=1e-4)
        rng = generator(0, "posterior", "1", name)
        draw = mean[0] + std[0] * torch.from_numpy(rng.standard_normal((4, 4, 4), np.float32))
        torch.testing.assert_close(actual.latent(i, "sample", "1"), draw, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(actual.latent(i, "sample", "2"), draw, atol=1e-3)
    stack = actual.stacked("sample", "1")
    assert stack.shape == (8, 4, 4, 4)
    assert torch.equal(stack[3], actual.latent(3, "sample", "1"))


def test_uncropped_images_keep_their_aspect(made):
    make, denoiser = made
    actual = make("aspect")
    sizes = {"im0": (4, 4), "im1": (5, 4), "im3": (4, 12), "im4": (6, 4), "im7": (12, 4)}
    for name, (height, width) in sizes.items():
        i = actual.names.index(name)
        assert actual.latent(i, "mode", "1").shape == (4, height, width)
        image = torch.from_numpy(PICTURES[name]).float()
        shown = resize(image, [height * 2, width * 2], antialias=True)[None] / 127.5 - 1
        mean, _ = denoiser.encode(shown)
        torch.testing.assert_close(actual.latent(i, "mode", "1"), mean[0], atol=1e-5, rtol=1e-4)
    groups = actual.by_size()
    assert groups[4, 4, 4] == [0, 2, 6] and sum(map(len, groups.values())) == 8
    with pytest.raises(StillhouseError, match="latents have 6 sizes"):
        actual.stacked("mode", "1")


@pytest.mark.parametrize("shape", ["square", "aspect"])
def test_latents_do_not_depend_on_the_batch_size(made, shape):
    make, _ = made
    all_at_once = make(shape)
    for batch_size in (1, 7):
        actual = make(shape, batch_size)
        assert actual.names == all_at_once.names
        np.testing.assert_array_equal(actual.sizes, all_at_once.sizes)
        torch.testing.assert_close(actual.mean, all_at_once.mean, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(actual.std, all_at_once.std, atol=1e-6, rtol=1e-5)


def test_never_more_than_a_batch_of_images_is_decoded(made, monkeypatch):
    _, denoiser = made
    calls, decode = [], latents.decode
    monkeypatch.setattr(latents, "decode", lambda *a: calls.append("decoded") or decode(*a))
    monkeypatch.setattr(denoiser, "encode", lambda x: calls.append(len(x)) or (x, x))
    rows = ClassImages({f"{i}": png(picture(0, 8, 8)) for i in range(5)}, lambda data: data)
    means, stds = latents.encode_rows(rows, denoiser, "square", 2)
    assert len(means) == len(stds) == 5
    assert calls == ["decoded", "decoded", 2, "decoded", "decoded", 2, "decoded", 1]


def test_resizing_is_that_of_crops():
    image = picture(2, 30, 20)
    actual = latents.resize(image, 12, 12, "cpu")
    wanted = cut(torch.from_numpy(image)[None], torch.tensor([[0, 0, 30, 20]]), 12)[0]
    torch.testing.assert_close(actual, wanted)
    assert latents.aspect_size(375, 500, 256, 8) == (256, 344)
    assert latents.aspect_size(500, 375, 256, 8) == (344, 256)
    assert latents.aspect_size(32, 32, 512, 8) == (512, 512)


def test_posterior_draws_are_standard_normal(made):
    make, _ = made
    actual = make()
    z = (actual.stacked("sample", "1") - actual.stacked("mode", "1")).flatten() / actual.std
    assert abs(z.mean()) < 0.2 and abs(z.std() - 1) < 0.15
    assert (actual.std > 0).all()
