"""SRe2L, CDA, G-VBSM and EDC: images optimised to match the statistics of teachers' layers.

Yin et al., "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
Perspective", NeurIPS 2023 (VILA-Lab/SRe2L at 8d00cba). CDA: Yin & Shen, "Dataset Distillation via
Curriculum Data Synthesis in Large Data Era", TMLR 2024 (VILA-Lab/SRe2L at 2e346ff). Shao et al.,
"Generalized Large-Scale Data Condensation via Various Backbone and Statistical Matching", CVPR 2024
(shaoshitong/G_VBSM_Dataset_Condensation at 1ed80b0). Shao et al., "Elucidating the Design Space of
Dataset Condensation", NeurIPS 2024 (shaoshitong/EDC at 80116a7, utils.py and recover.py, and the
tables of appendix A.1). The four are settings of one synthesis.
"""

from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError
from stillhouse.methods.base import Method, Unused
from stillhouse.methods.common.progress_figures import PROGRESS_FIGURES
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.networks.architectures import has_batchnorm

STATISTICS = Stage(
    "statistics",
    version=3,
    files=("statistics.safetensors",),
    function="stillhouse.methods.statistical_matching.statistics:statistics",
    description="feature statistics of real images",
    work="stillhouse.methods.statistical_matching.work:statistics",
)
SYNTHESIS = Stage(
    "synthesis",
    version=3,
    files=("images.parquet", "curve.json", "snapshots.parquet"),
    function="stillhouse.methods.statistical_matching.synthesis:synthesis",
    description="synthesised images",
    member="batch",
    lowered="batch_size of the method",
    work="stillhouse.methods.statistical_matching.work:synthesis",
)
CODE = {
    "initial_draw": "replacement",
    "class_terms": "mixture",
    "class_variance": "within",
    "tile_statistics": "swapped",
    "momentum_start": "zero",
    "observer_order": "continued",
    "flatness": {"kind": "none"},
    "curriculum": {"kind": "none"},
}
PAPER = {
    "initial_draw": "distinct",
    "class_terms": "classes",
    "class_variance": "total",
    "tile_statistics": "correct",
    "momentum_start": "first",
    "observer_order": "restart",
    "flatness": {"kind": "none"},
    "curriculum": {"kind": "none"},
}
FROM_NOISE = {"initial": "noise", "iterations": 4000, "crop": [0.08, 1.0], "alpha": 1.0}
OF_SRE2L = {
    **FROM_NOISE,
    "order": "by_copy",
    "learning_rate": 0.25,
    "momentum": 0.0,
    "verifier": "none",
    "loss_weights": {"convolution": 0.0, "densification": 0.0},
}
# Settings used by each kind of `flatness`.
FLATNESS = {
    "none": set(),
    "logits": {"weight", "beta", "temperature"},
    "statistics": {"weight", "beta"},
    "sam": {"weight"},
}
# Settings used only by class-conditional statistics.
CLASS_STATISTICS = {"class_terms", "class_variance", "class_layers", "tile_statistics"}


