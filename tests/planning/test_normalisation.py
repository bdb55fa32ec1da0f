"""A dataset's own mean and standard deviation."""

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits
from stillhouse.planning import normalisation

from tests.conftest import TINY


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return str(path)


def test_it_is_that_of_the_training_images(made, config, capsys):
    dataset = TINY["datasets"]["three"]
    assert dataset["resolution"] == 8  # no resizing
    assert normalisation.main([config, "three"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)["normalisation"]
    mean, std = normalisation.of_dataset(made, "three")
    assert (found["mean"], found["std"]) == (mean, std)
    (files,) = made.families["images"].values()
    rows = trained_on(files)
    assert mean == pytest.approx([rows.mean()] * 3, abs=5.1e-5)
    assert std == pytest.approx([rows.std()] * 3, abs=5.1e-5)


def trained_on(family):
    """Return the training pixels as scikit-learn has them, between 0 and 1."""
    from stillhouse.data.class_images import read_class

    digits = load_digits()
    names = [
        image_id
        for class_id in family.members
        for image_id, _ in read_class(family.artifact.member_file(class_id), "train")
    ]
    indices = [int(name.rpartition("-")[2]) for name in names]
    return np.round(digits.images[indices] * 255 / 16) / 255


def test_unknown_dataset(made, config, capsys):
    assert normalisation.main([config, "thre"]) == 1
    assert "unknown dataset 'thre'" in capsys.readouterr().err


def test_images_must_be_complete(config, empty, capsys):
    assert normalisation.main([config, "three"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "images.parquet" in line
