import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry
from stillhouse.reporting import costs

from tests.reporting.fakes import CLASSES, put, put_labels, put_set, spec_of


def images(classes=None):
    settings = {"classes": classes} if classes else {}
    return spec_of("images", "i", settings, {"index": spec_of("index", "i")})


def student(distilled, **upstream):
    settings = {"labels": {"kind": "hard"}}
    return spec_of("students", "s/seed0", settings, {"distilled": distilled, **upstream}, seed=0)


def distilled(kind="random", **upstream):
    return spec_of("distilled", kind, {"classes": CLASSES, "kind": kind}, upstream, ipc=2)


def by_stage(lineage):
    """Return {stage: {last folder: cost}}."""
    stages = {}
    for folder, cost in lineage.items():
        stages.setdefault(folder.parts[1], {})[folder.name] = cost
    return stages


def test_per_class_artifacts_count_for_the_classes_of_their_user():
    teacher = spec_of("teacher", "t", {"classes": [*CLASSES, "9"]}, {"images": images()})
    scores = spec_of("patch_scores", "p", {}, {"images": images(), "teacher": teacher})
    lineage = by_stage(costs.lineage(student(distilled("rded", images=images(), scores=scores))))
    assert lineage == {
        "students": {"seed0": "train"},
        "distilled": {"rded": "distill"},
        "images": {**dict.fromkeys(CLASSES, "distill"), "9": "teacher"},
        "index": {"i": "distill"},
        "patch_scores": dict.fromkeys(CLASSES, "distill"),
        "teacher": {"t": "teacher"},
    }


def test_images_that_only_a_denoiser_was_trained_on_belong_to_it():
    denoiser = spec_of("denoiser", "d", {"classes": [*CLASSES, "8"]}, {"images": images()})
    latents = spec_of("latents", "l", {}, {"denoiser": denoiser, "images": images()})
    decoded = spec_of("decode", "x", {}, {"denoiser": denoiser, "start": latents})
    lineage = by_stage(costs.lineage(student(distilled("d4m", decoded=decoded))))
    assert lineage["images"] == {**dict.fromkeys(CLASSES, "distill"), "8": "denoiser"}
    assert lineage["denoiser"] == {"d": "denoiser"}
    assert lineage["latents"] == lineage["decode"] == dict.fromkeys(CLASSES, "distill")


def test_several_upstreams_and_all_batches_count():
    teachers = [spec_of("teacher", name, {"classes": CLASSES}) for name in "ab"]
    statistics = [spec_of("statistics", t["address"][-1], {}, {"teacher": t}) for t in teachers]
    synthesis = spec_of("synthesis", "y", {}, {"statistics": statistics, "teachers": teachers})
    parts = {"synthesis": {**synthesis, "members": 5}}
    labels = spec_of("labels", "l", {}, {"distilled": distilled("edc"), "teachers": teachers[:1]})
    lineage = by_stage(costs.lineage(student(distilled("edc", **parts), labels=labels)))
    assert lineage["synthesis"] == {f"batch{number}": "distill" for number in range(5)}
    assert lineage["statistics"] == dict.fromkeys("ab", "distill")
    assert lineage["teacher"] == dict.fromkeys("ab", "teacher")
    assert lineage["labels"] == {"l": "label"}


def test_seconds_are_sums_by_cost_and_nan_where_a_timing_is_missing():
    seconds = {"images": 10, "index": 1, "distilled": 100, "students": 1000, "teacher": 5}
    spec = student(distilled("random", images=images()))
    timing = {"teacher": 0, "denoiser": 0, "distill": 131, "label": 0, "train": 1000}
    found = costs.of_lineage(spec, lambda folder: {"seconds": seconds[folder.parts[1]]})
    assert found == {f"seconds_{name}": value for name, value in timing.items()} | {"devices": ""}
    found = costs.of_lineage(
        spec, lambda folder: None if folder.name == "1" else {"seconds": seconds[folder.parts[1]]}
    )
    assert math.isnan(found.pop("seconds_distill"))
    assert found["seconds_train"] == 1000


def test_devices_are_those_of_artifacts_and_members_with_a_timing():
    spec = student(distilled("random", images=images()))
    devices = {"1": "gpu", "random": "gpu", "2": "other, 2 threads"}
    timings = {name: {"seconds": 1, "device": device} for name, device in devices.items()}
    found = costs.of_lineage(spec, lambda folder: timings.get(folder.name))["devices"]
    assert found == "gpu; other, 2 threads"
    assert costs.device_names([found, "", "a; gpu"]) == ["a", "gpu", "other, 2 threads"]
    assert costs.device_names([]) == costs.device_names([""]) == []


