import torch
from stillhouse.methods.common.curves import Curve


def test_a_loss_of_some_observers_is_their_mean_and_none_elsewhere():
    curve = Curve()
    for values in ({"a": 1.0}, {"a": 3.0}, {"a": 5.0, "b": 2.0}, {"b": 4.0}):
        curve.add({name: torch.tensor(value) for name, value in values.items()})
        if values == {"a": 3.0}:
            curve.close()
    curve.close()
    curve.add({"a": torch.tensor(7.0)})
    curve.close()
    assert curve.means == {"a": [2.0, 5.0, 7.0], "b": [None, 3.0, None]}
    assert curve.last() == "a 7.0000"
