"""CUB-200-2011: DEM in all its forms, class-normalised DEM step by step, and the methods it is compared with.

    python -m demjax.tables --suite=configs/suites/cub.py --workdir=runs/suite --set data.dir=FOLDER \
        --set data.features=vgg19

FOLDER holds vgg19.mat (or res101.mat, without the last flag), att_splits.mat and sent_splits.mat. Every setting is
selected on validation classes; 5 seeds; a stopped suite is resumed by the same command. Numbers of papers stand beside
ours with --published, for the ResNet-101 features they were measured on only. With class
vectors of a text encoder (configs/cub_sje.py says how to make them) two more rows:

    ... --set data.semantics=sje.npz --only dem_learned class_norm_learned
"""

from demjax.protocols import Column
from demjax.protocols.gzsl import draw_curves
from demjax.protocols.zsl import draw_pairs_of_hubs
from demjax.train.sweep.suite import Order, Row, Suite

# T1, U, S and H (%) of the "good, bad and ugly" tables: CUB, proposed split, ResNet-101.
PUBLISHED = {
    "dem": (51.7, 19.6, 57.9, 29.2),
    "eszsl": (53.9, 12.6, 63.8, 21.0),
    "sae": (33.3, 7.8, 54.0, 13.6),
    "sje": (53.9, 23.5, 59.2, 33.6),
    "devise": (52.0, 23.8, 53.0, 32.8),
    "ale": (54.9, 23.7, 62.8, 34.4),
    "latem": (49.3, 15.2, 57.3, 24.0),
    "conse": (34.3, 1.6, 72.2, 3.1),
    "sync": (55.6, 11.5, 70.9, 19.8),
    "dap": (40.0, 1.7, 67.9, 3.3),
    "sse": (43.9, 8.5, 46.9, 14.4),
}
METRICS = ("zsl/top1", "gzsl/unseen", "gzsl/seen", "gzsl/harmonic")
COLUMNS = (
    Column("zsl/top1", "T1"),
    Column("gzsl/unseen", "U"),
    Column("gzsl/seen", "S"),
    Column("gzsl/harmonic", "H"),
    Column("gzsl_calibrated/unseen", "U calibrated"),
    Column("gzsl_calibrated/seen", "S calibrated"),
    Column("gzsl_calibrated/harmonic", "H calibrated"),
    Column("gzsl/ausuc", "AUSUC"),
    Column("corrected/zsl/top1", "T1 hub-corrected"),
    Column("corrected/gzsl_calibrated/harmonic", "H hub-corrected, calibrated"),
    Column("hubness/n1_skewness", "N1 skewness", ""),
)
T1, H, SKEWNESS = "zsl/top1", "gzsl/harmonic", "hubness/n1_skewness"
CLOSED_FORMS = ("ridge", "ridge_to_semantic", "eszsl", "sae", "sae_to_semantic")
BOTH = "class-normalised DEM: attributes and sentences above"
ORDERS = (
    Order("dem", "dem_to_semantic", T1, "DEM: semantic->visual above visual->semantic in T1"),
    Order("dem", "dem_hinge", T1, "DEM: least squares above hinge in T1"),
    Order("ridge", "ridge_to_semantic", T1, "ridge: semantic->visual above visual->semantic in T1"),
    *(Order("dem", other, H, f"DEM above {other} in H") for other in CLOSED_FORMS),
    *(Order("dem", x, "gzsl_calibrated/harmonic", f"DEM above {x} in H, both calibrated") for x in CLOSED_FORMS),
    Order("dem", "amp", T1, "DEM above amp in T1"),
    Order("dem_fused", "dem", T1, "DEM: attributes and sentences above attributes in T1"),
    Order("dem_fused", "dem_sentences", T1, "DEM: attributes and sentences above sentences in T1"),
    Order("dem_fused", "dem_sentences", H, "DEM: attributes and sentences above sentences in H"),
    Order("dem_hinge", "dem_to_semantic_hinge", T1, "DEM, hinge: semantic->visual above visual->semantic in T1"),
    Order("dem_hinge", "dem_to_semantic_hinge", H, "DEM, hinge: semantic->visual above visual->semantic in H"),
    Order("dem_to_semantic", "dem_to_semantic_hinge", T1, "DEM, visual->semantic: least squares above hinge in T1"),
    Order("dem_captions_fused", "dem", T1, "DEM: attributes and captions above attributes in T1"),
    Order("dem_captions_fused", "dem_captions", T1, "DEM: attributes and captions above captions in T1"),
    Order("dem_captions_fused", "dem_captions", H, "DEM: attributes and captions above captions in H"),
    Order("class_norm", "dem", H, "class-normalised DEM above DEM in H"),
    Order("class_norm_fused", "class_norm", T1, f"{BOTH} attributes in T1"),
    Order("class_norm_fused", "class_norm_sentences", T1, f"{BOTH} sentences in T1"),
    Order("class_norm_fused", "class_norm_sentences", H, f"{BOTH} sentences in H"),
    Order("dem_to_semantic_hinge", "dem_hinge", SKEWNESS,
          "N1 skewness: visual->semantic above semantic->visual (hinge)", ""),
    Order("dem_to_semantic", "dem", SKEWNESS, "N1 skewness: visual->semantic above semantic->visual (DEM)", ""),
    Order("ridge_to_semantic", "ridge", SKEWNESS, "N1 skewness: visual->semantic above semantic->visual (ridge)", ""),
)  # fmt: skip
PAIRS = (("dem", "dem_to_semantic"), ("ridge", "ridge_to_semantic"))
PICTURES = {
    "curves.png": draw_curves,
    "hubs.png": lambda figure, reports: draw_pairs_of_hubs(figure, reports, PAIRS),
}
TO_SEMANTIC = {"task.direction": "visual->semantic"}


