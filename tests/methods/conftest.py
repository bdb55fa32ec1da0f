"""Three classes of small images and a teacher, as artifacts for the stages of methods."""

import numpy as np
import pyarrow as pa
import pytest
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data.class_images import IMAGES_SCHEMA
from stillhouse.data.codecs import encode
from stillhouse.networks import registry

# Class id → training images; every class has five test images too.
COUNTS = {"0": 40, "1": 31, "2": 36}
RECIPE = {"arch": "convnet1", "width": 4, "norm": "instance"}


def write(folder, spec, files):
    """Write an artifact at results/<stage>/<name>/ of a folder; return its first file."""
    directory = folder / spec["address"]
    store.write(directory, {**spec, "address": str(directory)}, files)
    return directory / next(iter(files))


@pytest.fixture(scope="session")
def class_images(tmp_path_factory):
    """Return the image artifacts of three classes of random 8 px images, by class id."""
    folder, paths = tmp_path_factory.mktemp("class images"), {}
    for class_id, count in COUNTS.items():
        rng = generator(0, "test images", class_id)
        pixels = rng.integers(0, 256, (count + 5, 3, 8, 8), np.uint8)
        names = [f"{class_id}-{i:02d}" for i in range(count + 5)]
        columns = {
            "image": [{"bytes": encode(image, "png"), "path": None} for image in pixels],
            "class_id": [class_id] * len(names),
            "image_id": names,
            "split": ["train"] * count + ["test"] * 5,
        }
        spec = {"stage": "images", "settings": {}, "address": f"results/images/x/{class_id}"}
        table = pa.table(columns, schema=IMAGES_SCHEMA)
        paths[class_id] = write(folder, spec, {"images.parquet": table})
    return paths


@pytest.fixture(scope="session")
def write_teacher():
    """Return a function that writes a teacher with its initial weights and returns its file."""

    def write_teacher(folder, name, classes=tuple(COUNTS), **recipe):
        settings = {**(recipe or RECIPE), "classes": list(classes), "resolution": 8}
        net = registry.build(settings, len(classes), 8, 0, "teacher")
        spec = {"stage": "teacher", "settings": settings, "address": f"results/teacher/{name}"}
        return write(folder, spec, {"model.safetensors": net.state_dict()})

    return write_teacher


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, write_teacher):
    """Return the weights of a teacher of the three classes."""
    return write_teacher(tmp_path_factory.mktemp("teacher"), "t")


@pytest.fixture
def compute(tmp_path):
    """Return a function that computes a stage per class and returns its files by class id."""

    def compute(stage, name, inputs, settings, class_ids=tuple(COUNTS), seed=0, **resources):
        make, paths = None, {}
        for class_id in class_ids:
            spec = {"stage": name, "settings": settings, "keys": {"seed": seed}}
            address = f"results/{name}/{len(list(tmp_path.glob(f'results/{name}/*')))}/{class_id}"
            make = make or stage(inputs, spec, Context(**resources))
            files = make(class_id, Context(**resources))
            paths[class_id] = write(tmp_path, {**spec, "address": address}, files)
        return paths

    return compute
