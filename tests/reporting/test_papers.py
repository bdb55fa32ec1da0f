"""Papers of methods: which have one, and their entries."""

import pytest
from stillhouse.config import yaml_files
from stillhouse.methods.registry import METHODS
from stillhouse.reporting import papers

WITHOUT = {"random", "kmeans", "given"}
LISTED = yaml_files.read(papers.PAPERS)


def test_every_method_but_the_baselines_has_a_paper():
    assert {kind for kind, method in METHODS.items() if not method.papers} == WITHOUT
    assert {key for method in METHODS.values() for key in method.papers} == LISTED.keys()


@pytest.mark.parametrize("key", LISTED)
def test_a_reference_has_what_bibtex_and_cff_need(key):
    reference = LISTED[key]
    assert {"type", "title", "authors", "year"} <= reference.keys()
    assert reference[papers.PLACES[reference["type"]]]
    assert all(one.keys() == {"given-names", "family-names"} for one in reference["authors"])
    assert 2000 < reference["year"] < 2100
    assert key.startswith(f"{reference['authors'][0]['family-names'].lower()}{reference['year']}")


@pytest.mark.parametrize("kind", sorted(set(METHODS) - WITHOUT))
def test_titles_are_those_of_the_methods_pages(kind):
    """The documentation was compared with the papers' own text, where that was at hand."""
    page = {"herding": "coresets", "compressed": "ruo"}.get(kind, kind)
    text = (papers.ROOT / f"docs/methods/{page}.md").read_text().replace("\n", " ")
    for key in METHODS[kind].papers:
        assert f"*{LISTED[key]['title']}*" in text
        assert LISTED[key]["authors"][0]["family-names"] in text


def test_papers_of_methods_are_listed_once_with_stillhouse():
    keys = list(papers.of_kinds(["random", "ruo", "compressed", "gm", "full_data"]))
    assert keys == ["bao2025data", "zhao2021gradient", "zhao2021differentiable", "stillhouse"]


def test_bibtex_entries_have_braces_in_pairs_and_all_authors():
    entry = papers.bibtex("sun2024diversity", LISTED["sun2024diversity"])
    assert entry.startswith("@inproceedings{sun2024diversity,\n  title = {{On the Diversity")
    assert "author = {Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao}," in entry
    assert "booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition}," in entry
    assert entry.count("{") == entry.count("}")
    assert entry.endswith("year = {2024},\n}")
    article = papers.bibtex("zhong2024efficient", LISTED["zhong2024efficient"])
    assert "journal = {arXiv preprint arXiv:2412.09959}" in article


def test_a_paper_in_one_line():
    assert papers.short(LISTED["zhao2023distribution"]).startswith(
        "Zhao & Bilen, *Dataset Condensation with Distribution Matching*, "
    )
    assert papers.short(LISTED["sun2024diversity"]).startswith("Sun et al., *On the Diversity")
