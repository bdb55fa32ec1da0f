"""Images of SRe2L, CDA, G-VBSM and EDC, collected from the batches of a synthesis."""

from stillhouse.artifacts import store
from stillhouse.data.codecs import decode
from stillhouse.methods.statistical_matching.batches import batches


def images_of_class(inputs, spec, class_id, context):
    """Return the synthesised images of one class, [(pixels, [])], by their index."""
    synthesis = spec["upstream"]["synthesis"]
    settings, label = synthesis["settings"], synthesis["settings"]["classes"].index(class_id)
    images = {}
    for number, batch in enumerate(batches(settings, synthesis["keys"]["ipc"])):
        places = {place: index for place, (own, index) in enumerate(batch) if own == label}
        if places:
            stored = store.open_row_groups(inputs["synthesis"][number])
            for place, index in places.items():
                (image,) = stored.read_row_group(place, columns=["image"])["image"].to_pylist()
                images[index] = decode(image["bytes"], class_id)
    return [(images[index], []) for index in sorted(images)]
