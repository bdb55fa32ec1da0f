import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data import boxes
from stillhouse.data.boxes import centre_box
from stillhouse.data.class_images import IMAGES_SCHEMA
from stillhouse.data.codecs import encode
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.errors import StillhouseError
from stillhouse.methods.ddps import class_scores

functional = torch.nn.functional
BOX = ("top", "left", "height", "width")
SETTINGS = {"draws": 5, "timesteps": [0.1, 0.7]}


class Dummy:
    """A denoiser whose output depends on neighbours, timestep and condition."""

    schedule = NoiseSchedule.from_config({"num_train_timesteps": 100})
    factor, device = 2, torch.device("cpu")
    null = torch.tensor([9])

    def __init__(self):
        self.conditions = []

    def check_finite(self, values, name):
        assert values.isfinite().all(), name

    def condition(self, class_id):
        return torch.tensor([len(class_id)])

    def predict(self, latents, timestep, condition):
        assert len(latents) == len(timestep) == len(condition)
        self.conditions.append(condition.tolist())
        share = (timestep / 100 + condition / 10).view(-1, 1, 1, 1)
        return torch.tanh(latents * share + latents.roll(1, 3) - 0.3 * latents.roll(1, 2))


def stacks_of(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in shapes]


def naive_maps(stack, denoiser, class_id, settings, seed):
    """Score one image and one draw at a time, with a grid of all errors."""
    (_, *size), grid = stack.shape, []
    for draw in range(settings["draws"]):
        uniform = generator(seed, "class scores", class_id, draw).random()
        low, high = (round(share * 100) for share in settings["timesteps"])
        timestep = low + int(uniform * (high - low))
        rng = generator(seed, "class scores", class_id, f"{draw} {'x'.join(map(str, size))}")
        noise = torch.from_numpy(rng.standard_normal(size, np.float32))
        for latent in stack:
            alpha = float(denoiser.schedule.alphas[timestep])
            noisy = (alpha**0.5 * latent + (1 - alpha) ** 0.5 * noise)[None]
            losses = [
                (denoiser.predict(noisy, torch.tensor([timestep]), condition)[0] - noise) ** 2
                for condition in (denoiser.null, denoiser.condition(class_id))
            ]
            grid.append((losses[0] - losses[1]).mean(0))
    return torch.stack(grid).unflatten(0, (settings["draws"], -1)).double().mean(0)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_maps_are_those_of_single_images_and_draws(batch_size):
    stacks = stacks_of((10, 3, 4, 4), (3, 3, 4, 6))
    actual = class_scores.score_maps(
        stacks, Dummy(), "cat", SETTINGS, 1, Context(batch_size=batch_size)
    )
    for stack, maps in zip(stacks, actual, strict=True):
        assert maps.dtype == torch.float64
        wanted = naive_maps(stack, Dummy(), "cat", SETTINGS, 1)
        np.testing.assert_allclose(maps, wanted, atol=1e-6)


@pytest.mark.parametrize(("seconds", "saved"), [(0, 3), (1000, 0)])
def test_a_killed_job_resumes_after_a_pass(tmp_path, seconds, saved):
    class Killed(Dummy):
        def predict(self, *arguments):
            if len(self.conditions) == 3:
                raise KeyboardInterrupt
            return super().predict(*arguments)

    stacks, context = (
        stacks_of((10, 3, 4, 4), (3, 3, 4, 6)),
        Context(batch_size=10, work=tmp_path, checkpoint_seconds=seconds),
    )
    undisturbed = class_scores.score_maps(
        stacks, Dummy(), "cat", SETTINGS, 1, Context(batch_size=10)
    )
    with pytest.raises(KeyboardInterrupt):
        class_scores.score_maps(stacks, Killed(), "cat", SETTINGS, 1, context)
    second = Dummy()
    actual = class_scores.score_maps(stacks, second, "cat", SETTINGS, 1, context)
    assert len(second.conditions) == 7 - saved
    assert all(map(torch.equal, actual, undisturbed))
    # Passes of another size are other passes.
    third, other = Dummy(), Context(batch_size=64, work=tmp_path)
    class_scores.score_maps(stacks, third, "cat", SETTINGS, 1, other)
    assert len(third.conditions) == 2


