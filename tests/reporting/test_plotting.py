import itertools

import pandas as pd
import pytest
from stillhouse.reporting import plotting


def rows_of(methods, seeds, ipcs):
    names = [f"m{i}" for i in range(methods)]
    rows = itertools.product(names, range(seeds), range(1, ipcs + 1))
    return pd.DataFrame(rows, columns=["method", "distill_seed", "ipc"])


# More seeds than fillings, more IPCs than strokes.
@pytest.mark.parametrize("methods, seeds, ipcs", [(1, 1, 1), (3, 2, 2), (56, 5, 6), (12, 6, 7)])
def test_no_look_is_there_twice(methods, seeds, ipcs):
    looks = plotting.looks(rows_of(methods, seeds, ipcs), "ipc")
    assert len(looks) == methods * seeds * ipcs
    assert len({str(look) for look in looks.values()}) == len(looks)
    assert not any(look["fillstyle"] == "none" for look in looks.values())


def test_a_dozen_methods_look_different():
    looks = plotting.looks(rows_of(12, 1, 1), "ipc").values()
    assert len({(look["color"], look["marker"]) for look in looks}) == 12


@pytest.mark.parametrize("seeds", [1, 6])
def test_a_method_has_one_colour_in_all_charts(seeds):
    rows = rows_of(3, seeds, 7).assign(protocol="soft")
    for method in ("m0", "m1", "m2"):
        keys = {"ipc": 1, "protocol": "soft", "distill_seed": 0}
        looks = [plotting.looks(rows, name)[method, 0, value] for name, value in keys.items()]
        assert looks[0] == looks[1] == looks[2]
