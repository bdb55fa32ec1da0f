"""Cost formulas of feature statistics and synthesis."""

from stillhouse.artifacts.stages import Work

# Passes per step, of forward and backward ones, by flatness.
FLATNESS = {"none": 1, "sam": 2}
LAYER_NUMBERS = 10_000  # means and variances of a network's layers; an assumption


def statistics(artifact, sizes):
    """The training images of every class pass the teacher, one class at a time."""
    part, classes = artifact.upstream["teacher"], artifact.settings["classes"]
    count, side = sizes.per_class(artifact), part.settings["resolution"]
    numbers = LAYER_NUMBERS * (len(classes) + 1)
    return Work(
        multiply_adds=count * len(classes) * sizes.passes([part], side),
        pixels=sizes.decoded(count * len(classes), side),
        held_bytes=sizes.split_bytes(artifact, side, classes[:1]) + 8 * numbers,
        activation_bytes=sizes.batch_bytes(side),
        stored_bytes=4 * numbers,
    )


def synthesis(artifact, sizes):
    """A batch takes its iterations, each against one of the teachers."""
    settings, teachers = artifact.settings, artifact.upstream["teachers"]
    teachers = teachers if isinstance(teachers, list | tuple) else [teachers]
    n_images = sizes.n_images(artifact)
    batch = min(settings["batch_size"] or n_images, n_images)
    side, steps = teachers[0].settings["resolution"], settings["iterations"]
    work = sizes.trained(sizes.passes(teachers, side)) / len(teachers)
    work *= FLATNESS.get(settings["flatness"]["kind"], 4 / 3)
    pixels = batch * 3 * side**2
    return Work(
        multiply_adds=steps * batch * work,
        steps=steps,
        held_bytes=8 * LAYER_NUMBERS * len(teachers) * len(settings["classes"]) + 16 * pixels,
        activation_bytes=sizes.trained_bytes(batch, side),
        stored_bytes=2 * pixels,
    )
