"""Trajectory matching: steps of training on distilled images arrive where experts arrive.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022, equations
1 and 2, algorithm 1; official code GeorgeCazenavette/mtt-distillation at 50dccea, distill.py.
"""

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.transforms import normalise
from stillhouse.methods.common.utilities.base import Utility
from stillhouse.methods.common.utilities.networks import inputs_of, random_network
from stillhouse.methods.common.utilities.siamese import augment
from stillhouse.methods.common.utilities.trajectories import Snapshots
from stillhouse.methods.common.utilities.trajectory_adjoint import trajectory_gradient

# Of the learned rate's gradient descent (distill.py).
MOMENTUM = 0.5


class TrajectoryMatching(Utility):
    """Squared distance of a student's weights from an expert's, relative to that at its start.

    Every iteration has a random expert and start epoch. The learning rate of the student is learned
    by gradient descent with momentum, after every iteration.

    Parameters
    ----------
    settings : dict
        ``network``, ``classes``, ``resolution``; ``experts`` (their number), ``start_epochs`` (the
        start is one of so many, from 0), ``expert_epochs``, ``student_steps``,
        ``student_batch_size`` (0: all images); ``student_rate``, ``student_rate_step`` and
        ``student_rate_minimum``: its first value, its own learning rate, its lowest value;
        ``gradient``: ``exact`` or ``tesla``.
    files : dict of int to Path
        ``snapshots.safetensors`` by the number of the expert.
    siamese : stillhouse.methods.common.utilities.siamese.Siamese
    device : torch.device
    prepare : callable
        From pixels to inputs of networks, see `stillhouse.data.whitening.preparation`.
    """

    def __init__(self, settings, files, siamese, device, prepare=normalise):
        self.settings, self.siamese, self.prepare = settings, siamese, prepare
        self.net = random_network(settings, 0, 0, device)
        self.names = [name for name, _ in self.net.named_parameters()]
        self.snapshots = Snapshots(files, self.names, device)
        self.learning_rate, self.velocity = settings["student_rate"], 0.0

    def __call__(self, images, labels, iteration):
        """Return (loss, gradient), see `Utility`; update the learning rate."""
        settings, seed = self.settings, self.siamese.seed
        chances = generator(seed, "utility expert", item=iteration).random(2)
        expert = int(chances[0] * settings["experts"])
        epoch = int(chances[1] * settings["start_epochs"])
        start = self.snapshots.read(expert, epoch)
        target = self.snapshots.read(expert, epoch + settings["expert_epochs"])
        rows = self._rows(len(images), iteration, images.device)
        sizes = [len(part) for part in rows]
        drawn = self.siamese.of_steps(sizes, "utility student siamese", iteration)

        def step_loss(t, weights, inputs):
            batch = augment(inputs_of(inputs, self.prepare), drawn[t])
            outputs = functional_call(
                self.net, dict(zip(self.names, weights, strict=True)), (batch,)
            )
            return cross_entropy(outputs, labels[rows[t]])

        exact = settings["gradient"] == "exact"
        loss, gradient, slope = trajectory_gradient(
            step_loss, rows, images, start, target, self.learning_rate, exact
        )
        self._learn(slope)
        return loss, gradient

    def _rows(self, n_images, iteration, device):
        """Return the rows of each step: parts of random orders of all images."""
        settings = self.settings
        rng, rows = generator(self.siamese.seed, "utility student order", item=iteration), []
        while len(rows) < settings["student_steps"]:
            order = torch.from_numpy(permutation(rng, n_images)).to(device)
            rows += order.split(settings["student_batch_size"] or n_images)
        return rows[: settings["student_steps"]]

    def _learn(self, slope):
        """Update the learning rate of the student by the gradient to it."""
        settings = self.settings
        self.velocity = MOMENTUM * self.velocity + slope
        rate = self.learning_rate - settings["student_rate_step"] * self.velocity
        self.learning_rate = max(rate, settings["student_rate_minimum"])

    def state(self):
        """Return the learned rate and its velocity."""
        return {"learning_rate": self.learning_rate, "velocity": self.velocity}

    def restore(self, state):
        """Continue from a `state`."""
        self.learning_rate, self.velocity = state["learning_rate"], state["velocity"]
