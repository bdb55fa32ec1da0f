import pytest
import torch
from stillhouse.artifacts.rng import generator
from stillhouse.methods.common.utilities.trajectory_adjoint import trajectory_gradient
from stillhouse.networks import registry
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from tests.methods.common.utilities.whole_graph import whole_graph

N, SIDE, STEPS, RATE = 12, 8, 10, 0.05


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture
def student(dtype):
    """Return a function from (number of steps, batch) to the arguments of a student's training."""
    settings = {"arch": "convnet2", "width": 8, "norm": "instance"}
    net = registry.build(settings, 3, SIDE, 0, "test").to(dtype)
    names = [name for name, _ in net.named_parameters()]
    rng = generator(0, "student")
    images = torch.from_numpy(rng.standard_normal((N, 3, SIDE, SIDE))).to(dtype)
    labels = torch.arange(N) % 3
    start = [weight.detach().clone() for weight in net.parameters()]
    target = [w + 0.1 * torch.from_numpy(rng.standard_normal(w.shape)).to(dtype) for w in start]

    def arguments(n_steps=STEPS, batch=5):
        orders = [torch.from_numpy(rng.permutation(N))[:batch] for _ in range(n_steps)]

        def step_loss(t, weights, inputs):
            named = dict(zip(names, weights, strict=True))
            # An augmentation of its own in each step.
            outputs = functional_call(net, named, (inputs * (1 + 0.05 * t),))
            return cross_entropy(outputs, labels[orders[t]])

        return step_loss, orders, images, start, target, RATE

    return arguments


def relative(own, other):
    """Return the norm of a difference, relative to the second."""
    return ((own - other).norm() / other.norm()).item()


@pytest.mark.parametrize("n_steps", [1, 3, STEPS])
def test_the_adjoint_is_the_gradient_of_the_whole_graph(student, dtype, n_steps):
    arguments = student(n_steps)
    loss, gradient, slope = trajectory_gradient(*arguments)
    wanted_loss, wanted, wanted_slope = whole_graph(*arguments)
    most = 1e-12 if dtype == torch.float64 else 1e-6
    assert gradient.dtype == dtype
    assert relative(gradient, wanted) < most
    assert loss == pytest.approx(wanted_loss, rel=max(most, 1e-12))
    assert slope == pytest.approx(wanted_slope, rel=10 * most)


def test_images_that_no_step_uses_have_no_gradient(student):
    arguments = student(1)
    _, gradient, _ = trajectory_gradient(*arguments)
    used = torch.zeros(N, dtype=torch.bool)
    used[arguments[1][0]] = True
    assert (gradient[~used] == 0).all() and (gradient[used].flatten(1).norm(dim=1) > 0).all()


def test_tesla_is_exact_for_one_step_and_an_approximation_for_more(student):
    def cosine(n_steps):
        arguments = student(n_steps)
        exact, tesla = (trajectory_gradient(*arguments, exact=e)[1] for e in (True, False))
        return torch.nn.functional.cosine_similarity(exact.flatten(), tesla.flatten(), 0).item()

    assert cosine(1) == pytest.approx(1, abs=1e-6)
    assert 0.5 < cosine(STEPS) < 0.9999


def test_a_descent_along_the_gradient_lowers_the_loss(student):
    step_loss, rows, images, *others = student()
    first, gradient, _ = trajectory_gradient(step_loss, rows, images, *others)
    smaller = images - 1e-3 * gradient / gradient.abs().max()
    assert trajectory_gradient(step_loss, rows, smaller, *others)[0] < first
