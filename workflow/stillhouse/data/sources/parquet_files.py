"""Sources in Parquet files with an image and a label column."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.data.sources.base import Image
from stillhouse.errors import StillhouseError


class ParquetFiles:
    """Parquet files in Hugging Face layout: an image column and a label column.

    Images are struct{bytes, path} or plain bytes; labels are positions in the source's classes,
    or class ids.
    """

    def __init__(self, settings, files):
        self.settings = settings
        self.files = files
        self.class_ids = set(settings["classes"])

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, in the order of the files."""
        for split in ("train", "test"):
            row = 0
            for path in self.files[split]:
                parquet = self._open(path)
                for group in range(parquet.num_row_groups):
                    yield from self._group(parquet, path, group, split, row, wanted)
                    row += parquet.metadata.row_group(group).num_rows

    def _group(self, parquet, path, group, split, first, wanted):
        column, labels = self.settings["image_column"], self.settings["label_column"]
        names = self._names(path, _column(parquet, path, group, labels))
        rows = [i for i, name in enumerate(names) if name in wanted]
        if not rows:
            return
        images = _column(parquet, path, group, column)
        for row in rows:
            value = images[row].as_py()
            data = value["bytes"] if isinstance(value, dict) else value
            if data in (None, b"") and self.settings["on_bad_image"] == "skip":
                data = b""  # the index counts it as unreadable
            elif not isinstance(data, bytes) or not data:
                raise StillhouseError(
                    f"{path}: row {first + row}: no bytes in column {column!r}; images outside the "
                    "file are not supported"
                )
            name = f"{split}-{first + row:07d}"
            inner = (value.get("path") if isinstance(value, dict) else None) or name
            yield Image(names[row], name, split, data, inner)

    def _names(self, path, labels):
        """Return the class ids of a label column, checked against the source's classes."""
        classes = self.settings["classes"]
        names = [
            classes[v] if isinstance(v, int) and 0 <= v < len(classes) else v
            for v in labels.to_pylist()
        ]
        unknown = [name for name in names if name not in self.class_ids]
        if unknown:
            raise StillhouseError(
                f"{path}: unknown label {unknown[0]!r}; list all classes of the source, in order, "
                f"under sources.{self.settings['name']}.classes (now {len(classes)})"
            )
        return names

    def _open(self, path):
        key = f"sources.{self.settings['name']}"
        try:
            parquet = pq.ParquetFile(path)
        except FileNotFoundError:
            raise StillhouseError(f"{key}: file not found: {path}") from None
        except pa.ArrowInvalid:
            raise StillhouseError(f"{key}: not a Parquet file: {path}") from None
        for setting in ("image_column", "label_column"):
            name = self.settings[setting]
            if name not in parquet.schema_arrow.names:
                columns = ", ".join(parquet.schema_arrow.names)
                raise StillhouseError(
                    f"{path}: missing column {name!r}; set {key}.{setting} to one of {columns}"
                )
        self._check_names(path, parquet.schema_arrow)
        return parquet

    def _check_names(self, path, schema):
        """Compare the class order with that of Hugging Face's metadata, if the file has any."""
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {})
        names = features.get(self.settings["label_column"], {}).get("names")
        if isinstance(names, dict):
            names = list(names.values())
        if names and names != self.settings["classes"]:
            raise StillhouseError(
                f"{path}: class order {', '.join(names)} of its metadata conflicts with "
                f"sources.{self.settings['name']}.classes"
            )


def _column(parquet, path, group, name):
    """Read one column of a row group."""
    try:
        return parquet.read_row_group(group, [name])[name]
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StillhouseError(
            f"{path}: column {name!r} of row group {group} cannot be read ({reason}); download the "
            "file again"
        ) from None
