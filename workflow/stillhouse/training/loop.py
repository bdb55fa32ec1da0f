"""The one training loop, for teachers and students: optimisers, side files."""

import contextlib
import hashlib
import json
import time

import torch
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from stillhouse.artifacts import jobs, store
from stillhouse.artifacts.progress import track
from stillhouse.networks.registry import global_generator
from stillhouse.training.lr_schedules import PER_STEP, learning_rate_factor

FLOAT32 = {"precision": "float32"}


class Optimizer:
    """AdamW (betas 0.9, 0.999) or SGD with momentum 0.9; only weights of several dimensions decay.

    With torch's functions, not its classes, which import a compiler: 1.35 s of every job.

    Parameters
    ----------
    net : torch.nn.Module
        On its device, in its layout.
    settings : dict
        ``optimizer`` (adamw or sgd), ``weight_decay``; with ``ema`` also an average of the
        parameters is kept, which begins with the first ones.
    nesterov : bool
        Kind of momentum of SGD.
    """

    def __init__(self, net, settings, nesterov=False):
        self.adamw = settings["optimizer"] == "adamw"
        self.nesterov = nesterov
        self.parameters = dict(net.named_parameters())
        several = [name for name, p in self.parameters.items() if p.ndim > 1]
        others = [name for name, p in self.parameters.items() if p.ndim <= 1]
        self.groups = [(settings["weight_decay"], several), (0.0, others)]
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
        """Move all parameters by their gradients, and forget the gradients."""
        for decay, group in self.groups:
            names = [name for name in group if self.parameters[name].grad is not None]
            parameters = [self.parameters[name] for name in names]
            gradients = [parameter.grad for parameter in parameters]
            mean = [self.memory["mean"][name] for name in names]
            shared = {"lr": rate, "weight_decay": decay, "maximize": False}
            if self.adamw:
                square, steps = (
                    [self.memory[k][name] for name in names] for k in ("square", "step")
                )
                adamw(
                    *(parameters, gradients, mean, square, [], steps),
                    **{"amsgrad": False, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, **shared},
                )
            else:
                sgd(
                    *(parameters, gradients, mean),
                    **{"momentum": 0.9, "dampening": 0.0, "nesterov": self.nesterov, **shared},
                )
            for parameter in parameters:
                parameter.grad = None
        for name, average in self.memory.get("average", {}).items():
            average.lerp_(self.parameters[name], 1 - self.ema)

    @contextlib.contextmanager
    def averaged(self):
        """Put the average in the parameters' place, if there is one, for the time of a test.

        The running statistics of a batch norm stay those of the net itself, as in EDC's code.
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
        """Return all that the next step depends on, as tensors by name."""
        return {f"{k}.{name}": t for k, part in self.memory.items() for name, t in part.items()}

    def restore(self, state):
        """Go on from a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def memory_format(settings):
    """Return the layout that is fast for a precision: channels last with bfloat16."""
    if settings["precision"] == "bfloat16":
        return torch.channels_last
    return torch.contiguous_format


def autocast(settings, device):
    """Return the autocast context of a recipe's precision."""
    return torch.autocast(device.type, torch.bfloat16, settings["precision"] == "bfloat16")


class SideFile:
    """State of a long training, outside the artifacts, for a later job of the same digest.

    Tensors lie in one safetensors file that is renamed into place; plain values and a
    checksum of all in its metadata.
    """

    def __init__(self, context):
        self.path = context.work / "state.safetensors"
        self.context = context
        self.started = self.saved = time.monotonic()

    def due(self, last=False):
        """Tell whether the last writing is long ago, or this is the end of a long training."""
        since = self.started if last else self.saved
        return time.monotonic() - since >= self.context.checkpoint_seconds

    def save(self, tensors, values):
        """Write tensors and plain values, whole or not at all."""
        text = json.dumps(values)
        metadata = {"values": text, "sha256": _checksum(tensors, text)}
        store.save_tensors(self.path, tensors, metadata)
        jobs.note_seconds(self.context, time.monotonic() - self.started)
        self.saved = time.monotonic()

    def load(self):
        """Return (tensors, values) of the last writing, or None."""
        if not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as stored:
                text = stored.metadata()["values"]
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                if _checksum(tensors, text) == stored.metadata()["sha256"]:
                    return tensors, json.loads(text)
        except (SafetensorError, KeyError, TypeError, ValueError):
            pass
        print(f"{self.path}: damaged, starting over", flush=True)
        return None


