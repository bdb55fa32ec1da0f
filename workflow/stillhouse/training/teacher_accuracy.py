"""The minimum accuracy of teachers, and what to do about one that is below it.

The Snakefile imports this module: it imports no torch.
"""

from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError


def weights_origin(settings):
    """Return the origin of a teacher's weights: ``training``, ``file`` or ``library``.

    Parameters
    ----------
    settings : dict
        Of the teacher artifact: ``weights`` is a file's SHA-256, ``pretrained`` a library's name of
        its weights.
    """
    if "weights" in settings:
        return "file"
    return "library" if "pretrained" in settings else "training"


def default_minimum(n_classes):
    """Return the minimum accuracy of a teacher that has none in the config [%].

    1.5 times chance; with less than six classes a tenth of the way from chance to 100 %, which is
    less.
    """
    return min(150 / n_classes, _tenth_above_chance(n_classes))


def _tenth_above_chance(n_classes):
    chance = 100 / n_classes
    return chance + 0.1 * (100 - chance)


def check_accuracy(accuracy, address, settings, min_accuracy):
    """Raise if a teacher's accuracy is below its minimum.

    Parameters
    ----------
    accuracy : float
        On the test split [%].
    address : str
        The teacher's folder.
    settings : dict
        Of the stage.
    min_accuracy : float
        In percent.

    Raises
    ------
    StillhouseError
        Near chance, of weights, with the usual cause, the class order.
    """
    if accuracy >= min_accuracy:
        return
    n_classes = len(settings["classes"])
    chance = 100 / n_classes
    remedy = "use other weights, or lower its min_accuracy"
    if weights_origin(settings) == "training":
        remedy = "train it for more epochs or with smaller batches, or lower its min_accuracy"
    elif accuracy < min(2 * chance, _tenth_above_chance(n_classes)):
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
    check_accuracy(accuracy, teacher.directory, teacher.settings, min_accuracy)
