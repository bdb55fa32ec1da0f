import pytest
from stillhouse.methods.common.utilities.settings import loops_of

from tests.config.changes import all_of, put, refusal
from tests.planning.configs import ancestor, build, sets_of, with_matching


@pytest.fixture
def matching(tiny):
    """Return a small config of dm, gm and tm."""
    return with_matching(tiny)


def trajectories(config):
    """Return the families of expert trajectories of a config's plan."""
    return list(build(config).families["trajectories"].values())


def test_experts_are_shared_by_ipcs_seeds_and_settings_of_the_images(matching):
    matching["methods"] |= {
        "more": {**matching["methods"]["tm"], "iterations": 7, "student_steps": 5},
        "rate": {**matching["methods"]["tm"], "learning_rate": 3},
    }
    matching["experiments"]["x"] |= {
        **{"methods": ["tm", "more", "rate"], "ipc": [1, 2], "distill_seeds": [0, 1]},
    }
    (family,) = trajectories(matching)
    assert list(family.members) == list(range(100))
    assert family.artifact.keys == {}
    assert family.artifact.settings["epochs"] == 2


@pytest.mark.parametrize("order", [["tm", "more"], ["more", "tm"]])
def test_more_experts_reuse_those_that_exist(matching, order):
    matching["methods"]["tm"]["experts"] = {"count": 2}
    matching["methods"]["more"] = {**matching["methods"]["tm"], "experts": {"count": 5}}
    matching["experiments"]["x"]["methods"] = ["tm"]
    (before,) = trajectories(matching)
    matching["experiments"]["x"]["methods"] = order
    (after,) = trajectories(matching)
    assert list(before.members) == [0, 1] and list(after.members) == list(range(5))
    for member in before.members:
        assert before.artifact.member_spec(member) == after.artifact.member_spec(member)
    counts = {
        name: ancestor(one, "trajectories").spec()["members"]
        for name, one in sets_of(build(matching)).items()
    }
    assert counts == {"tm": 2, "more": 5}


def test_jobs_read_as_many_experts_as_they_use(matching):
    from stillhouse.planning.inputs import declared_inputs, job_inputs

    matching["methods"]["tm"]["experts"] = {"count": 2}
    matching["methods"]["more"] = {**matching["methods"]["tm"], "experts": {"count": 5}}
    matching["experiments"]["x"]["methods"] = ["tm", "more"]
    matching["compute"] = {"batches_per_job": 1}
    wanted = build(matching)
    for name, count in (("tm", 2), ("more", 5)):
        artifact = ancestor(sets_of(wanted)[name], "matched")
        read = job_inputs(artifact.spec())["trajectories"]
        assert list(read) == list(range(count))
        assert len(declared_inputs(wanted, artifact)["trajectories"]) == count


def test_loops_of_gm_are_those_of_the_table(matching):
    assert [loops_of(ipc) for ipc in (1, 10, 50, 96)] == [(1, 1), (10, 50), (50, 10), (50, 10)]
    # Other values take the next smaller entry.
    assert [loops_of(ipc) for ipc in (2, 9, 11, 1000)] == [(1, 1), (1, 1), (10, 50), (50, 10)]
    matching["methods"]["gm"]["inner_epochs"] = 3
    matching["experiments"]["x"] |= {"methods": ["gm"], "ipc": [10]}
    settings = ancestor(sets_of(build(matching))["gm"], "matched").settings
    assert (settings["outer_steps"], settings["inner_epochs"]) == (10, 3)


def test_a_set_starts_from_the_set_of_another_method(matching):
    matching["methods"]["dm"]["initial"] = "random"
    matching["experiments"]["x"]["methods"] = ["dm"]
    matched = ancestor(sets_of(build(matching))["dm"], "matched")
    assert matched.upstream["initial"].settings["kind"] == "random"
    assert matched.settings["initial"] == "set"


REFUSED = {
    "unknown network": (
        put("methods.dm.network", "j"),
        "methods.dm.network: unknown student 'j'; available: i, s",
    ),
    "batch norms": (
        put("methods.gm.network", "s"),
        "methods.gm.network: 's' has batch norms, which gm cannot match; use a network without, ",
    ),
    "too few epochs": (
        put("methods.tm.experts", {"epochs": 1}),
        "methods.tm.experts.epochs: must be at least 2, the last start epoch 1 and 1 epochs; raise",
    ),
    "unknown operation": (
        put("methods.dm.siamese", ["crop", "blur"]),
        "methods.dm.siamese.1: must be one of color, crop, cutout, flip, scale, rotate, not 'blur'",
    ),
    "circle": (
        all_of(put("methods.dm.initial", "gm"), put("methods.gm.initial", "dm")),
        "methods.dm.initial: circular initialisation (dm from gm from dm); start one of them from",
    ),
    "learned rate of dm": (
        put("protocols.hard.learning_rate", "learned"),
        "protocols.hard.learning_rate: learned conflicts with method 'dm', which learns no ",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_conflict_are_refused_in_one_line(matching, change, message):
    change(matching)
    assert refusal(matching).startswith(message)


def test_a_network_too_deep_for_the_images_is_refused(matching):
    matching["students"]["deep"] = {"arch": "convnet4", "width": 4, "norm": "instance"}
    matching["methods"]["dm"]["network"] = "deep"
    with pytest.raises(Exception, match=r"students.deep.arch: 'convnet4' conflicts with 8 px"):
        build(matching)


def test_students_may_learn_at_the_rate_of_tm(matching):
    matching["protocols"]["hard"]["learning_rate"] = "learned"
    matching["experiments"]["x"]["methods"] = ["tm"]
    assert build(matching).families["students"]
