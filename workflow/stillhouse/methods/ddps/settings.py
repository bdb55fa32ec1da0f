"""Layout of DDPS's images. The check of a config imports this module."""

# Largest IPC with four patches per image, for ``variant: auto``.
LAST_CONCATENATED = 10


def patches_per_side(variant, ipc, patch):
    """Return the number of patches per side of an image: 1, or 2 for 2 × 2.

    Parameters
    ----------
    variant : str
        ``single``, ``concat`` or ``auto``.
    ipc : int
    patch : int
        Side of a patch [px]; 0 if complete images are scored, as in the paper for small images.
        ``auto`` never tiles these.

    Notes
    -----
    paper: concatenated up to IPC 10, single from 20 on (section 4.2); here: single from 11 on,
    because of the "otherwise" in the supplement, section 5.
    """
    if variant == "auto":
        variant = "concat" if patch and ipc <= LAST_CONCATENATED else "single"
    return 2 if variant == "concat" else 1
