"""The minimum accuracy of teachers.

The Snakefile imports this module: it imports no torch.
"""

from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError


def check_accuracy(accuracy, address, n_classes, min_accuracy):
    """Raise if a teacher's accuracy is below its minimum.

    Parameters
    ----------
    accuracy : float
        On the test split [%].
    address : str
        The teacher's folder.
    n_classes : int
    min_accuracy : float
        In percent.

    Raises
    ------
    StillhouseError
        Near chance, with the usual cause, the class order.
    """
    if accuracy >= min_accuracy:
        return
    chance = 100 / n_classes
    remedy = "improve its training, or lower its min_accuracy"
    if accuracy < 2 * chance:
        remedy = (
            "near chance, the usual cause is the class order: the order of the dataset's classes "
            "must be that of the weights' training"
        )
    raise StillhouseError(
        f"teacher {Path(address).name}: test accuracy {accuracy:.1f}% is below min_accuracy "
        f"{min_accuracy:g}% (chance is {chance:.1f}%); {remedy}"
    )


def check_existing(teacher, min_accuracy):
    """Check an existing teacher against the current `min_accuracy`.

    Parameters
    ----------
    teacher : stillhouse.artifacts.addresses.Artifact
    min_accuracy : float
        See `check_accuracy`.
    """
    try:
        accuracy = store.read_json(teacher.directory / "metrics.json")["accuracy"]
    except StillhouseError:
        return  # missing, or damaged, which jobs report
    check_accuracy(accuracy, teacher.directory, len(teacher.settings["classes"]), min_accuracy)
