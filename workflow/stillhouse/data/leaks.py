"""Training images that are test images as well, by the SHA-256 of their bytes.

The Snakefile imports this module: functions import heavy packages on demand.
"""

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError


def in_both_splits(table):
    """Return the rows of training images whose bytes equal those of a test image.

    Parameters
    ----------
    table : pyarrow.Table
        Rows of an index: ``image_id``, ``split`` (``unused`` images are not counted), ``sha256``.
    """
    import pyarrow.compute as pc

    test = table.filter(pc.equal(table["split"], "test"))["sha256"]
    train = table.filter(pc.equal(table["split"], "train"))
    return train.filter(pc.is_in(train["sha256"], value_set=test.unique()))


def check(name, table):
    """Raise a `StillhouseError` if training images of a source are test images as well.

    Parameters
    ----------
    name : str
        Of the source.
    table : pyarrow.Table
        Its index.
    """
    leaked = in_both_splits(table)
    if leaked.num_rows:
        image_id = leaked["image_id"][0].as_py()
        raise StillhouseError(
            f"sources.{name}: {leaked.num_rows} training images equal test images, such as "
            f"{image_id!r}; remove them from one split, or set sources.{name}.on_leak: count"
        )


def check_existing(name, path):
    """Check the index of a source if it exists already, see `check`.

    Parameters
    ----------
    name : str
    path : Path
        ``index.parquet``.
    """
    try:
        table = store.read_table(path, columns=["image_id", "split", "sha256"])
    except StillhouseError:
        return  # missing, or damaged, which jobs report
    check(name, table)
