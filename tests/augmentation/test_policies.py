import numpy as np
import pytest
from stillhouse.augmentation import policies
from stillhouse.augmentation.ops import NAMES

SIDE = 32


def draw(n=20, seed=0, epoch=0, order=None, batch_size=8, **settings):
    order = np.arange(n) if order is None else order
    return policies.draw(settings, seed, epoch, order, SIDE, batch_size, "views")


def names(ops):
    return np.array(NAMES)[ops]


def test_without_policies_there_are_no_operations():
    ops, magnitudes = draw()
    assert ops.shape == magnitudes.shape == (20, 0)


@pytest.mark.parametrize("m", [0, 3, 9, 17, 30])
def test_magnitudes_are_torchvisions(m):
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    space = autoaugment.RandAugment()._augmentation_space(31, (SIDE, SIDE))
    assert sorted(space) == sorted(policies.RANDAUGMENT)
    ops, magnitudes = draw(n=500, randaugment={"n": 2, "m": m})
    for name, actual in zip(names(ops).ravel(), magnitudes.ravel(), strict=True):
        strengths, signed = space[name]
        wanted = float(strengths[m]) if strengths.ndim else 0.0
        if name.startswith("Translate"):
            wanted = int(wanted)
        assert abs(actual) == pytest.approx(wanted, abs=1e-4)
        assert actual >= 0 or signed


def test_operations_and_signs_are_spread():
    ops, magnitudes = draw(n=7000, randaugment={"n": 2, "m": 9})
    for column in range(2):
        actual, counts = np.unique(names(ops[:, column]), return_counts=True)
        assert sorted(actual) == sorted(policies.RANDAUGMENT)
        assert (np.abs(counts - 500) < 100).all()
    signed = np.isin(names(ops), list(policies.STRONGEST))
    assert (magnitudes[signed] < 0).mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(ops[:, 0], ops[:, 1])[0, 1]) < 0.05


def test_operations_depend_on_the_row_alone():
    def of(n, **changes):
        return draw(n, randaugment={"n": 2, "m": 9}, **changes)

    small, large = of(10), of(30)
    assert small[0].tolist() == large[0][:10].tolist()
    assert small[1].tolist() == large[1][:10].tolist()
    order = np.array([3, 1, 2, 0])
    assert of(4, order=order)[0].tolist() == of(4)[0][order].tolist()
    assert of(10, batch_size=3)[0].tolist() == small[0].tolist()
    for changes in ({"epoch": 1}, {"seed": 1}):
        assert of(10, **changes)[0].tolist() != small[0].tolist()
    # Fewer operations are a prefix of more.
    more = draw(10, randaugment={"n": 4, "m": 9})
    assert more[0][:, :2].tolist() == small[0].tolist()


def test_jitter_is_uniform_in_a_uniform_order():
    ops, magnitudes = draw(n=6000, jitter=0.4)
    orders, counts = np.unique(names(ops), axis=0, return_counts=True)
    assert len(orders) == 6
    assert (np.abs(counts - 1000) < 150).all()
    assert {tuple(sorted(order)) for order in orders} == {("brightness", "contrast", "saturation")}
    assert np.abs(magnitudes).max() == pytest.approx(0.4, abs=1e-3)
    assert magnitudes.std() == pytest.approx(0.4 / 3**0.5, rel=0.02)
    assert np.abs(np.corrcoef(magnitudes.T) - np.eye(3)).max() < 0.05


def test_lighting_is_normal():
    ops, magnitudes = draw(n=6000, lighting=0.1)
    assert names(ops[0]).tolist() == ["lighting1", "lighting2", "lighting3"]
    assert (ops == ops[0]).all()
    assert magnitudes.mean() == pytest.approx(0, abs=0.005)
    assert magnitudes.std() == pytest.approx(0.1, rel=0.03)
    assert (np.abs(magnitudes) < 0.1).mean() == pytest.approx(0.683, abs=0.02)
    assert np.isfinite(policies.lighting(np.array([[0.0, 0.5, 1 - 2**-53]]), 0.1)[1]).all()


def test_policies_are_concatenated_and_independent():
    both = draw(randaugment={"n": 2, "m": 9}, jitter=0.4, lighting=0.1)
    alone = [draw(randaugment={"n": 2, "m": 9}), draw(jitter=0.4), draw(lighting=0.1)]
    for actual, parts in zip(both, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(actual, np.concatenate(parts, 1))


ALL = ["color", "crop", "cutout", "flip", "scale", "rotate"]
PARTS = {
    "color": ["siamese_brightness", "siamese_saturation", "siamese_contrast"],
    "crop": ["siamese_crop_y", "siamese_crop_x", "Identity"],
    "cutout": ["siamese_cutout", "Identity", "Identity"],
    "flip": ["siamese_flip", "Identity", "Identity"],
    "scale": ["siamese_scale_x", "siamese_scale_y", "Identity"],
    "rotate": ["siamese_rotate", "Identity", "Identity"],
}


def test_a_batch_has_one_siamese_operation():
    ops, _ = draw(n=1203, siamese={"operations": ALL, "per": "row"}, batch_size=2)
    seen = []
    for first in range(0, 1203, 2):
        rows = names(ops[first : first + 2])
        (group,) = (g for g, parts in PARTS.items() if rows[0].tolist() == parts)
        assert (rows == rows[0]).all()
        seen.append(group)
    counts = [seen.count(group) for group in ALL]
    assert all(abs(count - 100) < 40 for count in counts)
    few = draw(n=100, siamese={"operations": ["flip", "crop"], "per": "row"}, batch_size=1)[0]
    assert set(names(few[:, 0])) == {"siamese_flip", "siamese_crop_y"}


# Range of each, and its mean, for images of 32 pixels.
RANGES = {
    "siamese_brightness": (-0.5, 0.5, 0),
    "siamese_saturation": (0, 2, 1),
    "siamese_contrast": (0.5, 1.5, 1),
    "siamese_crop_y": (-4, 4, 0),
    "siamese_crop_x": (-4, 4, 0),
    "siamese_flip": (0, 1, 0.5),
    "siamese_scale_x": (1 / 1.2, 1.2, (1 / 1.2 + 1.2) / 2),
    "siamese_scale_y": (1 / 1.2, 1.2, (1 / 1.2 + 1.2) / 2),
    "siamese_rotate": (-15, 15, 0),
}


def test_strengths_are_those_of_dsa():
    ops, magnitudes = draw(n=12000, siamese={"operations": ALL, "per": "row"}, batch_size=1)
    for name, (low, high, mean) in RANGES.items():
        actual = magnitudes[names(ops) == name]
        room = (high - low) / 50
        assert actual.min() == pytest.approx(low, abs=room)
        assert actual.max() == pytest.approx(high, abs=room)
        assert actual.mean() == pytest.approx(mean, abs=(high - low) / 40)
    places = magnitudes[names(ops) == "siamese_cutout"]
    # A box of 16 pixels has 33 possible centres per axis.
    assert set(places // 33) == set(places % 33) == set(range(33))


def test_a_batch_may_share_its_strengths():
    for per, n_values in (("row", 8), ("batch", 1)):
        _, magnitudes = draw(n=32, siamese={"operations": ["rotate"], "per": per})
        assert [len(set(magnitudes[i : i + 8, 0])) for i in (0, 8, 16, 24)] == [n_values] * 4
        assert len(set(magnitudes[:, 0])) == 4 * n_values
