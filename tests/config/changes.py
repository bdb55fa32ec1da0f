"""Changes of a config by paths of keys, and the resulting error message."""

import pytest
from stillhouse.config.load import complete
from stillhouse.errors import StillhouseError

METHODS = "experiments.x.methods"


def put(path, value):
    """Return a change of a config: `value` at a path of keys."""

    def change(config):
        *way, last = path.split(".")
        for step in way:
            config = config[step]
        config[last] = value

    return change


def drop(path):
    def change(config):
        *way, last = path.split(".")
        for step in way:
            config = config[step]
        del config[last]

    return change


def all_of(*changes):
    def change(config):
        for change_one in changes:
            change_one(config)

    return change


def refusal(config):
    with pytest.raises(StillhouseError) as caught:
        complete(config, "tiny.yaml")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    assert message.startswith("tiny.yaml: ")
    return message.removeprefix("tiny.yaml: ")
