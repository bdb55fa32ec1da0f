import pytest
import torch
from stillhouse.training.optimizers import Optimizer, TensorAdam


def gradients(n=5):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 4, 4, generator=rng) for _ in range(n)]


@pytest.mark.parametrize("betas", [(0.5, 0.9), (0.9, 0.999)])
def test_tensor_adam_is_torchs_to_the_bit(betas):
    start = gradients()[0] * 0.1
    tensor = start.clone().requires_grad_(True)
    optimizer = TensorAdam(tensor, betas)
    peer = start.clone().requires_grad_(True)
    theirs = torch.optim.Adam([peer], lr=0.25, betas=betas)
    for gradient in gradients():
        tensor.grad, peer.grad = gradient.clone(), gradient.clone()
        optimizer.step(0.25)
        theirs.step()
        assert tensor.grad is None
    assert torch.equal(tensor, peer)


def test_resumed_tensor_adam_is_undisturbed_tensor_adam():
    def run(optimizer, steps):
        for gradient in steps:
            optimizer.tensor.grad = gradient.clone()
            optimizer.step(0.1)

    tensor = torch.zeros(2, 3, 4, 4, requires_grad=True)
    optimizer = TensorAdam(tensor, (0.5, 0.9))
    run(optimizer, gradients()[:2])
    stored = {name: t.clone() for name, t in optimizer.state().items()}
    other = TensorAdam(tensor.detach().clone().requires_grad_(True), (0.5, 0.9))
    other.restore(stored)
    for continued in (optimizer, other):
        run(continued, gradients()[2:])
    assert torch.equal(optimizer.tensor, other.tensor)


class Mixed(torch.nn.Module):
    """A matrix, a vector, and a table without "weight" in its name, all of ones."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)
        self.position_embedding = torch.nn.Parameter(torch.ones(4, 2))
        for parameter in self.parameters():
            torch.nn.init.ones_(parameter)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
@pytest.mark.parametrize(
    ("selected", "decayed"),
    [
        (None, {"layer.weight", "position_embedding"}),
        ("dimension", {"layer.weight", "position_embedding"}),
        ("weights", {"layer.weight"}),
        ("all", {"layer.weight", "layer.bias", "position_embedding"}),
    ],
)
def test_weight_decay_applies_to_the_selected_parameters(kind, selected, decayed):
    net, settings = Mixed(), {"optimizer": kind, "weight_decay": 0.5}
    optimizer = Optimizer(net, settings if selected is None else {**settings, "decay": selected})
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.1)
    # Without a gradient, a step multiplies decayed parameters by 1 - rate × decay.
    for name, parameter in net.named_parameters():
        expected = 0.95 if name in decayed else 1.0
        torch.testing.assert_close(parameter.data, torch.full_like(parameter, expected), msg=name)


@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum_of_sgd_is_torchs(nesterov):
    net, peer = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    peer.load_state_dict(net.state_dict())
    optimizer = Optimizer(net, {"optimizer": "sgd", "weight_decay": 0.01, "decay": "all"}, nesterov)
    theirs = torch.optim.SGD(
        peer.parameters(), 0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov
    )
    inputs = gradients()[0].flatten(1)[:, :3]
    for _ in range(4):
        for one in (net, peer):
            one(inputs).square().sum().backward()
        optimizer.step(0.1)
        theirs.step()
        theirs.zero_grad()
    assert torch.equal(net.weight, peer.weight) and torch.equal(net.bias, peer.bias)
