"""Figures of images during their optimisation, for every method whose stage stores snapshots.

Light: the Snakefile is parsed with it.
"""

from stillhouse.methods.base import Figure

FUNCTION = "stillhouse.reporting.method_figures.synthesis_progress:synthesis_progress"


def _largest(sets):
    """Return the optimised images of the largest set; of those stored in batches, the first."""
    (artifact,) = sets[max(sets)].upstream.values()
    return {"synthesis": (artifact, [0] if artifact.stage.member else None)}


PROGRESS_FIGURES = (
    Figure(
        "synthesis",
        title="Synthetic images during optimisation",
        caption="synthesis",
        function=FUNCTION,
        inputs=_largest,
    ),
    Figure(
        "terms",
        title="Loss terms",
        caption="terms",
        function=FUNCTION,
        inputs=_largest,
        suffix="svg",
    ),
)
