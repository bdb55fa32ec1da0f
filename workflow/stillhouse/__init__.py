"""Stillhouse: dataset distillation methods, reproduced and compared under common protocols.

The package computes artifacts; the Snakemake rules decide which. A package imports only from those
above it in this list:

- `artifacts`: addresses, files and jobs; all artifacts are stored under ``results/``
- `data`, `decode`: images from a source to arrays; distilled sets; bitstreams
- `networks`, `augmentation`: classifiers; augmentation operations and recorded views
- `training`, `diffusion`: training loop and teachers; denoisers, latents and sampling
- `methods`: the distillation methods, a folder per method
- `config`, `planning`: checked settings; the artifacts that an experiment needs
- `evaluation`, `reporting`: soft labels and students; tables, figures and the report
- `export`: distilled sets, archives and learning curves for other tools
"""

import importlib

_PUBLIC = {
    "DistilledSet": "stillhouse.data.distilled_set",
    "load_labels": "stillhouse.evaluation.label_tables",
    "render": "stillhouse.augmentation.views",
}


def __getattr__(name):
    # On demand: torch takes seconds to import, and the Snakefile is parsed without it.
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [*_PUBLIC]
