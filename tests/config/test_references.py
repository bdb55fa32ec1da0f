import pytest
from stillhouse.config import references
from stillhouse.config.load import complete

PLAIN = {"crop": [1, 1], "flip": 0, "mix": "none"}


@pytest.fixture
def parts(tiny):
    """Return a function from protocols, with the views of their labels, to the parts of each."""

    def parts_of(protocols, soft=(), **experiment):
        soft = dict(soft)
        for name, (kind, views, changes) in protocols.items():
            stored = {"teachers": ["t"], **soft.get(name, {})} if kind == "soft" else {}
            tiny["labels"][name] = {"kind": kind, "views": views, **stored}
            tiny["protocols"][name] = {"labels": name, "epochs": 2, **changes}
        tiny["experiments"]["x"] |= {"protocols": list(protocols), **experiment}
        config = complete(tiny, "tiny.yaml")
        own = config["experiments"]["x"]
        return {
            name: tuple(references.of_protocol(config, own, name).values()) for name in protocols
        }

    return parts_of


def test_the_twin_of_a_protocol_differs_by_having_no_augmentation(parts):
    assert parts(
        {
            "soft": ("soft", {"flip": 0.0}, {}),
            "hard": ("hard", {"flip": 0.0}, {}),
            "soft-plain": ("soft", PLAIN, {}),
            "hard-plain": ("hard", PLAIN, {}),
        }
    ) == {
        "soft": ("hard", "soft-plain"),
        "hard": ("hard", "hard-plain"),
        "soft-plain": ("hard", ""),
        "hard-plain": ("hard", ""),
    }


@pytest.mark.parametrize(
    "stored",
    [
        {"epochs_stored": 1},
        {"views_stored": False},
        {"epoch_order": "random"},
        {"encoding": "int4"},
    ],
)
def test_soft_labels_of_a_twin_may_be_stored_in_another_way(parts, stored):
    protocols = {"soft": ("soft", {}, {}), "plain": ("soft", PLAIN, {})}
    assert parts(protocols, {"plain": stored})["soft"] == ("", "plain")


@pytest.mark.parametrize(
    "changes", [{"epochs": 3}, {"learning_rate": 0.5}, {"report": "best"}, {"batch_size": 2}]
)
def test_a_protocol_that_differs_in_more_is_no_twin(parts, changes):
    own = parts({"soft": ("soft", {}, {}), "plain": ("soft", PLAIN, changes)})
    assert own["soft"] == ("", "")


@pytest.mark.parametrize(
    "views",
    [
        {**PLAIN, "flip": 0.1},
        {**PLAIN, "crop": [0.9, 1]},
        {**PLAIN, "jitter": 0.1},
        {**PLAIN, "siamese": {}},
        {"crop": [1, 1], "flip": 0, "mix": "cutmix"},
    ],
)
def test_views_with_any_augmentation_are_not_plain(parts, views):
    assert parts({"hard": ("hard", {}, {}), "other": ("hard", views, {})})["hard"][1] == ""


def test_two_twins_are_none(parts):
    protocols = {name: ("hard", PLAIN, {}) for name in ("a", "b")}
    assert parts({"hard": ("hard", {}, {}), **protocols})["hard"] == ("hard", "")


def test_a_protocol_without_augmentation_alone_is_the_hard_one(parts):
    assert parts({"plain": ("hard", PLAIN, {})})["plain"] == ("plain", "")


def test_of_several_protocols_with_hard_labels_the_config_names_one(parts):
    protocols = {"soft": ("soft", {}, {}), "a": ("hard", {}, {}), "b": ("hard", {"flip": 0}, {})}
    assert parts(protocols)["soft"] == ("", "")
    assert parts(protocols, hard_protocol="b") == dict.fromkeys(protocols, ("b", ""))


def test_a_twin_that_the_config_names_is_a_protocol_of_full_data(tiny, parts):
    protocols = {"hard": ("hard", {}, {}), "plain": ("hard", PLAIN, {})}
    assert parts(protocols, hard_protocol="plain")["hard"] == ("plain", "plain")
    config = complete(tiny, "tiny.yaml")
    own = config["experiments"]["x"]
    assert references.hard_protocols(config, own) == ["hard", "plain"]


def test_a_row_of_full_data_has_a_name_that_no_method_can_have():
    assert references.full_data_name("matched") == "full data, matched"
    assert references.full_data_name(1) == "full data, 1 epoch"
    assert references.full_data_name(30) == "full data, 30 epochs"
