"""Cost formulas of matching: expert trajectories, and updates by DM, GM or TM."""

import math

from stillhouse.artifacts.stages import Work

PARAMETERS = 1e6  # of a matched network; an assumption


def trajectories(artifact, sizes):
    """An expert is trained on the training split, and its weights are stored every epoch."""
    settings = artifact.settings
    classes, side = settings["classes"], settings["resolution"]
    shown = settings["epochs"] * sizes.per_class(artifact) * len(classes)
    return Work(
        multiply_adds=sizes.trained(shown * sizes.network(settings["network"], side)),
        steps=shown / settings["batch_size"],
        pixels=sizes.decoded(sizes.per_class(artifact) * len(classes), side),
        held_bytes=sizes.split_bytes(artifact, side, classes),
        activation_bytes=sizes.trained_bytes(settings["batch_size"], side),
        stored_bytes=4 * PARAMETERS * (settings["epochs"] + 1),
    )


def matched(artifact, sizes):
    """All images of a set are updated in every iteration."""
    pixels = 3 * sizes.n_images(artifact) * artifact.settings["resolution"] ** 2
    return updates(artifact, sizes, artifact.settings["iterations"], stored_bytes=6 * pixels)


def updates(artifact, sizes, count, multiply_adds=0.0, **others):
    """Return the `Work` of updates of all images of a set by a utility.

    Parameters
    ----------
    artifact : Artifact
    sizes : stillhouse.planning.sizes.Sizes
    count : int
    multiply_adds : float
        Of an update, beside the utility.
    **others
        Fields of `Work`.
    """
    settings = artifact.settings
    classes, side = settings["classes"], settings["resolution"]
    computed, steps, batch = of_update(settings, len(classes), sizes.n_images(artifact))
    return Work(
        multiply_adds=count * (computed * sizes.network(settings["network"], side) + multiply_adds),
        steps=count * steps,
        pixels=sizes.decoded(sizes.per_class(artifact) * len(classes), side),
        held_bytes=sizes.split_bytes(artifact, side, classes),
        activation_bytes=2 * sizes.trained_bytes(batch, side),
        **others,
    )


def of_update(settings, n_classes, count):
    """Return passes over an image, steps one after the other, and images at once of an update."""
    if settings["utility"] == "tm":
        # Counted by torch: the gradient and its adjoint, and as "exact" the gradient once again.
        batch = min(settings["student_batch_size"] or count, count)
        steps, passes = settings["student_steps"], {"exact": 10.5, "tesla": 9.5}
        return steps * passes[settings["gradient"]] * batch, 3 * steps, 2 * batch
    real, batch = n_classes * settings["real_images"], settings["real_images"] + count / n_classes
    if settings["utility"] == "dm":
        return real + 2 * count, n_classes, batch  # no gradients to weights
    # The network is trained before all updates but its first.
    epochs = settings["inner_epochs"] * (1 - 1 / settings["outer_steps"])
    steps = n_classes + epochs * math.ceil(count / settings["inner_batch_size"])
    return 3 * real + 6 * count + 3 * epochs * count, steps, batch
