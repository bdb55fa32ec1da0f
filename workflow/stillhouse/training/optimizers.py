"""Optimisers whose state is a dict of tensors, for checkpoints.

They call torch's functions, since its classes import a compiler, which takes 1.35 s per job.
"""

import contextlib

import torch
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

MOMENTUM = 0.9
ADAMW_BETAS = (0.9, 0.999)
EPSILON = 1e-8


def decays(name, parameter, selected):
    """Return whether the weight decay applies to a parameter.

    Parameters
    ----------
    name : str
    parameter : torch.nn.Parameter
    selected : str
        ``weights``: with several dimensions and "weight" in its name (LINs-lab/RDED at 3f6453d,
        validation/utils.py:67-84); ``dimension``: with several dimensions, as also the tokens and
        position embeddings of transformers; ``all``.
    """
    if selected == "all":
        return True
    return parameter.ndim > 1 and (selected == "dimension" or "weight" in name)


class Optimizer:
    """AdamW (betas 0.9, 0.999) or SGD with momentum 0.9.

    Parameters
    ----------
    net : torch.nn.Module
        On its device, in its layout.
    settings : dict
        ``optimizer`` (adamw or sgd), ``weight_decay``; ``decay``, optional: see `decays`; ``ema``,
        optional: decay of a moving average of the parameters, which starts from the initial ones.
    nesterov : bool
        Kind of momentum of SGD.
    """

    def __init__(self, net, settings, nesterov=False):
        self.adamw = settings["optimizer"] == "adamw"
        self.nesterov = nesterov
        self.parameters = dict(net.named_parameters())
        selected = settings.get("decay", "dimension")
        decayed = [name for name, p in self.parameters.items() if decays(name, p, selected)]
        others = [name for name in self.parameters if name not in set(decayed)]
        self.groups = [(settings["weight_decay"], decayed), (0.0, others)]
        self.ema = settings.get("ema")
        zeros = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.memory = {"mean": zeros}
        if self.adamw:
            self.memory["square"] = {name: zero.clone() for name, zero in zeros.items()}
            self.memory["step"] = {name: torch.zeros(()) for name in zeros}
        if self.ema is not None:
            parameters = self.parameters.items()
            self.memory["average"] = {name: p.detach().clone() for name, p in parameters}

    @torch.no_grad()
    def step(self, rate):
        """Update all parameters by their gradients and clear the gradients.

        Parameters
        ----------
        rate : float
            Learning rate.
        """
        for decay, group in self.groups:
            names = [name for name in group if self.parameters[name].grad is not None]
            update = self._adamw if self.adamw else self._sgd
            update(names, rate, decay)
            for name in names:
                self.parameters[name].grad = None
        for name, average in self.memory.get("average", {}).items():
            average.lerp_(self.parameters[name], 1 - self.ema)

    def _adamw(self, names, rate, decay):
        adamw(
            params=[self.parameters[name] for name in names],
            grads=[self.parameters[name].grad for name in names],
            exp_avgs=[self.memory["mean"][name] for name in names],
            exp_avg_sqs=[self.memory["square"][name] for name in names],
            max_exp_avg_sqs=[],
            state_steps=[self.memory["step"][name] for name in names],
            amsgrad=False,
            beta1=ADAMW_BETAS[0],
            beta2=ADAMW_BETAS[1],
            lr=rate,
            weight_decay=decay,
            eps=EPSILON,
            maximize=False,
        )

    def _sgd(self, names, rate, decay):
        sgd(
            params=[self.parameters[name] for name in names],
            d_p_list=[self.parameters[name].grad for name in names],
            momentum_buffer_list=[self.memory["mean"][name] for name in names],
            weight_decay=decay,
            momentum=MOMENTUM,
            lr=rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )

    @contextlib.contextmanager
    def averaged(self):
        """Replace the parameters by their moving average, if any, within the context.

        The running statistics of batch norms are not averaged, as in EDC's code.
        """
        averages = self.memory.get("average", {})
        own = {name: self.parameters[name].data for name in averages}
        try:
            for name, average in averages.items():
                self.parameters[name].data = average
            yield
        finally:
            for name, data in own.items():
                self.parameters[name].data = data

    def state(self):
        """Return {name: tensor} of the state of the optimiser, without the parameters."""
        return {f"{k}.{name}": t for k, part in self.memory.items() for name, t in part.items()}

    def restore(self, state):
        """Continue from a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class TensorAdam:
    """Adam without weight decay, for one tensor that is not a parameter of a module.

    Parameters
    ----------
    tensor : float32 tensor
        A leaf with gradient; changed in place.
    betas : (float, float)
        Decay of the moving averages of the gradient and of its square.
    """

    def __init__(self, tensor, betas):
        self.tensor, self.betas = tensor, betas
        self.first = torch.zeros_like(tensor, requires_grad=False)
        self.second = torch.zeros_like(tensor, requires_grad=False)
        self.steps = torch.zeros(())

    @torch.no_grad()
    def step(self, rate):
        """Update the tensor by its gradient and clear the gradient.

        Parameters
        ----------
        rate : float
            Learning rate.
        """
        adam(
            params=[self.tensor],
            grads=[self.tensor.grad],
            exp_avgs=[self.first],
            exp_avg_sqs=[self.second],
            max_exp_avg_sqs=[],
            state_steps=[self.steps],
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )
        self.tensor.grad = None

    def state(self):
        """Return {name: tensor} of the state of the optimiser, without the tensor."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    @torch.no_grad()
    def restore(self, state):
        """Continue from a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
