"""Sets and what methods selected to pictures.  in: distilled sets, members   out: PNG, SVG

A method declares its pictures in its ``method.py``; those that one function draws are one rule,
named after the function.
"""


@functools.cache
def figures_of(experiment):
    """Return the figures of an experiment's methods, see `stillhouse.planning.inputs.figures`."""
    return figures(cells_of(experiment))


def figure_files(experiment):
    """Return {path: identity on the page} of an experiment's figures."""
    return {
        figure_path(figure, figure.suffix).format(experiment=experiment, method=method, seed=seed): {
            "name": figure.name,
            "title": figure.title,
            "caption": figure.caption,
            "methods": methods,
            "distill_seed": seed,
        }
        for (_, method, seed), (figure, _, methods) in figures_of(experiment).items()
    }


def figure_path(figure, suffix):
    """Return the path of a figure's file, with wildcards."""
    return f"results/figures/{{experiment}}/{figure.name}-{{method}}-seed{{seed}}.{suffix}"


def figure_numbers(experiment):
    """Return the CSV files that lie beside figures."""
    drawn = figures_of(experiment).items()
    return [
        figure_path(figure, suffix).format(experiment=experiment, method=method, seed=seed)
        for (_, method, seed), (figure, _, _) in drawn
        for suffix in figure.extra
    ]


def figure_inputs(name, w):
    """Return (manifests, {name: {member: path}}) of what a figure shows."""
    key = name, w.method, int(w.seed)
    if key not in figures_of(w.experiment):
        raise WorkflowError(
            f"experiment {w.experiment}: has no figure {name} of {w.method}, seed {w.seed}; "
            "see snakemake -n"
        )
    figure, inputs, _ = figures_of(w.experiment)[key]
    manifests, files = {}, {}
    for what, (artifact, members) in inputs.items():
        members = list(members)[: figure.classes or None]
        manifests[what] = unchanged(plan.manifests(artifact, members))
        files[what] = {member: artifact.member_file(member) for member in members}
    return manifests, files


FIGURES = {}
for method in registry.METHODS.values():
    for figure in method.figures:
        FIGURES.setdefault(figure.function, {}).setdefault(figure.name, figure)

for function, drawn in FIGURES.items():
    first = next(iter(drawn.values()))
    endings = {s: one for one in drawn.values() for s in (one.suffix, *one.extra)}

    rule:
        name:
            function.partition(":")[2]
        input:
            unpack(lambda w, name=first.name: figure_inputs(name, w)[0]),
        output:
            **{
                suffix: report(
                    figure_path(one, suffix),
                    caption=f"../report/{one.caption}.rst",
                    category="Methods",
                    labels={
                        "what": one.title,
                        **{name: f"{{{name}}}" for name in ("experiment", "method", "seed")},
                    },
                )
                for suffix, one in endings.items()
            },
        log:
            figure_path(first, "log").replace("results/", "results/logs/"),
        benchmark:
            figure_path(first, "jsonl").replace("results/", "results/benchmarks/")
        conda:
            "../../envs/stillhouse.yaml"
        threads: 1
        resources:
            **LIGHT,
        params:
            distill_seed=lambda w: int(w.seed),
            files=lambda w, name=first.name: figure_inputs(name, w)[1],
            function=function,
            method=lambda w: w.method,
            title=lambda w, one=first: f"{w.experiment}, {w.method}, seed {w.seed}: {one.title}",
            version=REPORT_VERSIONS["figures"],
        script:
            "../scripts/report.py"


rule contact_sheet:
    """Draw the images of one distilled set."""
    input:
        set=ancient("results/distilled/{dataset}/{spec}/ipc{ipc}-seed{seed}/images.parquet"),
    output:
        png=report(
            "results/figures/{dataset}/{spec}/ipc{ipc}-seed{seed}.png",
            caption="../report/sheet.rst",
            category="Images",
            labels={"dataset": "{dataset}", "set": "{spec}", "IPC": "{ipc}", "seed": "{seed}"},
        ),
    log:
        "results/logs/figures/{dataset}/{spec}/ipc{ipc}-seed{seed}.log",
    benchmark:
        "results/benchmarks/figures/{dataset}/{spec}/ipc{ipc}-seed{seed}.jsonl"
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        function="stillhouse.reporting.contact_sheets:contact_sheet",
        title=lambda w: f"{w.dataset}, {w.spec}, {w.ipc} image{'s' * (w.ipc != '1')} per class",
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"
