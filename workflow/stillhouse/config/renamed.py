"""Renamed keys and values of configs of version 0.1, for messages with the new name."""

# Path of a key, with * for a name set by the user, to the new name of the key.
RENAMED = {
    "methods.*.jitter": "shift",
    "methods.*.weights": "loss_weights",
    "methods.*.turns": "observer_order",
    "methods.*.tiles": "tile_statistics",
    "methods.*.flatness.on": "kind",
    "methods.*.process": "noising",
    "methods.*.features": "feature_space",
    "denoisers.*.labels": "class_labels",
    "protocols.*.test_view": "test_crop",
}
# Path of a key, by its new name, to {old value: new value}.
RENAMED_VALUES = {
    "methods.*.tile_statistics": {"right": "correct"},
    "methods.*.noising": {"inversion": "ddim_inversion", "diffusion": "forward"},
    "protocols.*.test_crop": {"rded": "center_224_of_256", "whole": "center_square"},
}


def hint(path, key, known=None):
    """Return a remedy for an unknown key, "renamed to 'shift'"; empty if it was never a key.

    Parameters
    ----------
    path : sequence
        Keys from the root to the object with the key.
    key : str or bool
        YAML reads a plain ``on`` as True.
    known : collection of str, optional
        Keys allowed in the object; new names that are not among them are ignored.
    """
    pattern = _pattern([*path, "on" if key is True else key])
    name = RENAMED.get(pattern)
    if name is None or (known is not None and name not in known):
        return ""
    values = RENAMED_VALUES.get(f"{pattern.rpartition('.')[0]}.{name}", {})
    changes = ", ".join(f"{old} is now {new}" for old, new in values.items())
    return f"renamed to {name!r}" + (f" ({changes})" if changes else "")


def value_hint(path, value):
    """Return a remedy for an invalid value, "renamed to 'forward'"; empty if it was never valid.

    Parameters
    ----------
    path : sequence
        Keys from the root to the value.
    value : object
    """
    values = RENAMED_VALUES.get(_pattern(path), {})
    return f"renamed to {values[value]!r}" if isinstance(value, str) and value in values else ""


def _pattern(path):
    """Return a path with its names as *; paths of overrides become those of methods."""
    if len(path) > 4 and path[0] == "experiments" and path[2] == "methods":
        path = ["methods", *path[4:]]
    return ".".join("*" if depth == 1 else str(part) for depth, part in enumerate(path))
