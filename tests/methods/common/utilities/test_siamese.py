import numpy as np
import pytest
import torch
from stillhouse.artifacts.rng import generator
from stillhouse.augmentation import ops, policies
from stillhouse.methods.common.utilities.siamese import augment, augment_classes

from tests.methods.common.utilities.conftest import ALL, SIDE


def batch(count):
    images = generator(2, "test").standard_normal((count, 3, SIDE, SIDE), np.float32)
    return torch.from_numpy(images)


@pytest.mark.parametrize("operation", ALL)
def test_a_class_has_one_operation_and_one_strength(siamese, operation):
    for iteration in range(5):
        drawn = siamese([operation]).of_classes([1], iteration)
        names = [ops.NAMES[number] for number, _ in drawn[1]]
        wanted = [f"siamese_{name}" for name in policies.SIAMESE[operation]]
        assert names == wanted + ["Identity"] * (3 - len(wanted))
        # An image that is repeated is changed alike.
        images = batch(1).expand(4, -1, -1, -1)
        changed = augment_classes(images, {1: 4}, drawn)
        assert torch.equal(changed, changed[:1].expand_as(changed))


def test_classes_are_changed_as_by_the_operations_row_by_row(siamese):
    sizes = {2: 3, 0: 2, 1: 4}
    for iteration in range(12):
        drawn = siamese().of_classes(sizes, iteration)
        images = batch(9)
        rows = [pair for label, size in sizes.items() for pair in [drawn[label]] * size]
        numbers = torch.tensor([[number for number, _ in row] for row in rows])
        magnitudes = torch.tensor([[magnitude for _, magnitude in row] for row in rows])
        wanted = ops.apply(images, numbers, magnitudes, "normalised")
        assert torch.equal(augment_classes(images, sizes, drawn), wanted)
        assert not torch.equal(wanted, images)


def test_draws_of_a_class_do_not_depend_on_other_classes(siamese):
    both, alone = siamese().of_classes([0, 1], 7), siamese().of_classes([1], 7)
    assert both[1] == alone[1] != siamese().of_classes([1], 8)[1]


def test_all_operations_are_drawn(siamese):
    drawn = [siamese().of_classes([0], i)[0][0][0] for i in range(60)]
    first = {f"siamese_{next(iter(names))}" for names in policies.SIAMESE.values()}
    assert {ops.NAMES[number] for number in drawn} == first


def test_a_step_has_one_operation_and_each_row_its_strength(siamese):
    steps = siamese().of_steps([4, 3, 4, 1], "test", 0)
    for count, (numbers, magnitudes) in zip([4, 3, 4, 1], steps, strict=True):
        assert numbers.shape == magnitudes.shape == (count, 3)
        assert (numbers == numbers[0]).all()
    assert len({tuple(row) for _, magnitudes in steps for row in magnitudes}) > 6
    again = siamese().of_steps([4, 3, 4, 1], "test", 0)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(steps, again, strict=True))


def test_no_operations_leave_images_as_they_are(siamese):
    images = batch(5)
    none = siamese([])
    assert torch.equal(augment_classes(images, {0: 5}, none.of_classes([0], 0)), images)
    assert torch.equal(augment(images, none.of_steps([5], "test", 0)[0]), images)


@pytest.mark.parametrize("operation", ALL)
def test_augmentation_is_differentiable(siamese, operation):
    drawn = siamese([operation]).of_classes([0], 1)
    images = batch(2).double().requires_grad_(True)

    def changed(images):
        return augment_classes(images, {0: 2}, drawn)

    # The affine maps are computed in float32.
    if operation in ("scale", "rotate"):
        images = images.detach().float().requires_grad_(True)
        (slope,) = torch.autograd.grad((changed(images) ** 2).sum(), images)
        step = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ends = [(changed(images + e * step) ** 2).sum().double() for e in (1e-2, -1e-2)]
        difference = ((ends[0] - ends[1]) / 2e-2).item()
        assert (slope * step).sum().item() == pytest.approx(difference, rel=1e-2)
    else:
        assert torch.autograd.gradcheck(changed, images)
