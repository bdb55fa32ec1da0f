"""How good a teacher has to be before anything is built on it."""

from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError


def check_accuracy(accuracy, address, n_classes, lowest):
    """Stop at a teacher that has not learnt its classes.

    Parameters
    ----------
    accuracy : float
        On the test split [%].
    address : str
        The teacher's folder.
    n_classes : int
    lowest : float
        ``min_accuracy`` [%].

    Raises
    ------
    StillhouseError
        Near chance naming the usual cause, the class order.
    """
    if accuracy >= lowest:
        return
    chance = 100 / n_classes
    remedy = "train it better, or lower its min_accuracy"
    if accuracy < 2 * chance:
        remedy = (
            "near chance, the class order is the usual cause: the order of the dataset's classes "
            "must be the one that the weights were trained with"
        )
    raise StillhouseError(
        f"teacher {Path(address).name}: test accuracy {accuracy:.1f}% is under min_accuracy "
        f"{lowest:g}% (chance is {chance:.1f}%); {remedy}"
    )


def check_kept(teacher, lowest):
    """Hold a teacher that was made earlier, perhaps under a lower bar, to the bar of today.

    Parameters
    ----------
    teacher : Artifact
    lowest : float
        As `check_accuracy` takes it.
    """
    try:
        accuracy = store.read_json(teacher.file("metrics.json"))["accuracy"]
    except StillhouseError:
        return  # not made yet; or damaged, which its readers will say
    check_accuracy(accuracy, teacher.directory, len(teacher.settings["classes"]), lowest)
