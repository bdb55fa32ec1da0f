"""Papers of methods as BibTeX and as references of the Citation File Format."""

from pathlib import Path

from stillhouse.config import yaml_files
from stillhouse.methods import registry

ROOT = Path(__file__).parents[3]
PAPERS = ROOT / "workflow/published/papers.yaml"
# Where a paper appeared, by kind of entry.
PLACES = {"article": "journal", "conference-paper": "collection-title"}
ENTRIES = {
    "article": ("article", "journal"),
    "conference-paper": ("inproceedings", "booktitle"),
    "software": ("misc", ""),
}


def of_kinds(kinds):
    """Return the papers of methods, and Stillhouse, as CFF references by their BibTeX keys.

    Parameters
    ----------
    kinds : iterable of str
        Of methods; others, such as full data, have no paper.
    """
    listed, methods = yaml_files.read(PAPERS), registry.METHODS
    keys = [key for kind in kinds if kind in methods for key in methods[kind].papers]
    return {**{key: listed[key] for key in keys}, "stillhouse": of_software()}


def of_software():
    """Return Stillhouse as a CFF reference, from its ``CITATION.cff``."""
    citation = yaml_files.read(ROOT / "CITATION.cff")
    return {name: citation[name] for name in ("type", "title", "authors", "version", "license")}


def bibtex(key, reference):
    """Return a reference as a BibTeX entry.

    Parameters
    ----------
    key : str
    reference : dict
        Of CFF: ``type`` (of `ENTRIES`), ``title``, ``authors``, and ``year`` with the place of a
        paper (`PLACES`), or ``version``.
    """
    kind, place = ENTRIES[reference["type"]]
    fields = {
        "title": f"{{{reference['title']}}}",
        "author": " and ".join(map(_author, reference["authors"])),
    }
    if place:
        fields[place] = reference[PLACES[reference["type"]]]
    fields |= {name: str(reference[name]) for name in ("year", "version") if name in reference}
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def short(reference):
    """Return authors, title, place and year of a paper in one line."""
    place = reference[PLACES[reference["type"]]]
    names = [author["family-names"] for author in reference["authors"]]
    if len(names) > 2:
        names = [f"{names[0]} et al."]
    return f"{' & '.join(names)}, *{reference['title']}*, {place}, {reference['year']}"


def _author(author):
    """Return an author for BibTeX; the name of a group in braces."""
    if "name" in author:
        return f"{{{author['name']}}}"
    return f"{author['family-names']}, {author['given-names']}"