def _checksum(tensors, text):
    """Return the SHA-256 of a text, and of tensors and their names, as hexadecimal text."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def fit(net, settings, batches, evaluate, context, stage, seed, nesterov=False):
    """Train `net` in place and return its learning curve.

    Parameters
    ----------
    net : torch.nn.Module
        On its device.
    settings : dict
        ``epochs``, ``optimizer``, ``learning_rate``, ``weight_decay``, ``schedule`` and what
        belongs to it, ``precision``; ``ema`` where the average is to be tested.
    batches : callable
        ``batches(epoch)`` returns (steps, iterable of (inputs, loss)), where `loss` takes the
        outputs in float32 and returns a scalar. It must depend on the epoch alone.
    evaluate : callable
        ``evaluate(net, epoch)`` returns a dict for the curve, empty where there is nothing to say.
        With ``ema`` it sees the averaged parameters.
    context : stillhouse.artifacts.jobs.Context
    stage : str
        ``teacher`` or ``student``.
    seed : int
        Of whatever the network itself draws (dropout), anew for every epoch.
    nesterov : bool
        Kind of momentum of SGD.

    Returns
    -------
    list of dict
        One an epoch: ``epoch`` (from 1), ``loss`` (mean over steps), ``learning_rate`` of the last
        step, and what `evaluate` returned.
    """
    optimizer = Optimizer(net, settings, nesterov)
    side, curve = SideFile(context), []
    stored = side.load()
    if stored is not None:
        curve = _restore(net, optimizer, *stored)
        print(f"{stage} {seed}: continues after epoch {len(curve)}", flush=True)
    epochs = range(len(curve), settings["epochs"])
    detail = lambda: f"loss {curve[-1]['loss']:.4f}" if curve else ""  # noqa: E731
    for epoch in track(epochs, len(epochs), f"{stage} {seed} epoch", detail):
        net.train()
        with global_generator(seed, f"{stage} network", epoch):
            losses = [row["loss"] for row in curve]
            loss, rate = one_epoch(net, optimizer, settings, epoch, *batches(epoch), losses)
        row = {"epoch": epoch + 1, "loss": loss, "learning_rate": rate}
        with optimizer.averaged():
            curve.append(row | evaluate(net, epoch + 1))
        if side.due(last=epoch + 1 == settings["epochs"]):
            side.save(_state(net, optimizer), {"curve": curve})
    return curve


def one_epoch(net, optimizer, settings, epoch, n_steps, batches, losses=()):
    """Train for one epoch of `n_steps` (inputs, loss) after epochs with mean `losses`.

    Returns the mean loss and the last rate.
    """
    device = next(net.parameters()).device
    per_step = settings["schedule"] in PER_STEP
    layout, total = memory_format(settings), torch.zeros((), device=device)
    for step, (inputs, loss) in enumerate(batches):
        when = epoch + (step / n_steps if per_step else 0)
        factor = learning_rate_factor(settings, when, losses)
        with autocast(settings, device):
            outputs = net(inputs.contiguous(memory_format=layout))
        value = loss(outputs.float())
        value.backward()
        optimizer.step(settings["learning_rate"] * factor)
        total += value.detach()
    return total.item() / n_steps, settings["learning_rate"] * factor


def _state(net, optimizer):
    parts = {"net": net.state_dict(), "optimizer": optimizer.state()}
    return {f"{part}.{name}": t for part, state in parts.items() for name, t in state.items()}


def _restore(net, optimizer, tensors, values):
    net.load_state_dict(part(tensors, "net."))
    optimizer.restore(part(tensors, "optimizer."))
    return values["curve"]


def part(tensors, prefix):
    """Return the tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


@torch.no_grad()
def logits(net, images, batch_size, prepare, settings=FLOAT32):
    """Return the outputs of `net` in evaluation mode, (n, classes) float32 on its device.

    Parameters
    ----------
    images : (n, ...) tensor
    batch_size : int
    prepare : callable
        From a slice of `images` to the network's input.
    settings : dict
        ``precision`` of the forward pass.
    """
    net.eval()
    layout = memory_format(settings)
    with autocast(settings, images.device):
        parts = (
            prepare(part).contiguous(memory_format=layout) for part in images.split(batch_size)
        )
        return torch.cat([net(part).float() for part in parts])


def accuracies(outputs, labels):
    """Return top-1 and top-5 accuracy in percent; top-5 is None for five classes or fewer."""
    ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
    top5 = ranked.any(1).float().mean().item() * 100 if outputs.shape[1] > 5 else None
    return ranked[:, 0].float().mean().item() * 100, top5


def freeze(net):
    """Return `net` in evaluation mode without gradients."""
    return net.eval().requires_grad_(False)
