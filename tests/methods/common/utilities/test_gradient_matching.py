import pytest
import torch
from stillhouse.data.transforms import normalise
from stillhouse.methods.common.utilities.gradient_matching import GradientMatching, layer_distance
from stillhouse.methods.common.utilities.networks import random_network
from stillhouse.methods.common.utilities.work import of_update
from torch.nn.functional import cosine_similarity, cross_entropy

from tests.methods.common.utilities.conftest import DEEP, SETTINGS

LOOPS = {"outer_steps": 3, "inner_epochs": 2, "inner_batch_size": 4, "network_rate": 0.1}


@pytest.fixture
def utility(real, siamese):
    """Return a function that makes a `GradientMatching`."""

    def utility(operations=(), **changes):
        return GradientMatching({**SETTINGS, **LOOPS, **changes}, real, siamese(operations))

    return utility


def test_the_distance_is_one_minus_cosine_per_output_unit():
    shapes = [(4, 3, 3, 3), (4,), (4,), (3, 16), (3,)]
    generator = torch.Generator().manual_seed(0)
    one, other = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    wanted = sum(
        1 - cosine_similarity(a[i].flatten(), b[i].flatten(), 0).item()
        for a, b in zip(one, other, strict=True)
        if a.ndim > 1
        for i in range(len(a))
    )
    assert layer_distance(one, other).item() == pytest.approx(wanted, rel=1e-4)
    assert layer_distance(one, [3 * part for part in one]).item() < 1e-4
    assert layer_distance(one, [-part for part in one]).item() == pytest.approx(2 * 7, rel=1e-4)


def test_the_loss_of_a_fresh_network_compares_the_gradients_of_each_class(utility, images):
    one, (pixels, labels) = utility(), images
    loss, gradient = one(pixels, labels, 0)
    net = random_network(one.settings, 0, 0, pixels.device).requires_grad_(True)
    leaf, wanted = pixels.clone().requires_grad_(True), 0.0
    for label in range(3):
        real = normalise(one.real.pixels[torch.from_numpy(one.real.rows(label, 5, 0))])
        own = normalise(255 * leaf[labels == label])
        slopes = [
            torch.autograd.grad(
                cross_entropy(net(part), torch.full((len(part),), label)),
                list(net.parameters()),
                create_graph=True,
            )
            for part in (own, real)
        ]
        wanted = wanted + layer_distance(slopes[0], [slope.detach() for slope in slopes[1]])
    assert loss == pytest.approx(wanted.item(), rel=1e-5)
    slope = torch.autograd.grad(wanted, leaf)[0]
    torch.testing.assert_close(gradient, slope, rtol=1e-3, atol=1e-6)


def test_the_network_is_trained_on_the_images_between_two_steps(utility, images):
    one, (pixels, labels) = utility(), images
    one(pixels, labels, 0)
    first = one.state()
    one(pixels, labels, 1)
    second = one.state()
    net = random_network(one.settings, 0, 0, pixels.device)

    def loss(state):
        net.load_state_dict({name.removeprefix("weight."): w for name, w in state.items()})
        return cross_entropy(net(normalise(255 * pixels)), labels).item()

    assert loss(second) < loss(first)


def test_any_iteration_may_be_the_first(utility, images):
    one, again = utility(), utility()
    for iteration in (10**9, 10**9 + 1):  # not divisible by three
        loss, _ = one(*images, iteration)
    again(*images, 10**9)
    assert again(*images, 10**9 + 1)[0] == loss


def test_a_network_lasts_for_the_outer_steps(utility, images):
    one = utility()
    states = []
    for iteration in range(6):
        one(*images, iteration)
        states.append(one.state()["weight.features.0.weight"])
    fresh = [
        random_network(one.settings, 0, number, images[0].device).features[0].weight
        for number in (0, 1)
    ]
    assert torch.equal(states[0], fresh[0]) and torch.equal(states[3], fresh[1])
    assert len({state.sum().item() for state in states}) == 6


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_a_restored_utility_continues_with_the_same_numbers(utility, images, done):
    one = utility(["crop", "rotate"])
    undisturbed = [one(*images, iteration) for iteration in range(6)]
    other = utility(["crop", "rotate"])
    for iteration in range(done):
        other(*images, iteration)
    resumed = utility(["crop", "rotate"])
    resumed.restore(other.state())
    for iteration in range(done, 6):
        loss, gradient = resumed(*images, iteration)
        assert loss == undisturbed[iteration][0]
        assert torch.equal(gradient, undisturbed[iteration][1])


def test_a_state_is_a_copy_and_undoes_an_evaluation(utility, images):
    one = utility()
    assert one.state() == {}
    one(*images, 0)
    before = one.state()
    kept = {name: weight.clone() for name, weight in before.items()}
    one(*images, 1)
    assert all(torch.equal(before[name], kept[name]) for name in kept)
    one.restore(before)
    assert all(torch.equal(weight, kept[name]) for name, weight in one.state().items())
    one.restore({})
    assert one.state() == {}


def test_a_descent_lowers_the_loss(utility, images):
    one, (pixels, labels) = utility(outer_steps=1), images
    moved = pixels.clone()
    for i in range(30):
        moved -= 0.01 * one(moved, labels, i)[1]
    before, after = (sum(one(p, labels, i)[0] for i in range(100, 110)) for p in (pixels, moved))
    assert after < 0.98 * before


@pytest.mark.parametrize("outer_steps", [1, 3])
def test_its_cost_is_what_torch_counts(utility, passes, outer_steps):
    one = utility(network=DEEP, outer_steps=outer_steps)
    expected, steps, _ = of_update({**one.settings, "utility": "gm"}, 3, 6)
    assert passes(one, 6) == pytest.approx(expected, rel=0.1)
    # Two epochs of two batches before two of three updates.
    assert steps == pytest.approx(3 + (4 * 2 / 3 if outer_steps == 3 else 0))
