"""Steps of a slice's latents and networks: gradient clipping and Adam, with state to resume."""

import torch

from stillhouse.training.optimizers import TensorAdam

BETAS = (0.9, 0.999)


class SliceOptimiser:
    """The vector of a slice and the state of its optimisation.

    Parameters
    ----------
    codec : stillhouse.methods.ruo.codec.Codec
    vector : (n,) float32
        Changed in place.
    clip : float
        Largest L2 norm of the gradient (parameters.py:239).
    """

    def __init__(self, codec, vector, clip):
        self.codec, self.clip = codec, clip
        self.vector = vector.requires_grad_(True)
        self.adam = TensorAdam(self.vector, BETAS)

    def parts(self):
        """Return (latents, networks), with gradients to the vector."""
        return self.codec.parts(self.vector)

    @torch.no_grad()
    def step(self, rate):
        """Clip the gradient, update by Adam, clear the gradient.

        Parameters
        ----------
        rate : float
            Learning rate.
        """
        norm = self.vector.grad.norm()
        self.vector.grad.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        self.adam.step(rate)

    def state(self):
        """Return the tensors by name that the next step depends on."""
        return {"vector": self.vector.detach(), **self.adam.state()}

    @torch.no_grad()
    def restore(self, state):
        """Continue from a `state`."""
        self.vector.copy_(state["vector"])
        self.adam.restore(state)
