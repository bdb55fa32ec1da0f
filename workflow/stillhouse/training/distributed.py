"""Training by several processes: each computes some rows of every step.

Every process draws the random numbers of the whole step and computes its own slice of the rows.
Losses and gradients are summed over the processes with the weights that make them means over the
step, so that parameters, which all processes update alike, are those of one process up to rounding.
With one process, which is the default, nothing here communicates or computes anything.
"""

import contextlib
import functools
from datetime import timedelta

import torch
from torch import distributed
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Of elements, and of channels.
DROPOUTS = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)
# Processes load their data, for hours if it is large, and wait for the slowest at the first step.
# The job ends all of them when one fails.
TIMEOUT = timedelta(days=1)


class Group:
    """The processes of a training, and how they share its current step.

    A step of fewer rows than processes is computed by each of them as a whole. Random numbers that
    a network draws with torch's global generator are the same in all processes.

    Parameters
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        Number of processes.
    """

    def __init__(self, rank=0, size=1):
        self.rank, self.size = rank, size
        self.n, self.own, self.weight = 0, slice(0, 0), 1.0

    def rows(self, n):
        """Return the slice of the n rows of the next step that this process computes."""
        self.n, self.own, self.weight = n, slice(0, n), 1 / self.size
        if self.size <= n:
            first, end = (n * number // self.size for number in (self.rank, self.rank + 1))
            self.own, self.weight = slice(first, end), (end - first) / n
        return self.own

    def forward(self):
        """Return a context in which networks compute as with all rows of the current step.

        Batch norms normalise by all rows, and dropout draws for all rows.
        """
        return _Step(self) if 1 < self.size <= self.n else contextlib.nullcontext()

    def part(self, shape):
        """Return the number of rows of a tensor in a step of one process, and the slice of it.

        Parameters
        ----------
        shape : sequence of int
            Of a tensor of this process, with the same number of rows per image of the step, in
            their order; or of one that is the same for all images.
        """
        per_image, rest = divmod(shape[0], self.own.stop - self.own.start)
        if rest:
            return shape[0], slice(None)
        return self.n * per_image, slice(self.own.start * per_image, self.own.stop * per_image)

    def backward(self, loss, parameters):
        """Compute the gradients of the mean loss of the current step; return that loss, detached.

        Parameters
        ----------
        loss : scalar tensor
            Mean over the rows of this process.
        parameters : iterable of torch.nn.Parameter
            Their ``grad`` is the same in all processes afterwards.
        """
        if self.size == 1:
            loss.backward()
            return loss.detach()
        loss = loss * self.weight
        loss.backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        reduced = [*gradients, loss.detach()]
        summed = torch.cat([tensor.flatten() for tensor in reduced])
        distributed.all_reduce(summed)
        *parts, loss = summed.split([tensor.numel() for tensor in reduced])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return loss.squeeze().clone()  # of the step alone: its memory is not that of all gradients


def group():
    """Return the `Group` of this process, the same object at every call."""
    if distributed.is_available() and distributed.is_initialized():
        return _group(distributed.get_rank(), distributed.get_world_size())
    return _group(0, 1)


@functools.cache
def _group(rank, size):
    return Group(rank, size)


def join(device, store, rank, size):
    """Join the processes of a job.

    Parameters
    ----------
    device : torch.device
        Of this process; no other process may have the same GPU.
    store : torch.distributed.Store
        Where the processes meet.
    rank : int
        Number of this process, from 0.
    size : int
        Number of processes.
    """
    store.set_timeout(TIMEOUT)
    options = {"store": store, "rank": rank, "world_size": size, "timeout": TIMEOUT}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device, **options)
    else:
        distributed.init_process_group("gloo", **options)


def leave():
    """Leave the processes that `join` has joined."""
    distributed.destroy_process_group()


class _Step(TorchFunctionMode):
    """Replace functions of networks that depend on the other rows of the current step.

    `torch.nn.SyncBatchNorm` computes on GPUs only, and as a module it would replace those of timm,
    which include an activation. This way all networks remain as they are, on every device.

    Parameters
    ----------
    group : Group
    """

    def __init__(self, group):
        super().__init__()
        self.group = group

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if function is functional.batch_norm:
            return _batch_norm(*arguments, **options)
        if function in DROPOUTS:
            return self._dropout(function, *arguments, **options)
        if function is torch.Tensor.bernoulli_:
            return self._bernoulli(*arguments, **options)
        return function(*arguments, **options)

    def _dropout(self, function, x, p=0.5, training=True, inplace=False):
        """Multiply by the factors that dropout would have in a step of one process."""
        if not training or p == 0:
            return x
        n, own = self.group.part(x.shape)
        shape = (n, *x.shape[1:])
        # Numbers are drawn in the order of memory, which is that of `x`.
        order = sorted(range(x.ndim), key=lambda d: (d > 0 or len(x) > 1, -x.stride(d)))
        ones = torch.ones([shape[d] for d in order], dtype=x.dtype, device=x.device)
        ones = ones.permute(sorted(range(x.ndim), key=order.__getitem__))
        return x * function(ones, p, True)[own]

    def _bernoulli(self, x, *arguments, **options):
        """Draw for all rows, as stochastic depth does."""
        n, own = self.group.part(x.shape)
        return x.copy_(x.new_empty((n, *x.shape[1:])).bernoulli_(*arguments, **options)[own])


def _batch_norm(x, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise by the rows of all processes; parameters of `torch.nn.functional.batch_norm`."""
    if not training:
        return functional.batch_norm(x, mean, variance, weight, bias, False, momentum, eps)
    normalised, global_mean, global_variance, count = _Standardised.apply(x, eps)
    if mean is not None:
        with torch.no_grad():
            mean.lerp_(global_mean.to(mean.dtype), momentum)
            unbiased = global_variance * (count / (count - 1).clamp(min=1))
            variance.lerp_(unbiased.to(variance.dtype), momentum)
    shape = [1, -1, *[1] * (x.ndim - 2)]
    # Also without weight a new tensor: a network may change it, and the gradient needs the old one.
    normalised = normalised * (1 if weight is None else weight.view(shape))
    if bias is not None:
        normalised = normalised + bias.view(shape)
    return normalised.to(x.dtype)


class _Standardised(torch.autograd.Function):
    """Subtract the mean of a channel over all processes, and divide by its deviation.

    With the normalised values x̂, the gradient g of them and means m over the rows of all processes,
    the gradient of the input is (g - m(g) - x̂ m(g x̂)) / deviation.
    """

    @staticmethod
    def forward(context, x, eps):
        """Return normalised values, (channels,) mean and variance, and values per channel."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
        own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])])
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own)
        means, variances, counts = torch.stack(parts).split([len(mean), len(mean), 1], 1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean).square()) * counts).sum(0) / count
        shape = [1, -1, *[1] * (x.ndim - 2)]
        inverse = (variance + eps).rsqrt().view(shape)
        normalised = (x - mean.view(shape)) * inverse
        context.save_for_backward(normalised, inverse, count)
        context.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient, *_):
        """Return the gradient of the input."""
        normalised, inverse, count = context.saved_tensors
        dimensions = [0, *range(2, gradient.ndim)]
        sums = [gradient.sum(dimensions), (gradient * normalised).sum(dimensions)]
        sums = torch.cat(sums)
        distributed.all_reduce(sums)
        mean, slope = (part.view(inverse.shape) for part in (sums / count).chunk(2))
        return (gradient - mean - normalised * slope) * inverse, None
