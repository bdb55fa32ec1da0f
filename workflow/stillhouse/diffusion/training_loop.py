"""Steps of a network's training that are counted, checked and continued from checkpoints."""

import math

import torch

from stillhouse.artifacts.checkpoints import select_prefix
from stillhouse.artifacts.progress import track
from stillhouse.training import distributed, loop
from stillhouse.training.lr_schedules import learning_rate_factor
from stillhouse.training.optimizers import Optimizer

# Steps per point of a loss curve, which is their mean.
STEPS_PER_POINT = 50
# Settings of each network, by the name of its training.
NETWORKS = {"autoencoder": "autoencoder", "denoiser": "network"}


class TrainingLoop:
    """Training steps of one network, resumed from a checkpoint of it.

    Parameters
    ----------
    name : str
        Of the network, for the log and the checkpoint; checkpoints of others are ignored.
    checkpoint : stillhouse.artifacts.checkpoints.Checkpoint
    finished : dict of str to tensor, optional
        Tensors of earlier phases of the job, stored in each checkpoint.
    values : dict, optional
        Their plain values.
    """

    def __init__(self, name, checkpoint, finished=None, values=None):
        self.name, self.checkpoint = name, checkpoint
        self.finished, self.values = finished or {}, values or {}

    def __call__(self, net, settings, loss):
        """Minimise ``loss(step)``; return the means of its values over every 50 steps.

        With ``ema``, the final parameters of the network are the moving averages.

        Raises
        ------
        stillhouse.training.loop.Diverged
            If a loss is not finite, at the end of its interval.
        """
        optimizer = Optimizer(net, {"optimizer": "adamw", "weight_decay": 0.0, **settings})
        first, curve, total = self._restore(net, optimizer)
        group, parameters = distributed.group(), optimizer.parameters.values()
        steps = settings["steps"]
        schedule = {"schedule": "one_cycle", "epochs": steps}

        def last_loss():
            return f"loss {curve[-1]:.4f}" if curve else ""

        net.train()
        for step in track(range(first, steps), steps - first, f"{self.name} step", last_loss):
            total += group.backward(loss(step), parameters)
            optimizer.step(settings["learning_rate"] * learning_rate_factor(schedule, step))
            point, due = (step + 1) % STEPS_PER_POINT == 0, self.checkpoint.due(step + 1 == steps)
            if point or due or step + 1 == steps:
                self._check(total.item(), step, curve, settings["learning_rate"])
            if point:
                curve.append(total.item() / STEPS_PER_POINT)
                total = torch.zeros_like(total)
            if due:
                self._save(net, optimizer, step + 1, curve, total)
        for name, average in optimizer.memory.get("average", {}).items():
            optimizer.parameters[name].data = average
        loop.freeze(net)
        return curve

    def _check(self, total, step, curve, rate):
        """Raise `loop.Diverged` if the sum of the losses since the last point is not finite."""
        if math.isfinite(total):
            return
        first = step - step % STEPS_PER_POINT + 1
        last = f"the last finite mean loss is {curve[-1]:.4g}" if curve else "none was finite"
        raise loop.Diverged(
            f"{self.name}: diverged in steps {first} to {step + 1}, loss {total:.4g}, {last}; "
            f"lower train.{NETWORKS[self.name]}.learning_rate, now {rate:g}"
        )

    def _save(self, net, optimizer, done, curve, total):
        states = {"net": net.state_dict(), "optimizer": optimizer.state()}
        states["finished"] = self.finished
        tensors = {f"{name}.{k}": t for name, state in states.items() for k, t in state.items()}
        values = {"name": self.name, "done": done, "curve": curve, "values": self.values}
        self.checkpoint.save({**tensors, "total": total}, values)

    def _restore(self, net, optimizer):
        """Return the number of finished steps, the curve, and the sum since its last point."""
        stored = self.checkpoint.resume(self.name, "step", name=self.name)
        zero = torch.zeros((), device=next(net.parameters()).device)
        if stored is None:
            return 0, [], zero
        tensors, values = stored
        net.load_state_dict(select_prefix(tensors, "net."))
        optimizer.restore(select_prefix(tensors, "optimizer."))
        return values["done"], values["curve"], zero + tensors["total"].to(zero.device)
