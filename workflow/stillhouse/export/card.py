"""Dataset card and citation of an exported distilled set."""

from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from stillhouse.artifacts import store
from stillhouse.data.distilled_set import read_learned
from stillhouse.export.evaluations import evaluations
from stillhouse.methods import registry
from stillhouse.reporting import costs, lineage, papers
from stillhouse.reporting.page.templates import rendered

TEMPLATE = papers.ROOT / "workflow/report/card.md.jinja"
# Of the hub: upper ends [rows].
SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
LARGEST = "n>1M"


def files(parts, license_name):
    """Return {file name: text} of the card and the citation of a dataset.

    Parameters
    ----------
    parts : list of stillhouse.export.dataset.Part
        The images, then soft label tables.
    license_name : str
    """
    spec = parts[0].spec
    references = papers.of_kinds([spec["settings"]["kind"]])
    *of_method, _ = references.values()
    facts = {
        "title": title(spec),
        "license": license_name,
        "papers": [papers.short(one) for one in of_method],
        "bibtex": [papers.bibtex(key, one) for key, one in references.items()],
        **_set_facts(parts),
    }
    front = yaml.safe_dump(
        front_matter(parts, facts), sort_keys=False, allow_unicode=True, width=1000
    )
    body = rendered(TEMPLATE.read_text(), escape=False, **facts)
    return {
        "README.md": f"---\n{front}---\n\n{body}",
        "CITATION.cff": citation(spec, list(references.values())),
    }


def title(spec):
    """Return the readable name of a set."""
    ipc = spec["keys"]["ipc"]
    plural = "s" if ipc != 1 else ""
    return f"{spec['slug']}, {spec['folder']}, {ipc} image{plural} per class"


def front_matter(parts, facts):
    """Return the metadata of a card, plain values that the Hugging Face hub and `datasets` read."""
    infos = [part.info() for part in parts]
    n_rows = max(split["num_examples"] for info in infos for split in info["splits"])
    return {
        "pretty_name": facts["title"],
        "license": facts["license"],
        "task_categories": ["image-classification"],
        "size_categories": [next((name for most, name in SIZES if n_rows < most), LARGEST)],
        "tags": ["dataset-distillation", "dataset-condensation", "stillhouse", facts["kind"]],
        "configs": [
            {
                "config_name": part.name,
                "data_files": [{"split": "train", "path": part.file}],
                **({"default": True} if part is parts[0] else {}),
            }
            for part in parts
        ],
        "dataset_info": infos,
    }


def citation(spec, references):
    """Return the text of a ``CITATION.cff``; authors are to be filled in by who publishes."""
    values = {
        "cff-version": "1.2.0",
        "message": "Cite the papers of the method, the source of its images, and Stillhouse.",
        "type": "dataset",
        "title": f"Distilled set: {title(spec)}",
        "authors": [{"name": "unknown"}],
        "keywords": ["dataset distillation", "dataset condensation"],
        "references": references,
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)


def _set_facts(parts):
    """Return what the card states of a set, its labels and its students, by name."""
    spec, settings = parts[0].spec, parts[0].spec["settings"]
    storage, learned = costs.storage_bytes(spec), read_learned(parts[0].source)
    path = pq.read_table(parts[0].source, columns=["image"])["image"][0]["path"].as_py()
    students = evaluations(spec)
    specs = [part.spec for part in parts]
    spent = [costs.of_lineage(one, store.read_timing) for one in specs]
    return {
        "kind": settings["kind"],
        "dataset": spec["folder"],
        "sources": [one["settings"]["name"] for one in specs_of(spec, "index")],
        "n_classes": len(settings["classes"]),
        "resolution": settings["resolution"],
        "ipc": spec["keys"]["ipc"],
        "seed": spec["keys"]["seed"],
        "format": Path(path).suffix[1:].upper().replace("WEBP", "WebP"),
        "image_bytes": storage["image_bytes"],
        "is_bitstream": "image_bytes" in registry.method(settings["kind"]).storage_bytes(spec),
        "learned": asdict(learned) if learned else None,
        "parts": [_part(part) for part in parts],
        "students": students,
        "costs": [
            (part.name, _costs(part, storage["image_bytes"], of_part))
            for part, of_part in zip(parts, spent, strict=True)
        ],
        "view_columns": _view_columns(parts),
        "devices": costs.device_names(of_part["devices"] for of_part in spent),
        "protocols": [_protocol(one) for one in students],
        "lineage": "\n".join(lineage.explain(*(one.spec for one in students), *specs)),
    }


def _costs(part, image_bytes, spent):
    """Return bytes and seconds by stage of a part and everything that it needs."""
    times = {name: spent[f"seconds_{name}"] for name in costs.COSTS}
    of_images = part.name == "images"
    return {"bytes": image_bytes if of_images else part.source.stat().st_size, **times}


def _view_columns(parts):
    """Return the columns of soft labels that describe a view."""
    names = [name for part in parts[1:] for name in pq.read_schema(part.source).names]
    others = ("epoch", "index")
    return [n for n in dict.fromkeys(names) if n not in others and not n.startswith("logit")]


def specs_of(spec, stage):
    """Return the specs of a stage in the lineage of an artifact."""
    return [one for one in costs.distinct([spec]) if one["stage"] == stage]


def _part(part):
    """Return name, rows, bytes and encoding of a part."""
    metadata = pq.read_metadata(part.source)
    return {
        "name": part.name,
        "file": part.file,
        "rows": metadata.num_rows,
        "bytes": part.source.stat().st_size,
        "encoding": part.spec["settings"].get("encoding", ""),
        "views_stored": part.spec["settings"].get("views_stored", True),
        "teachers": [one["slug"] for one in part.spec["upstream"].get("teachers", [])],
    }


def _protocol(evaluation):
    """Return name and settings of the training of students, in one line."""
    settings = evaluation.spec["settings"]
    shown = {**settings["network"], **settings["training"]}
    texts = [f"{name} {_text(value)}" for name, value in sorted(shown.items()) if value != ""]
    return f"{evaluation.protocol}, {evaluation.student}", ", ".join(texts)


def _text(value):
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_text(one)}" for name, one in value.items()) + ")"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
