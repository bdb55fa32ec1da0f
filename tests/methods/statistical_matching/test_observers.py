import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.methods.statistical_matching.observers import load_observer
from stillhouse.training.teachers import load_teacher

from tests.methods.statistical_matching.stage_settings import stage_settings

CPU = torch.device("cpu")
CLASSES = ["0", "1", "2"]
IMAGES = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0])


def settings_of(*arguments, **changes):
    return {**stage_settings(*arguments, **changes), "classes": CLASSES, "resolution": 8}


def files(observer):
    return observer.model, observer.statistics


def test_logits_are_those_of_the_classes_of_the_dataset(observers):
    settings = settings_of()
    actual = load_observer(*files(observers["b"]), settings, CPU).for_batch(LABELS)
    logits, moments = actual(IMAGES)
    teacher = load_teacher(observers["b"].model, CPU)
    net, classes = teacher.net, teacher.class_ids
    outputs = net(IMAGES)
    for column, class_id in enumerate(CLASSES):
        torch.testing.assert_close(logits[:, column], outputs[:, classes.index(class_id)])
    assert logits.shape == (4, 3) and list(moments) == actual.matching.targets.statistics


def test_targets_are_read_by_class_id(observers):
    """In any order of the classes in the file."""
    settings = settings_of(class_variance="within")
    actual = load_observer(*files(observers["a"]), settings, CPU).targets
    stored = store.read_tensors(observers["a"].statistics)
    at = 0
    for part in actual.statistics:
        for row, name in enumerate(CLASSES):
            mean = stored[f"{part.name}.mean"][CLASSES[::-1].index(name)]
            torch.testing.assert_close(actual.class_mean[row, at : at + len(mean)], mean)
        at += len(mean)
    assert at == len(actual.mean)
    norms = [p for p in actual.statistics if p.kind == "batchnorm"]
    net = load_teacher(observers["a"].model, CPU).net
    column = actual.index == actual.statistics.index(norms[0])
    layer = net.get_submodule(norms[0].layer)
    assert torch.equal(actual.mean[column], layer.running_mean)
    assert torch.equal(actual.variance[column], layer.running_var)


def test_without_weights_no_statistics_are_matched(observers):
    settings = settings_of("sre2l", loss_weights={"batchnorm": 0})
    actual = load_observer(observers["a"].model, None, settings, CPU).for_batch(LABELS)
    assert actual.matching is None


def test_an_observer_without_any_of_the_layers_is_an_error(observers):
    with pytest.raises(StillhouseError, match="missing layers to match") as caught:
        load_observer(observers["c"].model, None, settings_of("sre2l"), CPU)
    assert "\n" not in str(caught.value)
