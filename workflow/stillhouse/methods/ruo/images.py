"""The images that the bitstreams of a set decode to, and their bytes; no torch."""

import functools
from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import member_folder
from stillhouse.data.bitstream import files
from stillhouse.methods.ruo.slices import set_slices

FILE = "slice.bits"


def images_of_class(inputs, spec, class_id, context):
    """Return the decoded images of one class, [(pixels, [])], by their index."""
    warmup = warmup_spec(spec["upstream"]["bitstream"])
    label = warmup["settings"]["classes"].index(class_id)
    images = []
    for number, own in enumerate(set_slices(warmup["settings"], warmup["keys"])):
        if own.label <= label < own.label + own.n_classes:
            decoded = decoded_images(inputs["bitstream"][number])
            first = (label - own.label) * own.count
            images += list(decoded[first : first + own.count])
    return [(pixels, []) for pixels in images]


@functools.lru_cache(maxsize=1)
def decoded_images(path):
    """Return the images of a bitstream, (n, 3, side, side) uint8."""
    store.check([path])
    return files.read(Path(path).read_bytes(), path).images()


def warmup_spec(spec):
    """Return the spec of the warm-up that an artifact was made from."""
    upstream = spec["upstream"]
    return upstream["compression"] if "compression" in upstream else warmup_spec(upstream["state"])


def storage_bytes(spec):
    """Return {"image_bytes": bytes of the bitstreams of a set}."""
    stored = spec["upstream"]["bitstream"]
    folders = [
        member_folder(stored["address"], "slice", number) for number in range(stored["members"])
    ]
    return {"image_bytes": sum(path.stat().st_size for path in (f / FILE for f in folders))}
