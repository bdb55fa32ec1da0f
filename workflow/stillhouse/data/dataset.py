"""The manifest of a dataset: one file that represents the images of all its classes."""

import pyarrow as pa
import pyarrow.compute as pc

from stillhouse.artifacts import manifests, store
from stillhouse.data.class_images import INDEX_SCHEMA
from stillhouse.data.leaks import in_both_splits


def dataset(inputs, spec, context):
    """Stage: list and count the images of each class, with their checksums.

    ``dataset.json`` has ``members`` (files of each class with size and SHA-256), ``classes``
    (images per split, in the order of the settings) and ``in_both_splits``, the number of
    training images whose bytes equal those of a test image.
    """

    def make(member, context):
        classes = spec["settings"]["classes"]
        table = store.read_table(inputs["index"], schema=INDEX_SCHEMA)
        table = table.filter(pc.is_in(table["class_id"], pa.array(classes)))
        counts = {class_id: {"train": 0, "test": 0} for class_id in classes}
        columns = (table[name].to_pylist() for name in ("class_id", "split"))
        for class_id, split in zip(*columns, strict=True):
            if split in counts[class_id]:
                counts[class_id][split] += 1
        shared = in_both_splits(table).num_rows
        if shared:
            print(f"{shared} training images equal test images", flush=True)
        folders = [inputs["images"][class_id].parent for class_id in classes]
        content = {
            "classes": [{"class_id": name, **count} for name, count in counts.items()],
            "in_both_splits": shared,
            **manifests.listing(folders),
        }
        return {"dataset.json": content}

    return make
