"""Bitstreams of a set: one file per slice, and the images that they decode to."""

import functools
from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import member_folder
from stillhouse.data.bitstream import files
from stillhouse.methods.ruo.codec import Codec
from stillhouse.methods.ruo.compression import set_slices, slice_layout
from stillhouse.methods.ruo.post_quantisation import Quantiser

FILE = "slice.bits"


def bitstream(inputs, spec, context):
    """Stage: quantise the networks of slices and write their bitstreams.

    ``report.json`` has the bits of each part of the file, their estimates, and the mean squared
    error that the quantisation adds to the images.
    """
    warmup = warmup_spec(spec)
    settings, device = warmup["settings"], context.torch_device()
    all_slices, bound = set_slices(settings, warmup["keys"]), bound_of(inputs, spec)

    def make(number, context):
        own = all_slices[number]
        codec = Codec(slice_layout(settings), own.n_images)
        quantised = Quantiser(codec, slice_vector(inputs, number, device)).within(bound)
        contents = files.Contents(
            quantised.networks, quantised.grids, own.label, own.n_classes, own.count
        )
        data, bits = files.write_counted(contents)
        report = {
            "bits": bits,
            "bound": bound,
            "bytes": len(data),
            "error": quantised.error,
            "estimate": quantised.bits,
            "images": own.n_images,
            "steps": quantised.networks.steps,
        }
        return {"report.json": report, FILE: data}

    return make


def warmup_spec(spec):
    """Return the spec of the warm-up that an artifact was made from."""
    upstream = spec["upstream"]
    return upstream["compression"] if "compression" in upstream else warmup_spec(upstream["state"])


def slice_vector(inputs, number, device):
    """Return the latents and networks of a slice, from its warm-up or the joint optimisation."""
    if "compression" in inputs:
        return store.read_tensors(inputs["compression"][number], device)["vector"]
    return store.read_tensors(inputs["state"], device)[f"vector{number}"]


def bound_of(inputs, spec):
    """Return the bound on the mean squared error: that of the settings, or the chosen one."""
    if "bound" in inputs:
        return store.read_json(inputs["bound"])["bound"]
    return spec["settings"]["bound"]


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


def storage_bytes(spec):
    """Return {"image_bytes": bytes of the bitstreams of a set}."""
    stored = spec["upstream"]["bitstream"]
    folders = [
        member_folder(stored["address"], "slice", number) for number in range(stored["members"])
    ]
    return {"image_bytes": sum(path.stat().st_size for path in (f / FILE for f in folders))}
