"""Table and picture of the README are made of cells and sets; the README has every method."""

import re
from pathlib import Path

import yaml
from PIL import Image

from docs import first_screen

SECONDS = {"teacher": 10, "denoiser": 0, "distill": 5, "label": 2}


def row(method, protocol, seed, accuracy, ipc=10):
    return {
        **{"method": method, "ipc": str(ipc), "protocol": protocol, "seed": str(seed)},
        **{"accuracy": str(accuracy), "image_bytes": "50400", "label_bytes": "400100"},
        **{f"seconds_{name}": str(value) for name, value in SECONDS.items()},
        "seconds_train": str(3 + seed),
    }


def test_a_row_has_mean_and_deviation_bytes_and_seconds_of_the_lineage():
    rows = [row("a", "soft", seed, 90 + seed) for seed in (0, 1, 2)]
    rows += [row("a", "hard", seed, 80) for seed in (0, 1, 2)] + [row("a", "soft", 0, 1, ipc=1)]
    *_, line = first_screen.table(rows).splitlines()
    # 10 + 0 + 5 + 2 seconds and the mean of 3, 4 and 5.
    assert line == "| a | 91.0 ± 1.0 | 80.0 ± 0.0 | 450 | 21 |"


def test_methods_are_in_the_order_of_the_cells():
    rows = [row(m, p, s, 50) for m in ("b", "a") for p in ("soft", "hard") for s in (0, 1)]
    assert re.findall(r"^\| (\w) ", first_screen.table(rows), re.M) == ["b", "a"]


def test_images_are_in_rows_of_two_below_the_name():
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    picture = first_screen.picture({"one": [red, blue, red], "two": [blue, red, blue]})
    step = first_screen.SIDE + first_screen.GAP
    left, top = 2 * first_screen.GAP, first_screen.TEXT + 2 * first_screen.GAP
    corners = [(left, top), (left + step, top), (left, top + step)]
    assert [picture.getpixel(corner) for corner in corners] == [
        *((255, 0, 0), (0, 0, 255), (255, 0, 0))
    ]
    assert picture.getpixel((picture.width // 2 + left, top)) == (0, 0, 255)


def test_the_readme_has_a_row_per_method_of_the_default():
    config = yaml.safe_load(first_screen.CONFIG.read_text())
    text = first_screen.PAGE.read_text()
    part = text.partition(first_screen.BEGIN)[2].partition(first_screen.END)[0]
    methods = re.findall(r"^\| ([\w-]+) \| \d", part, re.M)
    assert methods == config["experiments"]["quickstart"]["methods"]


def test_the_picture_is_small():
    assert Path(first_screen.PICTURE).stat().st_size < 150_000
