"""Configs of digits, and the stages of each method's sets, for tests of plans."""

from stillhouse.config.load import complete
from stillhouse.planning import plan

SOURCE = {"index", "images", "dataset"}
SYNTHESES = ("sre2l", "gvbsm", "edc")
MATCHING = ("dm", "gm", "tm")
CODED = ("compressed", "ruo")
STEPS = {"student_steps": 2, "expert_epochs": 1, "start_epochs": 2}


def with_observers(config):
    """Put observers a, b and c and the methods that synthesise into a config, with hard labels."""
    for seed, name in enumerate("abc"):
        config["teachers"][name] = {"arch": "convnet1", "width": 4, "norm": "batch", "seed": seed}
    config["methods"] |= {kind: {"kind": kind, "observers": ["a", "b"]} for kind in SYNTHESES}
    config["experiments"]["x"] |= {"methods": list(SYNTHESES), "protocols": ["hard"]}
    return config


def with_matching(config):
    """Put a network without batch norms and the methods that match into a config."""
    config["students"]["i"] = {"arch": "convnet1", "width": 4, "norm": "instance"}
    config["methods"] |= {kind: {"kind": kind, "network": "i"} for kind in MATCHING}
    config["methods"]["tm"] |= STEPS
    config["experiments"]["x"] |= {"methods": list(MATCHING), "protocols": ["hard"]}
    return config


def with_codec(config):
    """Put compressed sets, and those optimised for rate and utility, into a config."""
    config["students"]["i"] = {"arch": "convnet1", "width": 4, "norm": "instance"}
    codec = {"decoder": "v4-16", "context": 8, "depth": 1, "warmup": {"beta": 100}}
    joint = {"utility": "dm", "network": "i", "joint": {"lambda": [2]}, "bounds": [1e-4, 1e-5]}
    config["methods"]["compressed"] = {"kind": "compressed", **codec}
    config["methods"]["ruo"] = {"kind": "ruo", **codec, **joint}
    config["experiments"]["x"] |= {"methods": list(CODED), "protocols": ["hard"]}
    return config


def put(config, path, value):
    """Set a value of a config by its dotted path."""
    *parents, last = path.split(".")
    for name in parents:
        config = config.setdefault(name, {})
    config[last] = value


def build(config):
    """Return the plan of a config."""
    return plan.build(complete(config, "tiny.yaml"))


def places(wanted):
    """Return {stage: paths} of all artifacts of a plan, one path per family."""
    named = {stage: set(by_path) for stage, by_path in wanted.artifacts.items()}
    families = wanted.families.items()
    return named | {
        stage: {family.artifact.relative_path for family in by_name.values()}
        for stage, by_name in families
    }


def lineage(artifact):
    """Yield an artifact and all of its upstream."""
    yield artifact
    for _, part in artifact.parts():
        yield from lineage(part)


def ancestor(artifact, stage):
    """Return the first artifact of a stage, by name, in the upstream of an artifact."""
    for _, part in artifact.parts():
        match = part if part.stage.name == stage else ancestor(part, stage)
        if match is not None:
            return match
    return None


def digests(artifact):
    """Return {stage: digests} of an artifact and all of its upstream."""
    by_stage = {}
    for part in lineage(artifact):
        by_stage.setdefault(part.stage.name, set()).add(part.digest)
    return by_stage


def sets_of(wanted):
    """Return {method: its distilled set of the smallest IPC and seed} of a plan."""
    sets = {}
    for artifact in wanted.artifacts["distilled"].values():
        sets.setdefault(artifact.slug, artifact)
    return sets


def set_digests(config):
    """Return {method: {stage: digests}} of a config's distilled sets and their upstream."""
    return {method: digests(one) for method, one in sets_of(build(config)).items()}


def changed(before, after):
    """Return the stages whose digests differ."""
    return {
        stage for stage in before.keys() | after.keys() if before.get(stage) != after.get(stage)
    }
