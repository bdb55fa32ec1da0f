"""Stillhouse: dataset distillation, reproduced and compared.

The package names artifacts and computes them. It knows no Snakemake; what runs when is decided in
the rules. Modules are listed in the order in which data flows through them.

- what is wanted: `schema`, `references`, `unused`, `config`, `switches`, `architectures`, `spec`,
  `plan`, `bars`
- what is kept: `artifacts`, `jobs`, `parts`, `progress`, `seeds`
- what is computed: `sources`, `folders`, `torchvision_sets`, `images`, `indexing`, `boxes`,
  `transforms`, `fieldnets`, `libraries`, `nets`, `schedules`, `training`, `teachers`, `coresets`,
  `rded`, `features`, `distilled`, `operations`, `augment`, `views`, `labels`, `students`,
  `layout`, `published`, `tables`, `panels`, `charts`, `figures`, `page`
- for users of the results: `data` (a torch dataset), `explain` (the lineage of an artifact)
"""
