"""Cost formulas of inversion and group search."""

from stillhouse.artifacts.stages import Work

# Table A3: 0.2201 s for 1e5 groups of ten latents of 4096 numbers on an A100, per number that is
# drawn and compared, as multiply-adds at 15e12 per second.
DRAWN = 0.2201 / 1e6 / 4096 * 15e12


def inversion(artifact, sizes):
    """Every latent of a class takes the steps to the last snapshot, with guidance in two passes."""
    settings, part = artifact.settings, artifact.upstream["denoiser"]
    n_steps = 2 * max(settings["snapshots"]) if settings["noising"] != "forward" else 0
    count, numbers = sizes.chosen(artifact), sizes.latent_numbers(part)
    stored = 4 * 2 * numbers * len(settings["snapshots"])
    return sizes.denoiser_work(part, count * n_steps, stored_bytes=stored)


def samples(artifact, sizes):
    """Groups of IPC latents are drawn and compared."""
    settings, ipc = artifact.settings, artifact.keys["ipc"]
    inversion = artifact.upstream["inversion"]
    numbers = ipc * sizes.latent_numbers(inversion.upstream["denoiser"])
    drawn = settings.get("candidates", 0) * numbers
    return Work(multiply_adds=drawn * DRAWN, stored_bytes=4 * numbers)
