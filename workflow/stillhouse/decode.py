"""``python -m stillhouse.decode FILE OUT.parquet``: the images and labels of a bitstream.

Needs NumPy, Pillow and pyarrow, and none of the networks' libraries. The table has the columns
``image`` (struct of PNG bytes and path), ``label`` (int64) and ``index`` (int32, within the class),
a row group per class.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.data.bitstream import files
from stillhouse.data.codecs import IMAGE, encode
from stillhouse.errors import StillhouseError, UsageError, command

SCHEMA = pa.schema([("image", IMAGE), ("label", pa.int64()), ("index", pa.int32())])


def decode(source, target):
    """Decode a file to a Parquet file.

    Parameters
    ----------
    source, target : Path

    Raises
    ------
    StillhouseError
        If the source is missing, damaged or no bitstream.
    """
    try:
        with source.open("rb") as stream:
            data = stream.read(files.MOST_BYTES + 1)
    except OSError as error:
        raise _failed(source, "readable", error) from None
    contents = files.read(data, source)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with pq.ParquetWriter(temporary, SCHEMA) as writer:
            for table in _tables(contents):
                writer.write_table(table)
        temporary.replace(target)
    except OSError as error:
        raise _failed(target, "writable", error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _tables(contents):
    """Yield the table of each class."""
    n = contents.images_per_class
    for number, pixels in enumerate(contents.images().reshape(-1, n, *contents.shape)):
        label = contents.first_label + number
        columns = {
            "image": [
                {"bytes": encode(image, "png"), "path": f"{label:04d}-{i:04d}.png"}
                for i, image in enumerate(pixels)
            ],
            "label": [label] * n,
            "index": list(range(n)),
        }
        yield pa.table(columns, SCHEMA)


def _failed(path, ability, error):
    return StillhouseError(f"{path}: not {ability} ({error.strerror}); check the path")


@command
def main(arguments):
    """Run the command."""
    if len(arguments) != 2:
        raise UsageError("usage: python -m stillhouse.decode FILE OUT.parquet")
    decode(*map(Path, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
