import itertools

import pandas as pd
import pytest
from stillhouse.reporting import plotting


def rows_of(methods, seeds, ipcs):
    names = [f"m{i}" for i in range(methods)]
    rows = itertools.product(names, range(seeds), range(1, ipcs + 1))
    return pd.DataFrame(rows, columns=["method", "distill_seed", "ipc"])


# At most: more seeds than fillings, more IPCs than strokes.
@pytest.mark.parametrize("methods, seeds, ipcs", [(1, 1, 1), (3, 2, 2), (56, 5, 6), (12, 6, 7)])
def test_styles_are_unique(methods, seeds, ipcs):
    styles = plotting.line_styles(rows_of(methods, seeds, ipcs), "ipc")
    assert len(styles) == methods * seeds * ipcs
    assert len({str(style) for style in styles.values()}) == len(styles)
    assert not any(style["fillstyle"] == "none" for style in styles.values())


def test_a_dozen_methods_have_different_colours_or_markers():
    styles = plotting.line_styles(rows_of(12, 1, 1), "ipc").values()
    assert len({(style["color"], style["marker"]) for style in styles}) == 12


@pytest.mark.parametrize("seeds", [1, 6])
def test_a_method_has_one_colour_in_all_charts(seeds):
    rows = rows_of(3, seeds, 7).assign(protocol="soft")
    for method in ("m0", "m1", "m2"):
        keys = {"ipc": 1, "protocol": "soft", "distill_seed": 0}
        styles = [
            plotting.line_styles(rows, name)[method, 0, value] for name, value in keys.items()
        ]
        assert styles[0] == styles[1] == styles[2]
