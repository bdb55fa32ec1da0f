"""Column types of Parquet files as ``features`` of a dataset card, as ``datasets`` reads them."""

import pyarrow as pa

from stillhouse.data.codecs import IMAGE

# Of Arrow types whose names differ in `datasets`.
NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}


def features(schema, classes=()):
    """Return the features of a Parquet file, plain values for YAML.

    Parameters
    ----------
    schema : pyarrow.Schema
    classes : list of str
        Names of the integers of the column ``label``, if there is one.
    """
    return [_feature(field, classes) for field in schema]


def _feature(field, classes):
    if field.name == "label" and classes:
        names = {str(number): name for number, name in enumerate(classes)}
        return {"name": field.name, "dtype": {"class_label": {"names": names}}}
    return {"name": field.name, **_type(field.type)}


def _type(kind):
    """Return the entries of a type: ``sequence`` of plain values, ``list`` of structs."""
    if kind.equals(IMAGE):
        return {"dtype": "image"}
    if pa.types.is_struct(kind):
        return {"struct": features(kind)}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        key = "list" if pa.types.is_struct(kind.value_type) else "sequence"
        value = next(iter(_type(kind.value_type).values()))
        length = {"length": kind.list_size} if pa.types.is_fixed_size_list(kind) else {}
        return {key: value, **length}
    if pa.types.is_fixed_size_binary(kind):
        return {"dtype": "binary"}
    return {"dtype": NAMES.get(str(kind), str(kind))}