@pytest.mark.parametrize("batch_size, calls", [(1, 65), (3, 22), (7, 11), (10, 7), (64, 2)])
def test_passes_are_full_and_hold_both_conditions(batch_size, calls):
    denoiser = Dummy()
    stacks = stacks_of((10, 3, 4, 4), (3, 3, 4, 6))
    class_scores.score_maps(stacks, denoiser, "cat", SETTINGS, 0, Context(batch_size=batch_size))
    assert len(denoiser.conditions) == calls
    for condition in denoiser.conditions:
        half = len(condition) // 2
        assert half <= batch_size
        assert condition == [3] * half + [9] * half


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 40))
def test_passes_cover_every_image_with_every_draw_once(n_images, n_draws, batch_size):
    (stack,) = stacks_of((n_images, 1, 1, 1))
    timesteps, noise = torch.arange(n_draws), torch.arange(n_draws).view(-1, 1, 1, 1) / 10
    parts = class_scores.noised(
        [stack], Dummy(), lambda size: (timesteps, noise), n_draws, batch_size, "passes"
    )
    pairs = []
    for _, rows, noisy, added, levels in parts:
        assert len(rows) == batch_size or len(pairs) + len(rows) == n_images * n_draws
        assert torch.equal(noisy, Dummy.schedule.add_noise(stack[rows], added, levels))
        assert torch.equal(added[:, 0, 0, 0], levels / 10)
        pairs += zip(rows.tolist(), levels.tolist(), strict=True)
    assert sorted(pairs) == [(i, d) for i in range(n_images) for d in range(n_draws)]


def test_an_image_that_the_class_condition_helps_scores_above_zero():
    class Conditional(Dummy):
        """Predicts the noise in a latent of ones, but only with the class as condition."""

        def predict(self, latents, timestep, condition):
            alpha = torch.from_numpy(self.schedule.alphas[timestep]).view(-1, 1, 1, 1)
            noise = (latents - alpha.sqrt()) / (1 - alpha).sqrt()
            return torch.where((condition == 9).view(-1, 1, 1, 1), 0, noise).float()

    stack = torch.ones(2, 3, 4, 4)
    stack[1, :, :, 2:] = 40  # other values in the right half
    (maps,) = class_scores.score_maps(
        [stack], Conditional(), "cat", SETTINGS, 0, Context(batch_size=8)
    )
    assert maps[0].min() > 0
    assert maps[1, :, :2].min() > 0 > maps[1, :, 2:].max()


def test_timesteps_and_noise_are_shared_by_images_and_prefixes_of_more():
    times, noise = class_scores.pairs((3, 4, 6), 9, (0.1, 0.7), 1000, 5, "cat")
    fewer = class_scores.pairs((3, 4, 6), 4, (0.1, 0.7), 1000, 5, "cat")
    assert torch.equal(fewer[0], times[:4]) and torch.equal(fewer[1], noise[:4])
    other = class_scores.pairs((3, 6, 4), 9, (0.1, 0.7), 1000, 5, "cat")
    assert torch.equal(other[0], times) and not torch.equal(other[1].reshape(noise.shape), noise)
    for seed, class_id in ((6, "cat"), (5, "dog")):
        changed = class_scores.pairs((3, 4, 6), 9, (0.1, 0.7), 1000, seed, class_id)
        assert not torch.equal(changed[0], times) and not torch.equal(changed[1], noise)
    assert len({part.sum().item() for part in noise}) == 9


def test_timesteps_fill_the_span_and_no_more():
    times, noise = class_scores.pairs((1, 4, 4), 3000, (0.1, 0.7), 20, 0, "cat")
    counts = torch.bincount(times, minlength=20)
    assert counts[:2].sum() == counts[14:].sum() == 0
    assert counts[2:14].min() > 150
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02


@pytest.mark.parametrize("size", [(4, 4), (4, 7), (5, 3)])
@pytest.mark.parametrize("factor, patch", [(8, 24), (8, 9), (2, 1), (2, 6)])
def test_the_best_patch_is_that_of_pooled_pixels(size, factor, patch):
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(6, *size)))
    big = [extent * factor for extent in size]
    pixels = functional.interpolate(maps[:, None], big, mode="bilinear", align_corners=False)
    pooled = functional.avg_pool2d(pixels, patch, stride=1)[:, 0]
    tops, lefts, scores = class_scores.best_patches(maps, factor, patch)
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        best = np.unravel_index(int(pooled[i].argmax()), tuple(pooled[i].shape))
        assert (top, left) == best
        window = pixels[i, 0, top : top + patch, left : left + patch]
        assert scores[i] == pytest.approx(window.mean().item(), rel=1e-6)


