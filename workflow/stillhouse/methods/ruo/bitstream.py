"""Bitstreams of a set: one file per slice."""

from stillhouse.artifacts import store
from stillhouse.data.bitstream import files
from stillhouse.methods.ruo.codec import Codec
from stillhouse.methods.ruo.compression import slice_layout
from stillhouse.methods.ruo.images import FILE, warmup_spec
from stillhouse.methods.ruo.post_quantisation import Quantiser
from stillhouse.methods.ruo.slices import set_slices


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
