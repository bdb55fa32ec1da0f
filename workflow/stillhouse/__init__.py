"""Stillhouse: dataset distillation, reproduced and compared.

The package names artifacts and computes them. It knows no Snakemake; what runs when is decided in
the rules. Modules are listed in the order in which data flows through them.

- what is wanted: `schema`, `references`, `limits`, `unused`, `config`, `switches`,
  `synthesis_switches`, `architectures`, `spec`, `slots`, `recipes`, `plan`, `bars`
- what is kept: `artifacts`, `jobs`, `parts`, `progress`, `seeds`
- what is computed: `sources`, `folders`, `torchvision_sets`, `images`, `indexing`, `boxes`,
  `transforms`, `fieldnets`, `smallnets`, `libraries`, `nets`, `schedules`, `training`, `teachers`,
  `weights`, `noise`, `denoisers`, `sampling`, `denoiser_training`, `denoiser_stage`, `latents`,
  `moments`, `inversion`, `groups`, `samples`, `prototypes`, `decode`, `coresets`, `rded`,
  `typicality`, `dift`, `features`, `clusters`, `ddps`, `watching`, `statistics`, `matching`,
  `terms`, `observers`, `starts`, `synthesis`, `distilled`, `operations`, `augment`, `views`,
  `labels`, `students`, `layout`, `latex`, `saturation`, `published`, `tables`, `panels`, `charts`,
  `figures`, `maps`, `domains`, `descents`, `page`
- for users of the results: `data` (a torch dataset), `explain` (the lineage of an artifact)
"""
