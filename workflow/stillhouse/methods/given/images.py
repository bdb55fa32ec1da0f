"""The images of a set made elsewhere, with its labels and learning rate; no torch for files."""

import functools
import json

import numpy as np

from stillhouse.data.codecs import decode, format_of
from stillhouse.data.distilled_set import LearnedParts
from stillhouse.errors import StillhouseError
from stillhouse.methods.given.files import digest, set_files
from stillhouse.methods.given.sets import from_folders
from stillhouse.methods.given.tables import from_parquet
from stillhouse.methods.given.tensors import from_tensors


def images_of_class(inputs, spec, class_id, context):
    """Return the images of one class, [(pixels or bytes of a file, [])], in the set's order.

    PNG, JPEG and WebP files of the dataset's resolution are returned unchanged, unless an
    ``encoding`` is set. The centred square of any other image is resized.
    """
    settings, elsewhere = spec["settings"], _set(inputs, spec)
    rows = elsewhere.rows(settings["classes"].index(class_id))
    side, unchanged = settings["resolution"], "encoding" not in settings
    images = [
        _stored(elsewhere.images[i], f"{elsewhere.place}: image {i}", side, unchanged) for i in rows
    ]
    n_resized = sum(resized for _, resized in images)
    if n_resized:
        print(
            f"{elsewhere.place}: {n_resized} images of {class_id!r} resized to {side} px",
            flush=True,
        )
    return [(image, []) for image, _ in images]


def learned_parts(inputs, spec, context):
    """Return the `LearnedParts` of a set: soft labels and learning rate, where it has them."""
    elsewhere = _set(inputs, spec)
    if elsewhere.soft is None:
        return LearnedParts(learning_rate=elsewhere.learning_rate)
    rows = np.concatenate([elsewhere.rows(i) for i in range(len(spec["settings"]["classes"]))])
    return LearnedParts(elsewhere.soft[rows], elsewhere.soft_kind, elsewhere.learning_rate)


def _stored(image, name, side, unchanged):
    """Return (pixels or bytes, whether they were resized) of an image."""
    image = image() if callable(image) else image
    pixels = decode(image, name) if isinstance(image, bytes) else image
    if pixels.shape[1:] != (side, side):
        from stillhouse.data.crops import centre_square

        return centre_square(pixels, side)[0], True
    keep = unchanged and isinstance(image, bytes) and format_of(image)
    return image if keep else pixels, False


def _set(inputs, spec):
    """Return the `GivenSet` of a distilled set's files, checked."""
    places = inputs.get("set", ())
    if not places:
        raise StillhouseError(
            f"{spec['address']}: the files of the set are missing; restore them, at the path in "
            "the config"
        )
    return _load(places[0], spec["keys"]["ipc"], json.dumps(spec["settings"], sort_keys=True))


@functools.lru_cache(maxsize=1)
def _load(place, ipc, settings):
    settings = json.loads(settings)
    files, classes = set_files(place, place.is_dir()), settings["classes"]
    actual = digest(files)
    if actual != settings["sha256"]:
        raise StillhouseError(
            f"{place}: digest must be {settings['sha256']}, as when the run began, not {actual}; "
            "restore the files, or, if they are correct, remove or correct sha256 and rerun"
        )
    _check_effect(place, files.layout, settings)
    if files.layout == "folders":
        elsewhere = from_folders(files, classes)
    elif files.layout == "parquet":
        elsewhere = from_parquet(files, classes)
    else:
        elsewhere = from_tensors(files, classes, settings)
    elsewhere.check_counts(classes, ipc)
    return elsewhere


def _check_effect(place, layout, settings):
    """Raise a `StillhouseError` for a setting without effect on a layout."""
    encoded = layout in ("folders", "parquet")
    for name, idle in (("normalisation", encoded), ("run", layout != "results")):
        if name in settings and idle:
            what = "image files" if encoded else "a set of one run"
            raise StillhouseError(
                f"{place}: {name} of the method has no effect on {what}; remove it"
            )
