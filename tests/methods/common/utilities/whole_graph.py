"""Trajectory matching with the graph of all steps: the naive version of the adjoint."""

import torch


def whole_graph(step_loss, rows, images, start, target, rate):
    """Return (loss, gradient to the images, gradient to the rate), as `trajectory_gradient`."""
    leaf = images.detach().clone().requires_grad_(True)
    rate = torch.tensor(rate, dtype=images.dtype, requires_grad=True)
    weights = [weight.detach().clone().requires_grad_(True) for weight in start]
    for t, own in enumerate(rows):
        loss = step_loss(t, weights, leaf[own])
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        weights = [w - rate * g for w, g in zip(weights, slopes, strict=True)]
    missed = sum(((w - t) ** 2).sum() for w, t in zip(weights, target, strict=True))
    distance = missed / sum(((w - t) ** 2).sum() for w, t in zip(start, target, strict=True))
    gradient, slope = torch.autograd.grad(distance, [leaf, rate])
    return distance.item(), gradient, slope.item()
