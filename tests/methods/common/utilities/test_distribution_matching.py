import pytest
import torch
from stillhouse.data.transforms import normalise
from stillhouse.methods.common.utilities import distribution_matching
from stillhouse.methods.common.utilities.distribution_matching import (
    DistributionMatching,
    chunks,
    rows_of_classes,
)
from stillhouse.methods.common.utilities.networks import random_network
from stillhouse.methods.common.utilities.siamese import augment_classes
from stillhouse.methods.common.utilities.work import of_update

from tests.methods.common.utilities.conftest import DEEP, NETWORK, SETTINGS


@pytest.fixture
def utility(real, siamese):
    """Return a function that makes a `DistributionMatching`."""

    def utility(operations=("color", "crop", "scale"), **changes):
        return DistributionMatching({**SETTINGS, **changes}, real, siamese(operations))

    return utility


def naive(utility, images, labels, iteration):
    """Return (loss, gradient) of equation 6, one class after the other."""
    net = random_network(utility.settings, 0, iteration, images.device)
    leaf, loss = images.clone().requires_grad_(True), 0.0
    for label in sorted(set(labels.tolist())):
        drawn = utility.siamese.of_classes([label], iteration)
        rows = utility.real.rows(label, utility.settings["real_images"], iteration)
        real = normalise(utility.real.pixels[torch.from_numpy(rows)])
        own = normalise(255 * leaf[labels == label])
        means = [
            net.features(augment_classes(part, {label: len(part)}, drawn)).flatten(1).mean(0)
            for part in (real, own)
        ]
        loss = loss + ((means[0] - means[1]) ** 2).sum()
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("iteration", [0, 1, 5])
def test_the_loss_is_the_distance_of_mean_embeddings(utility, images, iteration):
    one = utility()
    loss, gradient = one(*images, iteration)
    wanted_loss, wanted = naive(one, *images, iteration)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert gradient.shape == images[0].shape and not gradient.requires_grad


def test_all_images_of_a_class_have_no_distance_from_themselves(utility, real):
    one = utility([], real_images=100)
    labels = torch.tensor([0] * 9 + [1] * 6 + [2] * 7)
    loss, gradient = one(real.pixels.float() / 255, labels, 3)
    assert loss < 1e-9 and gradient.abs().max() < 1e-5


def test_chunks_do_not_change_the_gradient(utility, images, monkeypatch):
    whole = utility()(*images, 2)
    monkeypatch.setattr(distribution_matching, "CHUNK", 1)
    parts = utility()(*images, 2)
    assert whole[0] == pytest.approx(parts[0], rel=1e-5)
    torch.testing.assert_close(whole[1], parts[1], rtol=1e-4, atol=1e-6)


def test_an_order_of_images_orders_the_gradient(utility, images):
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    loss, gradient = utility()(*images, 2)
    other_loss, other = utility()(images[0][order], images[1][order], 2)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(other, gradient[order], rtol=1e-4, atol=1e-6)


def test_a_class_alone_has_the_gradient_that_it_has_among_others(utility, images):
    pixels, labels = images
    _, gradient = utility()(pixels, labels, 4)
    _, alone = utility()(pixels[labels == 0], labels[labels == 0], 4)
    torch.testing.assert_close(alone, gradient[labels == 0], rtol=1e-4, atol=1e-6)


def test_iterations_do_not_depend_on_those_before(utility, images):
    one = utility()
    before = [one(*images, iteration) for iteration in range(3)]
    loss, gradient = utility()(*images, 2)
    assert loss == before[2][0] and torch.equal(gradient, before[2][1])
    assert len({loss for loss, _ in before}) == 3
    assert one.state() == {} and one.learning_rate is None
    one.restore({})
    with pytest.raises(ValueError, match="has no state"):
        one.restore({"a": 1})


def test_batch_norms_have_the_statistics_of_all_classes(utility, images, monkeypatch):
    one = utility([], network={**NETWORK, "norm": "batch"})
    monkeypatch.setattr(distribution_matching, "CHUNK", 1)
    loss, _ = one(*images, 0)
    net = random_network(one.settings, 0, 0, images[0].device)
    rows = rows_of_classes(images[1])
    ordered = images[0][torch.cat(list(rows.values()))]
    own = net.features(normalise(255 * ordered)).flatten(1).split([len(r) for r in rows.values()])
    real = net.features(one.real.draw(rows, 5, 0)).flatten(1).split([5, 5, 5])
    distances = [
        ((a.mean(0) - b.mean(0)) ** 2).sum().item() for a, b in zip(own, real, strict=True)
    ]
    assert loss == pytest.approx(sum(distances), rel=1e-5)


def test_chunks_are_whole_classes():
    sizes = {0: 3, 4: 2, 7: 9, 8: 1}
    assert chunks(sizes, 5) == [{0: 3, 4: 2}, {7: 9}, {8: 1}]
    assert chunks(sizes, 1) == [{0: 3}, {4: 2}, {7: 9}, {8: 1}]
    assert chunks(sizes, None) == [sizes]


def test_a_descent_lowers_the_loss_of_other_networks(utility, images):
    one, (pixels, labels) = utility([]), images

    def mean_loss(pixels):
        return sum(one(pixels, labels, i)[0] for i in range(100, 110))

    moved = pixels.clone()
    for i in range(30):
        moved -= 0.02 * one(moved, labels, i)[1]
    assert mean_loss(moved) < 0.9 * mean_loss(pixels)


def test_its_cost_is_what_torch_counts(utility, passes):
    one = utility(network=DEEP)
    expected, _, _ = of_update({**one.settings, "utility": "dm"}, 3, 6)
    assert passes(one, 4) == pytest.approx(expected, rel=0.1)
