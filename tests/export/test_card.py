"""Cards and citations: what they state of a set."""

import math
import statistics
from pathlib import Path

import pytest
import yaml
from stillhouse.artifacts import store
from stillhouse.data.distilled_set import DistilledSet
from stillhouse.export import card, dataset
from stillhouse.export.evaluations import evaluations
from stillhouse.reporting import costs
from stillhouse.reporting.page.scales import byte_text, second_text


def text_of(spec, license_name="unknown"):
    """Return the card of a set."""
    return card.files(dataset.parts(spec), license_name)["README.md"]


def test_accuracies_are_mean_and_deviation_over_the_students_of_the_set(results):
    found = {one.protocol: one for one in evaluations(results["png"])}
    assert list(found) == ["hard", "float16", "int8", "top2"]
    for one in found.values():
        assert one.spec["upstream"]["distilled"]["address"] == results["png"]["address"]
        folder = Path(one.spec["address"]).parent
        cells = [store.read_json(folder / f"seed{seed}/cell.json") for seed in (0, 1)]
        accuracies = [cell["accuracy"] for cell in cells]
        assert one.mean == pytest.approx(statistics.mean(accuracies), abs=1e-4)
        assert one.std == pytest.approx(statistics.stdev(accuracies), abs=1e-4)
        assert (one.n, one.n_diverged, math.isnan(one.published)) == (2, 0, True)


def test_the_card_has_accuracies_bytes_seconds_and_lineage(results):
    text = text_of(results["png"])
    row = next(iter(evaluations(results["png"])))
    assert f"| s | hard | hard | {row.mean:.1f} ± {row.std:.1f} | 2 | – |" in text
    n_bytes = costs.storage_bytes(results["png"])["image_bytes"]
    seconds = costs.of_lineage(results["png"], store.read_timing)["seconds_distill"]
    assert n_bytes > 0 and seconds > 0
    cells = [byte_text(n_bytes), "none", "none", second_text(seconds), "none"]
    assert f"| images | {' | '.join(cells)} |" in text
    assert "hard, s: " in text and "epochs 2" in text and "arch convnet1" in text
    for artifact in (results["png"], row.spec, *dataset.label_tables(results["png"])):
        assert artifact["address"] in text


def test_the_card_has_the_devices_of_members_too(results, monkeypatch):
    real, own = store.read_timing, f"{results['jpeg']['upstream']['scores']['address']}/"

    def timing(folder):
        device = "a GPU" if str(folder).startswith(own) else "a CPU"
        stored = real(folder)
        return stored and {**stored, "device": device}

    monkeypatch.setattr(store, "read_timing", timing)
    assert "Compute time of everything that a part needs, on a CPU; a GPU;" in text_of(
        results["jpeg"]
    )
    assert "needs, on a CPU;" in text_of(results["png"])


def test_tables_with_views_and_without_are_told_apart(results):
    text = text_of(results["png"])
    tables = dataset.parts(results["png"])[1:]
    for part in tables:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{part.name}` |")]
        stored = part.spec["settings"]["encoding"] != "top2"
        assert ("for recorded views" in row) is stored
        assert ("drawn from a seed" in row) is not stored
        assert (f'load_labels("FOLDER/{part.file}")' in text) is not stored
    (only,) = [part for part in tables if part.spec["settings"]["encoding"] == "top2"]
    assert "(columns" not in text_of(only.spec)
    assert "(columns `crop`, " in text


def test_a_set_without_tested_students_says_so(made):
    spec = next(iter(made.artifacts["distilled"].values())).spec()
    assert "No student of this set was tested" in text_of(spec)


def test_decoded_bitstreams_are_said_to_be_decoded(results):
    stored = results["bitstream"]["upstream"]["bitstream"]["address"]
    n_bytes = sum(path.stat().st_size for path in Path(stored).rglob("*.bits"))
    assert f"decoded from bitstreams of {n_bytes} bytes" in text_of(results["bitstream"])
    assert "bitstream" not in text_of(results["jpeg"]).partition("## Settings")[0]


def test_learned_labels_and_rate_are_stated(results):
    text = text_of(results["learned"])
    rate = DistilledSet(Path(results["learned"]["address"]) / "images.parquet").learning_rate
    assert f"learning rate of students is learned with the images: {rate}." in text
    assert "column `learned_label`, logits over the classes" in text
    assert "learned with the images" not in text_of(results["png"])


def test_papers_are_cited_in_the_card_and_in_the_citation(results):
    files = card.files(dataset.parts(results["jpeg"]), "cc-by-4.0")
    assert "Sun et al., *On the Diversity and Realism" in files["README.md"]
    assert "@inproceedings{sun2024diversity," in files["README.md"]
    citation = yaml.safe_load(files["CITATION.cff"])
    required = {"cff-version", "message", "title", "authors"}
    assert required <= citation.keys()
    assert citation["type"] == "dataset"
    assert [one["type"] for one in citation["references"]] == ["conference-paper", "software"]


def test_the_licence_is_in_the_front_matter_and_in_the_text(results):
    text = text_of(results["png"], "cc-by-4.0")
    assert "\nlicense: cc-by-4.0\n" in text
    assert "Licence of the source's images: cc-by-4.0.\n" in text
    assert "sources.….license" in text_of(results["png"])


@pytest.mark.parametrize(
    ("n_rows", "size"), [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**7, "n>1M")]
)
def test_size_categories_are_those_of_the_hub(results, n_rows, size, monkeypatch):
    monkeypatch.setattr(dataset.Part, "info", lambda part: {"splits": [{"num_examples": n_rows}]})
    facts = {"title": "", "license": "", "kind": ""}
    front = card.front_matter(dataset.parts(results["png"]), facts)
    assert front["size_categories"] == [size]
