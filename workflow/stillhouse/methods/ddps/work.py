"""Cost formulas of class scores, features and clusters of patches."""

from stillhouse.artifacts.stages import Work

FEATURES = 2000  # numbers of a patch; an assumption


def class_scores(artifact, sizes):
    """Every chosen image is denoised in each draw, with the class and without it."""
    count = sizes.chosen(artifact)
    passes = 2 * artifact.settings["draws"] * count
    return sizes.denoiser_work(artifact.upstream["denoiser"], passes, stored_bytes=60 * count)


def patch_features(artifact, sizes):
    """Every patch passes the denoiser once per member of the ensemble, or CLIP, as its encoder."""
    count = sizes.chosen(artifact.upstream["scores"])
    scored = artifact.upstream["scores"].upstream["denoiser"]
    others = {
        "encoded": count,
        "pixels": sizes.decoded(count, scored.settings["resolution"]),
        "stored_bytes": 4 * FEATURES * count,
    }
    if "denoiser" in artifact.upstream:
        part, passes = artifact.upstream["denoiser"], count * artifact.settings.get("ensemble", 1)
        return sizes.denoiser_work(part, passes, **others)
    return sizes.denoiser_work(scored, **others)


def clusters(artifact, sizes):
    """The features of a class are compared with the centres."""
    count, n_clusters = sizes.chosen(artifact.upstream["scores"]), artifact.settings["clusters"]
    return Work(
        multiply_adds=sizes.clustered(count, n_clusters, FEATURES),
        held_bytes=4 * 3 * count * FEATURES,
        stored_bytes=30 * count,
    )
