"""Observers with their statistics, for tests of matching."""

from types import SimpleNamespace

import pytest
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.methods.statistical_matching.statistics import statistics

CLASSES = ["0", "1", "2"]
OBSERVERS = {
    "a": {"arch": "convnet1", "width": 4, "norm": "batch", "classes": CLASSES},
    # Of more classes than the dataset has, in another order.
    "b": {"arch": "convnet2", "width": 4, "norm": "batch", "classes": ["7", "2", "0", "9", "1"]},
    "c": {"arch": "convnet1", "width": 4, "norm": "instance", "classes": CLASSES},
}


@pytest.fixture(scope="session")
def observers(tmp_path_factory, class_images, write_teacher):
    """Return files by name: ``model`` of observers with initial weights, and ``statistics``."""
    folder, views = tmp_path_factory.mktemp("observers"), {"pad": 0, "crop": [1.0, 1.0]}
    settings = {"classes": CLASSES[::-1], "views": {**views, "flip": 0.0, "seed": 0}, "tile": 4}
    actual = {}
    for name, recipe in OBSERVERS.items():
        model = write_teacher(folder, name, **recipe)
        address = folder / "statistics" / name
        spec = {"stage": "statistics", "settings": settings, "keys": {}, "address": str(address)}
        make = statistics({"images": class_images, "teacher": model}, spec, Context())
        store.write(address, spec, make(None, Context(work=folder)))
        path = address / "statistics.safetensors"
        actual[name] = SimpleNamespace(model=model, statistics=path)
    return actual
