"""The images of a distilled set that was optimised by matching, and its learned rate."""

from stillhouse.artifacts import store
from stillhouse.data.codecs import decode
from stillhouse.data.distilled_set import LearnedParts

RATE = b"learning_rate"


def images_of_class(inputs, spec, class_id, context):
    """Return the optimised images of one class, [(pixels, [])], by their index."""
    classes = spec["upstream"]["matched"]["settings"]["classes"]
    stored = store.open_row_groups(inputs["matched"])
    group = stored.read_row_group(classes.index(class_id), columns=["image"])
    return [(decode(row["bytes"], class_id), []) for row in group["image"].to_pylist()]


def learned_parts(inputs, spec, context):
    """Return the `LearnedParts` of a set: the learning rate of students."""
    metadata = store.open_row_groups(inputs["matched"]).schema_arrow.metadata
    return LearnedParts(learning_rate=float(metadata[RATE]))