def published(name):
    return dict(zip(METRICS, PUBLISHED.get(name, ()), strict=False))


LEARNED_NOTE = "the text encoder was trained on trainval; the penalty is found on validation classes that it has seen"
GENERATED = "the captions are generated from the attributes; nobody wrote them"
# Where a row is not the published system to the letter.
NOTES = {
    "cmt": "without the novelty detector of its generalised form",
    "sse": "the rectified target only, one weight per feature",
    "cvc": "plain batches in place of episodes",
}


def baseline(name):
    return Row(name, f"cub_baseline.py:{name}", published=published(name), note=NOTES.get(name, ""))


def get_suite():
    validated = "as configs/cub.py, selected on validation classes with attributes"
    notebook = "as configs/cub_class_norm.py, selected with attributes and all steps, but for what the row names"
    captions = "as configs/cub_text.py:small, tried by hand on validation classes"
    dem = [
        Row("dem_euclidean", "cub.py", {"task.score": "euclidean"}, selected=validated),
        Row("dem", "cub.py", published=published("dem"), selected=validated),
        Row("dem_sentences", "cub.py:sentences"),
        Row("dem_fused", "cub.py:fused"),
        Row("dem_captions", "cub_text.py:small", selected=captions, note=GENERATED),
        Row(
            "dem_captions_fused",
            "cub_text.py:small",
            {"task.fused": True, "task.hidden": 900},
            selected=captions,
            note=GENERATED,
        ),  # fmt: skip
        Row("dem_hinge", "cub_ablation.py:hinge"),
        Row("dem_to_semantic", "cub_ablation.py:to_semantic"),
        Row("dem_to_semantic_hinge", "cub_ablation.py:to_semantic_hinge"),
    ]
    learned = [
        Row("dem_learned", "cub.py", selected=validated, note=LEARNED_NOTE, on_request=True),
        Row("class_norm_learned", "cub_class_norm.py", selected=notebook, note=LEARNED_NOTE, on_request=True),
    ]
    ladder = {
        "mlp": {},
        "mlp_norm": {"task.semantics_scale": "sqrt"},
        "mlp_norm_std": {"task.semantics_scale": "sqrt", "task.divide_by": "std"},
        "mlp_norm_init": {"task.semantics_scale": "sqrt", "task.output_init": "class_norm"},
    }
    class_norm = [
        *(Row(name, "cub_class_norm.py:mlp", changes, selected=notebook) for name, changes in ladder.items()),
        Row("class_norm_variance", "cub_class_norm.py:paper", {"task.divide_by": "variance"}, selected=notebook),
        Row("class_norm_paper", "cub_class_norm.py:paper", selected=notebook),
        Row("class_norm_power", "cub_class_norm.py:paper", {"task.features_power": 0.5}, selected=notebook),
        Row("class_norm", "cub_class_norm.py", selected=notebook),
        Row("class_norm_ensemble", "cub_class_norm.py", {"task.members": 5}, selected=notebook),
        Row("class_norm_sentences", "cub_class_norm.py", {"data.semantics": "sent"}, selected=notebook),
        Row("class_norm_fused", "cub_class_norm.py:fused"),
    ]
    closed = [baseline(n) for n in ("ridge", "ridge_to_semantic", "eszsl", "sae", "sae_to_semantic", "amp")]
    trained = [
        baseline(n) for n in ("sje", "devise", "ale", "latem", "conse", "iap", "dap", "cmt", "ba", "cvc", "sync", "sse")
    ]
    return Suite(
        "DEM, its ladder, and the methods it is compared with",
        (*dem, *class_norm, *learned, *closed, *trained),
        ("sent_splits.mat: the encoder of these sentence vectors may have seen unseen classes (an older split).",),
        COLUMNS,
        orders=ORDERS,
        pictures=PICTURES,
    )
