"""Papers of methods as BibTeX and as references of the Citation File Format."""

import re
from pathlib import Path

from stillhouse.config import yaml_files

ROOT = Path(__file__).parents[3]
PAPERS = ROOT / "workflow/published/papers.yaml"
# Where a paper appeared, by kind of entry.
PLACES = {"article": "journal", "conference-paper": "collection-title"}
# Words of most titles.
COMMON = ("dataset", "distillation", "condensation", "with")
ENTRIES = {
    "article": ("article", "journal"),
    "conference-paper": ("inproceedings", "booktitle"),
    "software": ("misc", ""),
}


def of_method(kind):
    """Return the papers of a kind of method as CFF references; an empty list if it has none."""
    return yaml_files.read(PAPERS).get(kind, [])


def of_software():
    """Return Stillhouse as a CFF reference, from its ``CITATION.cff``."""
    citation = yaml_files.read(ROOT / "CITATION.cff")
    return {name: citation[name] for name in ("type", "title", "authors", "version", "license")}


def bibtex(reference):
    """Return a reference as a BibTeX entry.

    Parameters
    ----------
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
    return "\n".join([f"@{kind}{{{_key(reference)},", *lines, "}"])


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


def _key(reference):
    """Return family name, year and first particular word of the title, in lower case."""
    first = reference["authors"][0].get("family-names", "")
    of_title = re.findall(r"[a-z]{4,}", reference["title"].lower())
    particular = next(word for word in of_title if word not in COMMON)
    return f"{first}{reference.get('year', '')}{particular}".lower()