def test_a_method_may_count_bytes_itself(empty, monkeypatch):
    spec = put_set("random", 2, {})
    encoded = sum(
        len(image["bytes"])
        for image in store.read_table(Path(spec["address"]) / "images.parquet")["image"].to_pylist()
    )
    found = costs.storage_bytes(spec)
    assert found["image_bytes"] == encoded
    assert math.isnan(found["statistics_bytes"])
    method = SimpleNamespace(storage_bytes=lambda spec: {"statistics_bytes": 3, "image_bytes": 2})
    monkeypatch.setattr(registry, "method", lambda kind: method)
    assert costs.storage_bytes(spec) == {"image_bytes": 2, "statistics_bytes": 3}


def labelled(distilled, kind, **upstream):
    """Return a student's spec with labels of a kind."""
    spec = student(distilled, **upstream)
    spec["settings"]["labels"]["kind"] = kind
    return spec


def test_bits_of_labels_are_those_stored(empty):
    made = put_set("random", 2, {})
    # Six images of three classes: each hard label one of three, each learned one three floats.
    assert costs.label_bits(student(made)) == pytest.approx(6 * 1.584962500721156)
    assert costs.label_bits(labelled(made, "learned")) == 6 * 3 * 32
    labels = put_labels(made, spec_of("teacher", "t"))
    size = (Path(labels["address"]) / "labels.parquet").stat().st_size
    assert costs.label_bits(labelled(made, "soft", labels=labels)) == 8 * size
    assert math.isnan(costs.label_bits(labelled(made, "online")))


def test_bits_per_class_count_what_the_bytes_count(empty, monkeypatch):
    made = put_set("random", 2, {})
    found = costs.Measurements().columns(student(made))
    assert found["image_bits_per_class"] == found["image_bytes"] * 8 / 3
    assert found["label_bits_per_class"] == pytest.approx(2 * math.log2(3))
    assert found["label_bytes"] == 2  # 9.5 bits
    online = costs.Measurements().columns(labelled(made, "online"))
    assert math.isnan(online["label_bytes"]) and math.isnan(online["label_bits_per_class"])
    # A method that counts a bitstream, with its networks.
    method = SimpleNamespace(storage_bytes=lambda spec: {"image_bytes": 300}, elsewhere=False)
    monkeypatch.setattr(registry, "method", lambda kind: method)
    assert costs.Measurements().columns(student(made))["image_bits_per_class"] == 800


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 100])
def test_the_bound_of_soft_labels_is_the_logarithm_of_equation_a4(n_classes):
    cells = 2 ** (24 * (n_classes - 1)) / Fraction(math.factorial(n_classes - 1))
    expected = math.log2(cells.numerator) - math.log2(cells.denominator)
    assert costs.soft_label_bits_bound(n_classes) == pytest.approx(expected, abs=1e-6)


def test_the_bound_of_soft_labels_is_that_of_the_paper():
    assert int(costs.soft_label_bits_bound(1000)) == 15_456
    # More precise labels cost the same number of bits per free probability.
    more = costs.soft_label_bits_bound(1000, 25) - costs.soft_label_bits_bound(1000)
    assert more == pytest.approx(999)


@pytest.mark.parametrize(
    ("resolution", "ipc", "kibibytes"), [(32, 1, 12), (32, 10, 120), (32, 50, 600), (128, 1, 192)]
)
def test_budgets_are_those_of_the_paper(resolution, ipc, kibibytes):
    assert costs.raw_bits_per_class(resolution, ipc) == kibibytes * 1024 * 8


def test_recognition_is_read_from_the_label_table_and_the_table_is_checked(empty):
    labels = put_labels(put_set("random", 1, {}), spec_of("teacher", "t"), "20.25")
    assert costs.recognised(labels["address"]) == 20.25
    path = Path(labels["address"]) / "labels.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StillhouseError, match=str(path)):
        costs.recognised(labels["address"])
    put({**labels, "address": "results/labels/old"}, {"labels.parquet": pa.table({"a": [1]})})
    assert math.isnan(costs.recognised("results/labels/old"))


def test_shared_artifacts_are_read_once(experiment, monkeypatch):
    calls = []
    for name in ("image_bytes", "recognised"):
        original = getattr(costs, name)

        def counted(argument, original=original, name=name):
            calls.append(name)
            return original(argument)

        monkeypatch.setattr(costs, name, counted)
    measurements = costs.Measurements()
    for cell in experiment:
        measurements.columns(store.read_spec(cell["artifact"]))
    assert calls.count("image_bytes") == calls.count("recognised") == 4
