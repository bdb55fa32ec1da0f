"""All methods by kind and all stages by name; each method has one line here."""

from functools import cache

from stillhouse.artifacts.stages import SHARED
from stillhouse.methods.coresets.method import Herding, KMeans, Random
from stillhouse.methods.d3hr.method import D3HR
from stillhouse.methods.d4m.method import D4M
from stillhouse.methods.ddps.method import DDPS
from stillhouse.methods.given.method import Given
from stillhouse.methods.matching.method import DM, GM, TM
from stillhouse.methods.rded.method import RDED
from stillhouse.methods.ruo.method import RUO, Compressed
from stillhouse.methods.statistical_matching.method import CDA, EDC, GVBSM, SRe2L

METHODS = {
    method.kind: method
    for method in (
        Random(),
        Herding(),
        KMeans(),
        Given(),
        RDED(),
        DDPS(),
        D3HR(),
        D4M(),
        SRe2L(),
        CDA(),
        GVBSM(),
        EDC(),
        DM(),
        GM(),
        TM(),
        Compressed(),
        RUO(),
    )
}


def method(kind):
    """Return the method of a kind."""
    return METHODS[kind]


@cache
def stages():
    """Return {name: Stage}, the shared ones first, in the order of the data flow."""
    own = [stage for one in METHODS.values() for stage in one.stages]
    return {stage.name: stage for stage in (*SHARED, *own)}
