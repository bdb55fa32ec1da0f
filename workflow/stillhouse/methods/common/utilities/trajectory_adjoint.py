"""The gradient of trajectory matching, by the adjoint of the student's steps.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022: a student
takes steps of gradient descent on distilled images from an expert's weights, and the distance of
where it arrives from the expert's later weights is differentiated through all steps. Keeping the
graph of all steps takes memory that grows with them. Here the weights before each step are kept,
which are small; going backwards, each step is computed again, with a graph of its own:

    θ_{t+1} = θ_t - η g_t,  g_t = ∂ℓ_t(θ_t, x) / ∂θ,  L = ‖θ_N - θ*‖² / ‖θ_0 - θ*‖²
    a_N = ∂L / ∂θ_N,  s_t = ⟨a_{t+1}, g_t⟩
    ∂L / ∂x = - η Σ ∂s_t / ∂x,  ∂L / ∂η = - Σ s_t,  a_t = a_{t+1} - η ∂s_t / ∂θ

This is the exact gradient. TESLA (Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with
Constant Memory", ICML 2023) leaves out the last equation: a_t = a_N for all steps.
"""

import torch


def trajectory_gradient(step_loss, rows, images, start, target, rate, exact=True):
    """Return (loss, gradient to the images, gradient to the rate) of a student's steps.

    Parameters
    ----------
    step_loss : callable
        ``step_loss(t, weights, images)`` returns the loss of step t, a scalar tensor, from a list
        of weights and the images of the step.
    rows : list of (k,) int64 tensor
        Of each step, the rows of `images` that it trains on, each at most once.
    images : (n, 3, side, side) tensor
    start, target : list of tensor
        Weights that the student starts from, and those that it should arrive at.
    rate : float
        Learning rate of the student.
    exact : bool
        False for TESLA's approximation.

    Returns
    -------
    loss : float
        Squared distance from `target` at the end, relative to that at the start.
    gradient : tensor, as `images`
    rate_gradient : float
    """
    weights, path = start, []
    for t, own in enumerate(rows):
        path.append(weights)
        slopes = _slopes(step_loss, t, weights, images[own].detach())[1]
        weights = list(torch._foreach_sub(weights, torch._foreach_mul(slopes, rate)))
    missed = torch._foreach_sub(weights, target)
    scale = _squares(torch._foreach_sub(start, target))
    adjoint = list(torch._foreach_mul(missed, 2 / scale))
    gradient, rate_gradient = torch.zeros_like(images), 0.0
    for t in reversed(range(len(rows))):
        inputs = images[rows[t]].detach().requires_grad_(True)
        leaves, slopes = _slopes(step_loss, t, path.pop(), inputs, create_graph=True)
        product = sum((a * g).sum() for a, g in zip(adjoint, slopes, strict=True))
        leaves = leaves if exact else []
        to_images, *to_weights = torch.autograd.grad(product, [inputs, *leaves])
        gradient[rows[t]] -= rate * to_images
        rate_gradient -= product.item()
        if exact:
            torch._foreach_sub_(adjoint, torch._foreach_mul(to_weights, rate))
    return _squares(missed) / scale, gradient, rate_gradient


def _slopes(step_loss, t, weights, images, create_graph=False):
    """Return (weights as leaves, gradients of a step's loss to them)."""
    leaves = [weight.detach().requires_grad_(True) for weight in weights]
    loss = step_loss(t, leaves, images)
    return leaves, torch.autograd.grad(loss, leaves, create_graph=create_graph)


def _squares(tensors):
    """Return the sum of all squares, as a float."""
    return sum((tensor.double() ** 2).sum().item() for tensor in tensors)