class StatisticalMatching(Method):
    """Images optimised by the losses of observers, the teachers whose statistics they match."""

    stages = (STATISTICS, SYNTHESIS)
    images = "stillhouse.methods.statistical_matching.images:images_of_class"
    unlimited = True
    figures = PROGRESS_FIGURES

    def unused(self, settings):
        """Return the settings without effect."""
        flatness = settings["flatness"]["kind"]
        idle = FLATNESS["logits"] - FLATNESS[flatness]
        unused = [Unused(idle, f"kind: {flatness}", "flatness"), *_unused_curriculum(settings)]
        pad = settings["statistics"]["pad"]
        if pad:
            unused.append(Unused({"crop"}, f"pad: {pad}", "statistics"))
        unmatched = settings["loss_weights"]["convolution"] == 0
        no_convolutions = "loss_weights.convolution: 0"
        if unmatched:
            unused.append(Unused({"tile", "convolution_dropout"}, no_convolutions))
        if settings["alpha"] == 1:
            unused.append(Unused(CLASS_STATISTICS, "alpha: 1"))
            if unmatched:
                unused.append(Unused({"statistics"}, f"alpha: 1 and {no_convolutions}"))
        elif unmatched or settings["tile"] == 0:
            reason = no_convolutions if unmatched else "tile: 0"
            unused.append(Unused({"tile_statistics"}, reason))
        if settings["momentum"] == 0:
            unused.append(Unused({"momentum_start", "verifier"}, "momentum: 0"))
        if settings["initial"] == "noise":
            unused.append(Unused({"initial_draw"}, "initial: noise"))
        if len(settings["observers"]) == 1:
            unused.append(Unused({"observer_order"}, "a single observer"))
        return unused

    def decide(self, settings):
        """Return settings with ``kinds``, the matched layers, and ``batch_size: all`` as 0."""
        weights = settings["loss_weights"]
        kinds = [kind for kind in ("batchnorm", "convolution") if weights[kind] > 0]
        decided = {**settings, "kinds": kinds}
        if settings["batch_size"] == "all":
            decided["batch_size"] = 0
        if settings.get("curriculum") == {"kind": "none"}:
            del decided["curriculum"]
        if "convolution" not in kinds:
            decided |= {"tile": 0, "convolution_dropout": 0.0}
        return decided

    def teachers(self, settings):
        """Return the observers, by key."""
        return {"observers": list(settings["observers"])}

    def check(self, key, settings, config):
        """Raise a `StillhouseError` if all losses are 0, or observers lack the layers to match."""
        weights, kinds = settings["loss_weights"], settings["kinds"]
        if not kinds and not any(weights[name] for name in ("cross_entropy", "densification")):
            raise StillhouseError(f"{key}.loss_weights: must not all be 0; raise one of them")
        for name in settings["observers"] if kinds == ["batchnorm"] else ():
            if not has_batchnorm(config["teachers"][name]):
                raise StillhouseError(
                    f"{key}.observers: {name!r} has no batch norm to match; set its norm: batch, "
                    "or raise loss_weights.convolution above 0"
                )
        if settings["flatness"]["kind"] == "statistics" and not kinds:
            raise StillhouseError(
                f"{key}.flatness.kind: statistics conflicts with loss_weights of 0 for all layers; "
                "set another kind, or raise loss_weights.batchnorm or loss_weights.convolution"
            )

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add statistics and synthesis."""
        teachers = [task.teacher(name) for name in task.settings["observers"]]
        upstream = {"teachers": teachers, **self._statistics(task, teachers)}
        settings = task.without("observers", "statistics", "encoding")
        settings |= {"classes": task.classes, "resolution": task.resolution}
        files, settings["initial"] = task.initialisation(self.starts_from(task.settings))
        upstream |= files
        n_batches = len(batches(settings, task.keys["ipc"]))
        slug_parts = (f"{task.resolution}px",)
        synthesis = task.numbered(SYNTHESIS, slug_parts, settings, upstream, n_batches)
        return {"synthesis": synthesis}, task.only("encoding")

    def _statistics(self, task, teachers):
        """Return the statistics of real images that the matching needs, as upstream."""
        kinds, alpha = task.settings["kinds"], task.settings["alpha"]
        # Batch norms include their global statistics, but not class-conditional ones.
        if not ("convolution" in kinds or (alpha < 1 and kinds)):
            return {}
        # The order of the classes affects the labels of a set, not the statistics of a class.
        settings = {
            "tile": task.settings["tile"],
            "views": task.settings["statistics"],
            "classes": sorted(task.classes),
        }
        statistics = [
            task.single(
                STATISTICS,
                (f"{task.resolution}px", teacher.settings["arch"]),
                settings,
                {"images": task.dataset, "teacher": teacher},
            )
            for teacher in teachers
        ]
        return {"statistics": statistics}


def _unused_curriculum(settings):
    """Return the settings of a curriculum without effect."""
    if settings["curriculum"]["kind"] == "none":
        return [Unused({"share"}, "kind: none", "curriculum")]
    smallest, largest = settings["crop"]
    return [Unused({"curriculum"}, "a crop of one area")] if smallest == largest else []


def _fidelity(**own):
    """Return the fidelity of a kind, with settings that are equal in code and paper."""
    return {"code": {**CODE, **own}, "paper": {**PAPER, **own}}


class SRe2L(StatisticalMatching):
    """Batch-norm statistics of one teacher, one image of each class per batch."""

    kind = "sre2l"
    papers = ("yin2023squeeze",)
    fidelity = _fidelity(**OF_SRE2L)


class CDA(StatisticalMatching):
    """SRe2L with a curriculum: the smallest area of the crop falls during the synthesis."""

    kind = "cda"
    papers = ("yin2024curriculum",)
    fidelity = _fidelity(**OF_SRE2L, curriculum={"kind": "cosine"})


class GVBSM(StatisticalMatching):
    """Statistics of batch norms and convolutions of several teachers."""

    kind = "gvbsm"
    papers = ("shao2024generalized",)
    fidelity = _fidelity(
        **FROM_NOISE,
        order="by_class",
        learning_rate=0.1,
        momentum=0.4,
        loss_weights={"convolution": 0.01, "densification": 1.0},
    )
    fidelity["code"] |= {"verifier": "last"}
    fidelity["paper"] |= {"verifier": "none"}


class EDC(StatisticalMatching):
    """Statistics of each class, from real images or another set."""

    kind = "edc"
    papers = ("shao2024elucidating",)
    fidelity = _fidelity(
        initial="real",
        order="by_class",
        learning_rate=0.05,
        crop=[0.5, 1.0],
        alpha=0.5,
        momentum=0.8,
        loss_weights={"convolution": 0.01, "densification": 0.0},
    )
    fidelity["code"] |= {"iterations": 1000, "verifier": "first"}
    fidelity["paper"] |= {"iterations": 2000, "flatness": {"kind": "logits"}, "verifier": "none"}
