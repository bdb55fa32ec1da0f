"""Layout of DDPS's images. Light: the config is checked with this module."""

# Images per class up to which an image consists of four patches, with ``variant: auto``.
LAST_CONCATENATED = 10


def patches_per_side(variant, ipc, patch):
    """Return the number of patches per side of an image: 1, or 2 for 2 × 2.

    Parameters
    ----------
    variant : str
        ``single``, ``concat`` or ``auto``.
    ipc : int
    patch : int
        Side of a patch [px]; 0 if whole images were scored, as the paper does where images are
        small. ``auto`` never tiles these.

    Notes
    -----
    paper: concatenated up to IPC 10, single from 20 on (section 4.2); here: single from 11 on,
    because the "otherwise" of the supplement, section 5, begins there.
    """
    if variant == "auto":
        variant = "concat" if patch and ipc <= LAST_CONCATENATED else "single"
    return 2 if variant == "concat" else 1
