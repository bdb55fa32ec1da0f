"""Sources in Parquet files with an image and a label column."""

import json
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.artifacts import foreign_files, formats
from stillhouse.data.sources.base import Image
from stillhouse.data.sources.class_names import are_descriptions
from stillhouse.errors import StillhouseError, one_line, same_in_unicode

# Compressed data of a column that is read at once [bytes].
BUFFER_BYTES = 2**20
# Class names in a message.
LISTED = 5

IS_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
IS_BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
IS_LABEL = (*IS_TEXT, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
IS_LIST = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class ParquetFiles:
    """Parquet files in Hugging Face layout: an image column and a label column.

    Images are struct{bytes, path} or plain bytes; labels are positions in the source's classes
    (integers, or floats without fraction), or class ids, or lists of one of these. Files are read
    in batches (`formats.batches`), whatever the size of their row groups.

    Parameters
    ----------
    settings : dict
        ``name``, ``classes``, ``image_column``, ``label_column``, ``holdout``, ``on_bad_image``.
    files : dict of str to list of Path
        By split.
    """

    def __init__(self, settings, files):
        self.settings = settings
        self.files = files
        self.key = f"sources.{settings['name']}"
        self.class_ids = set(settings["classes"])

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, in the order of the files."""
        for split in ("train", "test"):
            row = 0
            for path in self.files[split]:
                with self._open(path) as parquet:
                    for group in range(parquet.num_row_groups):
                        yield from self._group(parquet, path, group, split, row, wanted)
                        row += parquet.metadata.row_group(group).num_rows
            if row == 0 and not (split == "test" and self.settings["holdout"]):
                files = ", ".join(map(str, self.files[split]))
                raise StillhouseError(f"{self.key}.{split}: no rows in {files}; list other files")

    def _group(self, parquet, path, group, split, first, wanted):
        names = list(self._names(parquet, path, group, first))
        rows = {i for i, name in enumerate(names) if name in wanted}
        if not rows:
            return
        start = 0
        for images in _batches(parquet, path, group, self.settings["image_column"]):
            for row in (i for i in range(start, start + len(images)) if i in rows):
                name = f"{split}-{first + row:07d}"
                data = self._data(images[row - start], path, first + row)
                yield Image(names[row], name, split, data, _path(images[row - start]) or name)
            start += len(images)

    def _data(self, value, path, row):
        """Return the bytes of an image; empty ones are counted as unreadable, or an error."""
        data = value["bytes"] if pa.types.is_struct(value.type) and value.is_valid else value
        data = data.as_py() or b""
        if not data and self.settings["on_bad_image"] != "skip":
            column = self.settings["image_column"]
            raise StillhouseError(
                f"{path}: row {row}: no bytes in column {column!r}; images outside the file are "
                f"not supported; skip the row with {self.key}.on_bad_image: skip"
            )
        return data

    def _names(self, parquet, path, group, row):
        """Yield the class id of every row of a row group, checked against the source's classes."""
        for labels in _batches(parquet, path, group, self.settings["label_column"]):
            for label in _reading(labels.to_pylist, path, self.settings["label_column"]):
                yield self._class_id(label, path, row)
                row += 1

    def _class_id(self, label, path, row):
        classes, value = self.settings["classes"], label
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and 0 <= value < len(classes):
            return classes[value]
        if isinstance(value, str) and value in self.class_ids:
            return value
        shown = repr(label) if len(repr(label)) <= 60 else repr(label)[:59] + "…"
        raise StillhouseError(f"{path}: row {row}: unknown label {shown}; {self._remedy(value)}")

    def _remedy(self, value):
        if isinstance(value, list):
            return "must be one label per image"
        if value is None or value == -1:
            return "the row has no label; use files whose rows are all labelled"
        same = same_in_unicode(value, self.class_ids)
        if same is not None:
            return f"{self.key}.classes has it in another Unicode form; copy it from the file"
        if isinstance(value, str) and value.isdecimal():
            return f"the text is no class id: list it in {self.key}.classes, or store integers"
        return (
            f"list all classes of the source, in order, under {self.key}.classes (now "
            f"{len(self.settings['classes'])})"
        )

    def _open(self, path):
        foreign_files.check(self.key, path)
        try:
            parquet = pq.ParquetFile(path, buffer_size=BUFFER_BYTES)
            schema, n_rows = parquet.schema_arrow, parquet.metadata.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            what = foreign_files.placeholder_file(path) or f"({one_line(error)}); download it again"
            raise StillhouseError(f"{self.key}: not a Parquet file: {path} {what}") from None
        for setting, check in (("image_column", _check_images), ("label_column", _check_labels)):
            name = self.settings[setting]
            if schema.names.count(name) != 1:
                raise StillhouseError(f"{path}: {self._column_problem(setting, name, schema)}")
            if n_rows:  # writers of empty files do not know the types
                check(path, name, schema.field(name).type)
        self._check_names(path, schema)
        return parquet

    def _column_problem(self, setting, name, schema):
        """Return what is wrong with a column that is missing, or there more than once."""
        if name in schema.names:
            return f"column {name!r} exists {schema.names.count(name)} times; rename the others"
        fits = _is_image if setting == "image_column" else _is_label
        names = ", ".join(one.name for one in schema if fits(one.type))
        if not names:
            return f"missing column {name!r}, and none of {', '.join(schema.names)} has its type"
        return f"missing column {name!r}; set {self.key}.{setting} to one of {names}"

    def _check_names(self, path, schema):
        """Compare the class order with that of Hugging Face's metadata, if the file has any."""
        names = class_names(schema.metadata, self.settings["label_column"])
        classes = self.settings["classes"]
        if names and names != classes and not are_descriptions(names, classes):
            shown = ", ".join(names[:LISTED]) + ", …" * (len(names) > LISTED)
            raise StillhouseError(
                f"{path}: class order {shown} of its metadata conflicts with {self.key}.classes; "
                f"list its {len(names)} classes in its order"
            )


def class_names(metadata, column):
    """Return the class names of a label column in Hugging Face's metadata of a Parquet file.

    Parameters
    ----------
    metadata : dict of bytes to bytes, or None
        Of the file's schema.
    column : str

    Returns
    -------
    list of str
        Empty if the file has none, or metadata of another form.
    """
    try:
        value = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        return []
    for key in ("info", "features", column):
        value = value.get(key) if isinstance(value, dict) else None
    # A list of class labels is a list with one feature, or has its feature under this name.
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, dict) and "names" not in value:
        value = value.get("feature")
    names = value.get("names") if isinstance(value, dict) else None
    if isinstance(names, dict) and all(key.isdecimal() for key in names):
        names = [names[key] for key in sorted(names, key=int)]
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else []


