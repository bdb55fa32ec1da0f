"""Configs become settled settings: defaults, overrides, class lists, switches."""

import copy
from pathlib import Path

import pytest
import yaml
from diffused import with_denoisers
from stillhouse.config import load as configs
from stillhouse.config.load import complete
from stillhouse.planning import plan

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "workflow/presets").glob("*.yaml"))
FOLDER = {
    "kind": "image_folder",
    "root": "pets",
    "classes": ["cat", "dog", "hen"],
    "smallest_class": 40,
}


def load(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *PRESETS], ids=lambda path: path.stem)
def test_default_and_presets_are_valid(path):
    config = complete(load(path), path.name, [path])
    assert plan.build(config).experiments.keys() == config["experiments"].keys()


def addresses(config):
    wanted = plan.build(complete(config, "x.yaml"))
    single = [a for by_path in wanted.artifacts.values() for a in by_path.values()]
    families = [f.artifact for by_path in wanted.families.values() for f in by_path.values()]
    return {str(artifact.directory) for artifact in single + families}


def test_defaults_are_filled_in(tiny):
    config = complete(tiny, "x.yaml")
    assert config["compute"] == {
        "device": "auto",
        "threads": 1,
        "processes": 1,
        "batches_per_job": 10,
        "seeds_per_job": 10,
        "index_threads": 4,
        "batch_size": "auto",
        "checkpoint_seconds": 60.0,
        "jobs_per_gpu": 1,
        "max_hours": 24.0,
    }
    assert config["sources"]["digits"]["holdout"] == 0.0
    assert config["labels"]["hard"]["kind"] == "hard"
    assert config["labels"]["hard"]["views"]["mix"] == "cutmix"
    assert config["labels"]["soft"]["encoding"] == "float16"
    assert config["methods"]["rded"]["crop"] == [0.08, 1.0]
    assert "crops_per_image" not in config["methods"]["random"]
    assert config["experiments"]["x"]["distill_seeds"] == [0]


