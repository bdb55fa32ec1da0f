"""Cost formula of the clustering of latents."""

from stillhouse.artifacts.stages import Work

# Passes of k-means over the latents of a class, ten starts included; an assumption.
PASSES = 300


def prototypes(artifact, sizes):
    """The latents of a class are compared with IPC centres."""
    part, ipc = artifact.upstream["latents"], artifact.keys["ipc"]
    numbers = sizes.latent_numbers(part.upstream["denoiser"])
    count = sizes.per_class(artifact)
    return Work(
        multiply_adds=PASSES * count * ipc * numbers,
        held_bytes=4 * 3 * count * numbers,
        stored_bytes=4 * ipc * numbers,
    )
