"""Images of methods that decode latents with a denoiser: D3HR and D4M."""

from stillhouse.artifacts import store
from stillhouse.data.crops import whole_image


def images_of_class(inputs, spec, class_id, context):
    """Return the decoded images of one class at the dataset's resolution, [(pixels, [])]."""
    table = store.read_table(inputs["decoded"][class_id], columns=["image"])
    resolution = spec["settings"]["resolution"]
    encoded = (image["bytes"] for image in table["image"].to_pylist())
    return [
        (whole_image(f"{class_id} {i}", data, resolution)[0], []) for i, data in enumerate(encoded)
    ]