def as_other_numbers(value):
    if isinstance(value, dict):
        return {k: as_other_numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [as_other_numbers(v) for v in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_settings_without_effect_are_omitted(tiny):
    tiny["labels"]["plain"] = {"kind": "hard", "views": {"mix": "none"}}
    weights = {"file": "x", "sha256": "0" * 64}
    tiny["teachers"]["t"] = {"arch": "convnet1", "dataset": "three", "weights": weights}
    config = complete(tiny, "x.yaml")
    assert config["teachers"]["t"].keys() == {"arch", "width", "norm", "dataset", "weights"}
    assert "temperature" in config["protocols"]["soft"]
    assert not {"temperature", "ce_weight"} & config["protocols"]["hard"].keys()
    assert not {"mix_alpha", "mix_per"} & config["labels"]["plain"]["views"].keys()


def test_switches_are_decided_once(tiny):
    tiny["methods"]["paper"] = {**tiny["methods"]["rded"], "fidelity": "paper"}
    tiny["protocols"]["paper"] = {"labels": "soft", "fidelity": "paper"}
    tiny["labels"]["paper"] = {**tiny["labels"]["soft"], "fidelity": "paper"}
    config = complete(tiny, "x.yaml")
    methods, labels, protocols = (config[name] for name in ("methods", "labels", "protocols"))
    assert (methods["rded"]["rounding"], methods["paper"]["rounding"]) == ("truncate", "nearest")
    assert methods["paper"]["fidelity"] == "paper"
    assert labels["soft"]["views"]["crop"] == [1.0, 1.0]
    assert labels["paper"]["views"]["crop"] == [0.08, 1.0]
    assert (protocols["soft"]["loss"], protocols["hard"]["loss"]) == ("kl", "ce")
    assert (protocols["soft"]["smoothing"], protocols["paper"]["smoothing"]) == (2.0, 1.0)
    assert not any("fidelity" in one for one in (*labels.values(), *protocols.values()))


def test_the_notation_of_a_number_changes_no_address(tiny):
    tiny["protocols"]["soft"] |= {"temperature": 4, "learning_rate": 1, "weight_decay": 0.0}
    tiny["labels"]["soft"]["views"] = {"crop": [0.5, 1], "mix_alpha": 1.0}
    other = as_other_numbers(tiny)
    assert repr(other) != repr(tiny)
    assert addresses(other) == addresses(tiny)
    assert repr(complete(other, "x.yaml")) == repr(complete(tiny, "x.yaml"))


def reversed_keys(value):
    if isinstance(value, dict):
        return {k: reversed_keys(value[k]) for k in reversed(value)}
    return [reversed_keys(v) for v in value] if isinstance(value, list) else value


def test_the_order_of_keys_changes_no_address(tiny):
    assert addresses(reversed_keys(tiny)) == addresses(tiny)
    # Nor the text of a rule's params, which Snakemake compares to decide on reruns.
    first, other = (
        plan.build(complete(config, "x.yaml")).experiments["x"][-1]["artifact"]
        for config in (tiny, reversed_keys(tiny))
    )
    assert str(first.spec()) == str(other.spec())


def test_the_input_config_is_not_modified(tiny):
    before = copy.deepcopy(tiny)
    complete(tiny, "x.yaml")
    assert tiny == before


def test_an_experiment_overrides_settings_of_a_method(tiny):
    tiny["methods"]["rded"]["crop"] = [0.3, 0.9]
    tiny["experiments"]["x"]["methods"] = ["random", {"rded": {"crops_per_image": 3}}]
    config = complete(tiny, "x.yaml")
    methods = config["experiments"]["x"]["methods"]
    assert list(methods) == ["random", "rded"]
    assert methods["random"] == config["methods"]["random"]
    assert methods["rded"] == {**config["methods"]["rded"], "crops_per_image": 3}
    assert methods["rded"]["crop"] == [0.3, 0.9]
    assert config["methods"]["rded"]["crops_per_image"] == 2


def test_an_override_of_a_group_replaces_it(tiny):
    tiny["methods"]["edc"] = {"kind": "edc", "observers": ["t"], "loss_weights": {"batchnorm": 2}}
    tiny["experiments"]["x"]["methods"] = [{"edc": {"loss_weights": {"convolution": 3}}}]
    config = complete(tiny, "x.yaml")
    weights = config["experiments"]["x"]["methods"]["edc"]["loss_weights"]
    assert (weights["batchnorm"], weights["convolution"]) == (0.01, 3.0)


def test_an_override_is_the_same_as_a_method_written_out(tiny):
    other = copy.deepcopy(tiny)
    other["methods"]["rded"]["crop"] = [0.25, 0.75]
    tiny["experiments"]["x"]["methods"] = ["random", {"rded": {"crop": [0.25, 0.75]}}]
    assert addresses(tiny) == addresses(other)


def test_an_empty_override_is_the_method_itself(tiny):
    before = addresses(tiny)
    tiny["experiments"]["x"]["methods"] = ["random", {"rded": {}}]
    assert addresses(tiny) == before


def test_classes_are_in_the_order_of_the_dataset(tiny):
    tiny["datasets"]["three"]["classes"] = ["7", "0", "3"]
    assert complete(tiny, "x.yaml")["datasets"]["three"]["classes"] == ["7", "0", "3"]
    tiny["datasets"]["three"]["classes"] = "all"
    assert complete(tiny, "x.yaml")["datasets"]["three"]["classes"] == list("0123456789")


def test_a_published_list_is_the_same_as_its_classes_written_out(tiny):
    tiny["sources"]["imagenet"] = {**FOLDER, "classes": "imagenet1k"}
    tiny["datasets"]["three"] |= {"source": "imagenet", "classes": "imagenette"}
    config = complete(tiny, "x.yaml")
    assert len(config["sources"]["imagenet"]["classes"]) == 1000
    assert config["datasets"]["three"]["classes"][:2] == ["n01440764", "n02102040"]
    named = addresses(tiny)
    tiny["datasets"]["three"]["classes"] = config["datasets"]["three"]["classes"]
    assert addresses(tiny) == named


def test_a_folder_moves_without_a_new_address(tiny):
    tiny["sources"]["tree"] = FOLDER
    tiny["datasets"]["three"] |= {"source": "tree", "classes": "all"}
    before = addresses(tiny)
    tiny["sources"]["tree"] = {**FOLDER, "root": "elsewhere", "smallest_class": 30}
    assert addresses(tiny) == before
    tiny["sources"]["tree"] = {**FOLDER, "test": "validation"}
    assert not addresses(tiny) & before


def test_tiny_imagenet_is_in_wordnets_order(tiny):
    tiny["sources"]["tiny"] = {"kind": "tiny_imagenet", "root": "t", "classes": ["n2", "n3", "n1"]}
    tiny["datasets"]["all"] = {"source": "tiny", "resolution": 64}
    config = complete(tiny, "x.yaml")
    assert config["datasets"]["all"]["classes"] == ["n1", "n2", "n3"]
    assert config["sources"]["tiny"]["smallest_class"] == 500


def as_text(value):
    """Return a config as from Snakemake's --config: numbers and truth values as text."""
    if isinstance(value, dict):
        return {k: as_text(v) for k, v in value.items()}
    if isinstance(value, list):
        return [as_text(v) for v in value]
    return str(value)


def test_numbers_may_be_text(tiny):
    tiny["experiments"]["x"]["methods"].append({"rded": {"images_per_class": 10}})
    tiny["labels"]["soft"]["views"]["shuffle_patches"] = True
    tiny["methods"]["other"] = {**tiny["methods"]["rded"], "crop": [0.5, 1.0]}
    tiny["experiments"]["x"]["methods"] = ["random", {"rded": {"images_per_class": 10}}, "other"]
    expected = complete(copy.deepcopy(tiny), "x.yaml")
    assert complete(as_text(tiny), "x.yaml") == expected
    tiny["teachers"]["t"]["learning_rate"] = "1e-2"
    assert complete(tiny, "x.yaml") == expected


def test_class_labels_of_a_published_list_are_its_positions(tiny):
    with_denoisers(tiny)["denoisers"]["dit"]["class_labels"] = "imagenet1k"
    labels = complete(tiny, "x.yaml")["denoisers"]["dit"]["class_labels"]
    assert list(labels.items())[:2] == [("n01440764", 0), ("n01443537", 1)]
    assert labels["n15075141"] == 999 and len(labels) == 1000


@pytest.mark.parametrize(("device", "wants"), [("cpu", False), ("cuda", True), ("cuda:1", True)])
def test_a_device_wants_a_gpu_or_not(device, wants):
    assert configs.wants_gpu(device) is wants


@pytest.mark.parametrize("train", ["data/train-*.parquet", ["data/train-*.parquet"]])
def test_parquet_files_may_be_one_text(tiny, train):
    tiny["sources"]["p"] = {
        **{"kind": "parquet", "train": train, "test": "data"},
        **{"classes": ["0", "1", "2"], "smallest_class": 9},
    }
    source = complete(tiny, "x.yaml")["sources"]["p"]
    assert (source["train"], source["test"]) == (["data/train-*.parquet"], ["data"])
