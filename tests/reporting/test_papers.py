"""Papers of methods: which have one, and their entries."""

import re

import pytest
from stillhouse.config import yaml_files
from stillhouse.methods.registry import METHODS
from stillhouse.reporting import papers

WITHOUT = {"random", "kmeans", "given"}


def test_every_method_but_the_baselines_has_a_paper():
    assert {kind for kind in METHODS if not papers.of_method(kind)} == WITHOUT
    assert yaml_files.read(papers.PAPERS).keys() <= METHODS.keys()


@pytest.mark.parametrize("kind", sorted(set(METHODS) - WITHOUT))
def test_a_reference_has_what_bibtex_and_cff_need(kind):
    for reference in papers.of_method(kind):
        assert {"type", "title", "authors", "year"} <= reference.keys()
        assert reference[papers.PLACES[reference["type"]]]
        assert all(one.keys() == {"given-names", "family-names"} for one in reference["authors"])
        assert 2000 < reference["year"] < 2100


@pytest.mark.parametrize("kind", sorted(set(METHODS) - WITHOUT))
def test_titles_are_those_of_the_methods_pages(kind):
    """The documentation was compared with the papers' own text, where that was at hand."""
    page = {"herding": "coresets", "compressed": "ruo"}.get(kind, kind)
    text = (papers.ROOT / f"docs/methods/{page}.md").read_text().replace("\n", " ")
    for reference in papers.of_method(kind):
        assert f"*{reference['title']}*" in text
        assert reference["authors"][0]["family-names"] in text


def test_bibtex_entries_have_braces_in_pairs_and_all_authors():
    entry = papers.bibtex(papers.of_method("rded")[0])
    assert entry.startswith("@inproceedings{sun2024diversity,\n  title = {{On the Diversity")
    assert "author = {Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao}," in entry
    assert "booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition}," in entry
    assert entry.count("{") == entry.count("}")
    assert entry.endswith("year = {2024},\n}")
    assert "journal = {arXiv preprint arXiv:2412.09959}" in papers.bibtex(
        papers.of_method("ddps")[0]
    )


def test_keys_of_entries_differ():
    references = [one for kind in METHODS for one in papers.of_method(kind)]
    references = [*references, papers.of_software()]
    keys = {one["title"]: re.match(r"@\w+{(.+),", papers.bibtex(one))[1] for one in references}
    assert len(set(keys.values())) == len(keys)


def test_a_paper_in_one_line():
    assert papers.short(papers.of_method("dm")[0]).startswith(
        "Zhao & Bilen, *Dataset Condensation with Distribution Matching*, "
    )
    assert papers.short(papers.of_method("rded")[0]).startswith("Sun et al., *On the Diversity")