def test_the_first_of_tied_patches_wins():
    tops, lefts, _ = class_scores.best_patches(torch.full((1, 4, 6), 1 / 3).double(), 8, 20)
    assert (tops[0], lefts[0]) == (0, 0)
    twice = torch.zeros(1, 4, 9, dtype=torch.float64)
    twice[0, 1, [2, 6]] = 0.7  # left and right of the middle
    _, lefts, _ = class_scores.best_patches(twice, 8, 8)
    assert lefts[0] + 4 == 2.5 * 8


@given(st.data())
def test_boxes_stay_inside_the_source(data):
    height, width = (data.draw(st.integers(1, 60)) for _ in range(2))
    size = np.array([data.draw(st.integers(1, 9)) * 8 for _ in range(2)])
    patch = data.draw(st.integers(1, int(size.min())))
    corner = [data.draw(st.integers(0, int(extent) - patch)) for extent in size]
    for shape in ("aspect", "square"):
        region = boxes.region_of(shape, height, width)
        actual = class_scores.to_source(np.array([*corner, patch, patch]), size, region)
        assert actual.dtype == np.int64 and (actual[2:] >= 1).all()
        assert (actual[:2] >= region[:2]).all()
        assert (actual[:2] + actual[2:] <= region[:2] + region[2:]).all()


def test_boxes_are_scaled_and_moved_to_the_region():
    region = np.array([0, 0, 512, 1000])
    actual = class_scores.to_source(np.array([16, 100, 224, 224]), np.array([256, 496]), region)
    assert actual.tolist() == [32, 202, 448, 452]
    square = np.array([0, 100, 300, 300])
    actual = class_scores.to_source(np.array([0, 32, 224, 224]), np.array([256, 256]), square)
    assert actual.tolist() == [0, 138, 262, 262]


