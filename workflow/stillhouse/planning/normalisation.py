"""Normalisation by a dataset's own images.

``python -m stillhouse.planning.normalisation config.yaml DATASET`` prints mean and standard
deviation of the training images, for ``datasets.<name>.normalisation``: they are numbers in the
config, so that a plan needs no data and a table's config has all settings.
"""

import sys
from pathlib import Path

from stillhouse.data.sources.catalogue import roots
from stillhouse.errors import UsageError, command, known
from stillhouse.methods import task
from stillhouse.planning.plan import of_file


def of_dataset(plan, dataset):
    """Return mean and standard deviation per channel of the training images of a dataset.

    Of all pixels, between 0 and 1, after the crop to a square and the resizing to its resolution.

    Parameters
    ----------
    plan : stillhouse.planning.plan.Plan
        Whose artifacts `images` are complete.
    dataset : str

    Returns
    -------
    mean, std : list of float
        Three each, rounded to four digits.
    """
    # The plan of a run imports this package, and must not import torch.
    import torch

    from stillhouse.data.splits import load_split

    known("DATASET", dataset, plan.config["datasets"], "dataset")
    settings = plan.config["datasets"][dataset]
    stored = task.images(plan, settings["source"], settings["classes"])
    count, total, squares = 0, torch.zeros(3).double(), torch.zeros(3).double()
    for class_id in settings["classes"]:
        files = {class_id: Path(stored.member_file(class_id))}
        images, _ = load_split(
            files, [class_id], settings["resolution"], "train", roots(plan.config["sources"])
        )
        for batch in images.split(1024):
            pixels = batch.transpose(0, 1).flatten(1).double() / 255
            count += pixels.shape[1]
            total += pixels.sum(1)
            squares += pixels.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return [[round(value, 4) for value in part.tolist()] for part in (mean, std)]


@command
def main(arguments):
    """Print the normalisation of the dataset named on the command line."""
    if len(arguments) != 2:
        raise UsageError("usage: python -m stillhouse.planning.normalisation config.yaml DATASET")
    mean, std = of_dataset(of_file(arguments[0]), arguments[1])
    print(f"normalisation: {{mean: {mean}, std: {std}}}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