def _is_image(kind):
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        kind = kind.field(index).type if index >= 0 else kind
    return any(is_kind(kind) for is_kind in (*IS_BYTES, pa.types.is_null))


def _is_label(kind):
    if pa.types.is_dictionary(kind) or any(is_list(kind) for is_list in IS_LIST):
        return any(is_kind(kind.value_type) for is_kind in IS_LABEL)
    return any(is_kind(kind) for is_kind in (*IS_LABEL, pa.types.is_null))


def _check_images(path, name, kind):
    if not _is_image(kind):
        raise StillhouseError(
            f"{path}: column {name!r}: {_short(kind)} has no bytes of images; must be "
            "struct{bytes, path} or binary, with the content of image files"
        )


def _check_labels(path, name, kind):
    if not _is_label(kind):
        raise StillhouseError(
            f"{path}: column {name!r}: {_short(kind)} is no label; must be integers, text, or "
            "lists of one of these"
        )


def _short(kind):
    text = str(kind)
    return text if len(text) <= 60 else text[:59] + "…"


def _batches(parquet, path, group, column):
    """Yield one column of a row group in arrays."""
    read = partial(next, formats.batches(parquet, group, [column]), None)
    while (batch := _reading(read, path, column)) is not None:
        array = batch.column(batch.schema.get_field_index(column))
        yield array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _reading(read, path, column):
    """Call a function that reads a column, with errors of one line."""
    try:
        return read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StillhouseError(
            f"{path}: column {column!r} cannot be read ({one_line(error)}); download the file again"
        ) from None


def _path(value):
    """Return the file name of an image; None if it has none."""
    if not pa.types.is_struct(value.type) or not value.is_valid:
        return None
    index = value.type.get_field_index("path")
    if index < 0 or not any(is_text(value.type.field(index).type) for is_text in IS_TEXT):
        return None
    try:
        return value[index].as_py()
    except ValueError:  # no UTF-8
        return None
