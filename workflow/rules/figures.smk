"""Artifacts to figures.  in: distilled sets, artifacts of methods   out: PNG, SVG

A method declares its figures in its ``method.py``. All figures of one function have one rule, named
after the function.
"""

DRAWINGS = reports.drawing_rules()

for drawing, (function, drawn) in DRAWINGS.items():
    first = next(iter(drawn.values()))
    log_path = reports.figure_path(first, "log").replace("results/", "results/logs/")
    benchmark_path = reports.figure_path(first, "jsonl").replace("results/", "results/benchmarks/")

    rule:
        name:
            drawing
        input:
            unpack(
                lambda w, name=first.name: {
                    key: unchanged(reports.figure_sources(plan, artifact, members))
                    for key, (artifact, members) in figure_inputs(name, w).items()
                }
            ),
            outdated=lambda w, figure=first: outdated(
                reports.figure_path(figure, figure.suffix).format(**w),
                reports.figure_contents(figure_title(figure, w), figure_files(figure.name, w)),
            ),
        output:
            **{
                suffix: report(
                    reports.figure_path(figure, suffix),
                    caption=f"../report/{figure.caption}.rst",
                    category="Methods",
                    labels={
                        "what": figure.title,
                        **{name: f"{{{name}}}" for name in ("experiment", "method", "seed")},
                    },
                )
                for suffix, figure in drawn.items()
            },
        log:
            log_path,
        benchmark:
            benchmark_path
        localrule: True
        conda:
            "../../envs/stillhouse.yaml"
        threads: 1
        resources:
            **LIGHT,
        params:
            contents=lambda w, figure=first: reports.figure_contents(
                figure_title(figure, w), figure_files(figure.name, w)
            ),
            distill_seed=lambda w: int(w.seed),
            files=lambda w, name=first.name: figure_files(name, w),
            function=function,
            method=lambda w: w.method,
            title=lambda w, figure=first: figure_title(figure, w),
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
    localrule: True
    conda:
        "../../envs/stillhouse.yaml"
    threads: 1
    params:
        function="stillhouse.reporting.contact_sheets:contact_sheet",
        title=lambda w: f"{w.dataset}, {w.spec}, {w.ipc} image{'s' * (w.ipc != '1')} per class",
        version=REPORT_VERSIONS["figures"],
    script:
        "../scripts/report.py"
