"""Cost formula of the scores of patches."""

from stillhouse.artifacts.stages import Work


def patch_scores(artifact, sizes):
    """Every crop of the chosen images passes the teacher once."""
    settings, part = artifact.settings, artifact.upstream["teacher"]
    count, side = sizes.chosen(artifact), part.settings["resolution"]
    return Work(
        multiply_adds=count * settings["crops_per_image"] * sizes.passes([part], side),
        pixels=sizes.decoded(count, side),
        activation_bytes=sizes.batch_bytes(side),
        stored_bytes=30 * count,
    )
