import pytest
import torch
from stillhouse.training.optimizers import TensorAdam


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