SIZES = [(12, 8), (8, 8), (12, 8), (9, 17), (8, 8)]


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Return a function that scores a class of random images with the dummy denoiser."""
    denoiser = Dummy()
    monkeypatch.setattr(class_scores, "load_denoiser", lambda *arguments: denoiser)

    def score(sizes=SIZES, shape="aspect", batch_size=4, class_id="cat", seed=0, **changes):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        settings = {"latents": "mode", "images_per_class": 99, "patch": 6, **SETTINGS, **changes}
        inputs = {"denoiser": folder / "denoiser.json", **files(folder, class_id, sizes, shape)}
        spec = {"settings": settings, "keys": {"seed": seed}}
        make = class_scores.class_scores(inputs, spec, Context())
        table = make(class_id, Context(batch_size=batch_size))["scores.parquet"]
        assert table.schema.equals(class_scores.SCHEMA)
        store.write(folder / "stored", {"address": str(folder / "stored")}, {"s.parquet": table})
        return store.read_table(folder / "stored" / "s.parquet").to_pylist()

    return score


def latents_of(size, shape, channels, side, rng):
    """Return random latents whose shorter side has `side` positions, and (c, h, w)."""
    height, width = size
    if shape == "square":
        height = width = min(size)
    scale = side / min(height, width)
    places = (channels, round(height * scale), round(width * scale))
    return rng.standard_normal(places, np.float32), places


def files(folder, class_id, sizes, shape, channels=2, side=4, seed=3):
    """Write images and latents of a class like their stages."""
    rng = np.random.default_rng(seed)
    names = [f"{i:02d}" for i in range(len(sizes))]
    pixels = [rng.integers(0, 256, (3, *size), dtype=np.uint8) for size in sizes]
    means, places = zip(
        *(latents_of(size, shape, channels, side, rng) for size in sizes), strict=True
    )
    flat = torch.from_numpy(np.concatenate([mean.ravel() for mean in means]))
    images = pa.table(
        {
            "image": [{"bytes": encode(image, "png"), "path": ""} for image in pixels],
            "class_id": [class_id] * len(names),
            "image_id": names,
            "split": ["train"] * len(names),
        },
        schema=IMAGES_SCHEMA,
    )
    tensors = {"mean": flat, "std": flat.abs(), "sizes": torch.tensor(places, dtype=torch.int32)}
    content = {
        "images": {"images.parquet": images},
        "latents": {"latents.safetensors": tensors, "images.json": names},
    }
    for name, files_of_stage in content.items():
        spec = {"address": str(folder / name / class_id), "settings": {"shape": shape}}
        store.write(folder / name / class_id, spec, files_of_stage)
    return {
        name: {class_id: folder / name / class_id / next(iter(files_of_stage))}
        for name, files_of_stage in content.items()
    }


def test_the_table_has_the_best_patch_of_every_image(stage):
    rows = stage()
    assert sorted(row["image_id"] for row in rows) == ["00", "01", "02", "03", "04"]
    for row in rows:
        height, width = SIZES[int(row["image_id"])]
        assert row["top"] + row["height"] <= height and row["left"] + row["width"] <= width
        # 6 of 8 px of the short side, at any size in the source.
        assert row["height"] == pytest.approx(6 / 8 * min(height, width), abs=1)
        assert row["width"] == pytest.approx(6 / 8 * min(height, width), abs=1)
        assert len(row["map"]) % row["map_height"] == 0


def test_the_best_patch_lies_where_the_map_is_highest(stage):
    for row in stage():
        grid = torch.tensor(row["map"], dtype=torch.float64).view(1, row["map_height"], -1)
        tops, lefts, scores = class_scores.best_patches(grid, 2, 6)
        height, width = SIZES[int(row["image_id"])]
        size = np.array(grid.shape[1:]) * 2
        box = np.array([tops[0], lefts[0], 6, 6])
        wanted = class_scores.to_source(box, size, np.array([0, 0, height, width]))
        assert [row[name] for name in BOX] == wanted.tolist()
        assert row["score"] == pytest.approx(scores[0], abs=2e-3)


@pytest.mark.parametrize("patch", [0, 6])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_scores_do_not_depend_on_the_batch(stage, patch, batch_size):
    for row, wanted in zip(
        stage(patch=patch, batch_size=batch_size), stage(patch=patch), strict=True
    ):
        assert [row[name] for name in BOX] == [wanted[name] for name in BOX]
        assert row["score"] == pytest.approx(wanted["score"], abs=1e-6)


def test_the_score_of_a_complete_image_is_the_mean_of_its_map(stage):
    for row in stage(patch=0, shape="square"):
        box = centre_box(*SIZES[int(row["image_id"])]).tolist()
        assert [row[name] for name in BOX] == box
        assert row["score"] == pytest.approx(np.mean(row["map"], dtype=float), abs=1e-3)
        assert row["map_height"] == 4


def test_patches_of_square_latents_lie_in_the_square(stage):
    for row in stage(shape="square"):
        top, left, height, width = centre_box(*SIZES[int(row["image_id"])]).tolist()
        assert top <= row["top"] and row["top"] + row["height"] <= top + height
        assert left <= row["left"] and row["left"] + row["width"] <= left + width


def test_maps_are_stored_of_the_ten_best(stage):
    rows = stage([(8, 8)] * 13, patch=0)
    best = sorted(rows, key=lambda row: -row["score"])
    assert all(row["map"] is not None and row["map_height"] == 4 for row in best[:10])
    assert all(row["map"] is None and row["map_height"] is None for row in best[10:])


def test_fewer_images_are_a_prefix_and_score_the_same(stage):
    rows, fewer = stage(images_per_class="all"), stage(images_per_class=3)
    assert rows == stage(images_per_class=99)
    assert len(rows) == len(SIZES)
    assert len(fewer) == 3
    for row, wanted in zip(fewer, rows[:3], strict=True):
        assert [row[name] for name in ("image_id", *BOX)] == [
            wanted[name] for name in ("image_id", *BOX)
        ]
        assert row["score"] == pytest.approx(wanted["score"], abs=1e-6)


def test_seed_class_and_posterior_matter(stage):
    def scores(**settings):
        return [row["score"] for row in stage(**settings)]

    plain = scores(images_per_class=5)
    assert plain == scores()
    for change in ({"seed": 1}, {"class_id": "mouse"}, {"latents": "sample"}, {"draws": 6}):
        assert sorted(scores(**change)) != sorted(plain)


def test_a_patch_larger_than_an_image_is_an_error_of_one_line(stage):
    assert stage(patch=8)
    with pytest.raises(
        StillhouseError, match=r"8 x 12 px .* must be at most 8, or whole"
    ) as caught:
        stage([(12, 8)], patch=9)
    assert "\n" not in str(caught.value)
