"""``python -m stillhouse.decode``: what it writes, without torch, and its errors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stillhouse import decode
from stillhouse.data.bitstream import files
from stillhouse.data.codecs import decode as decode_image

from tests.data.bitstream.slices import contents

PACKAGE = Path(__file__).parents[2] / "workflow"
HEAVY = ("torch", "torchvision", "scipy", "sklearn", "pandas", "snakemake", "safetensors")


def test_a_fresh_process_decodes_the_same_pixels_without_torch(tmp_path):
    written = contents(resolution=16)
    (tmp_path / "slice.bits").write_bytes(files.write(written))
    code = (
        "import sys\n"
        f"blocked = {HEAVY!r}\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in blocked: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from stillhouse.decode import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "slice.bits", "out.parquet"]
    environment = {"PYTHONPATH": str(PACKAGE), "PATH": ""}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    pixels = np.stack([decode_image(row["image"]["bytes"]) for row in rows])
    assert (pixels == written.images()).all()
    assert [row["label"] for row in rows] == written.labels.tolist()
    assert [row["index"] for row in rows] == [0, 1, 2] * 2
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 2


@pytest.mark.parametrize("data", [b"", b"SHRU", b"\x89PNG" + bytes(50), None])
def test_a_file_that_is_no_bitstream_is_one_line(data, tmp_path, capsys):
    source, target = tmp_path / "a.bits", tmp_path / "out.parquet"
    if data is not None:
        source.write_bytes(data)
    assert decode.main([str(source), str(target)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {source}: ") and printed.err.count("\n") == 1
    assert list(tmp_path.glob("*.parquet")) == []


def test_a_folder_that_does_not_exist_is_one_line(tmp_path, capsys):
    source = tmp_path / "a.bits"
    source.write_bytes(files.write(contents()))
    assert decode.main([str(source), str(tmp_path / "no" / "out.parquet")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_usage_is_printed(capsys):
    assert decode.main([]) == 2
    assert "FILE OUT.parquet" in capsys.readouterr().err
