"""Cost formula of the clustering of latents."""

from stillhouse.artifacts.stages import Work


def prototypes(artifact, sizes):
    """The latents of a class are compared with IPC centres."""
    part, ipc = artifact.upstream["latents"], artifact.keys["ipc"]
    numbers = sizes.latent_numbers(part.upstream["denoiser"])
    count = sizes.per_class(artifact)
    return Work(
        multiply_adds=sizes.clustered(count, ipc, numbers),
        held_bytes=4 * 3 * count * numbers,
        stored_bytes=4 * ipc * numbers,
    )
