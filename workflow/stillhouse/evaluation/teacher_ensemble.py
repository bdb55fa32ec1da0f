"""Teachers whose logits are averaged."""

import torch

from stillhouse.training.teachers import load_teacher


class TeacherEnsemble:
    """Mean logits of teachers for the classes of a dataset.

    Parameters
    ----------
    paths : list of Path
        ``model.safetensors`` of each.
    classes : list of str
        Class ids in the order of the labels.
    device : torch.device
    """

    def __init__(self, paths, classes, device):
        self.teachers = [load_teacher(path, device) for path in paths]
        self.classes = classes

    @torch.no_grad()
    def __call__(self, inputs):
        """Return mean logits, (n, classes) float32, of normalised images."""
        outputs = [teacher.logits(inputs, self.classes) for teacher in self.teachers]
        return torch.stack(outputs).mean(0) if len(outputs) > 1 else outputs[0]
