"""A toy of multi-label zero-shot learning: images have several labels, some of which nobody has trained on."""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.data import Rows, Spec
from demjax.protocols import Column, Protocol, Result
from demjax.search import Score
from demjax.tasks import Task, Variables


class LabelSet:
    """Signs [n, c] in {-1, 1}; images x = signs @ vectors + noise; labels with word vectors; the last 4 are unseen."""

    version, sources, bayes, training = "toy", {"features": "made", "semantics": "made"}, {}, "train"

    def __init__(self, folder="", labels=12, n_unseen=4, view=""):
        rng = np.random.default_rng(0)
        self.name, self.is_validation_view = "toy labels", bool(view)
        self.version += view
        self.vectors = rng.normal(size=(12, 6)).astype(np.float32)[:labels]
        signs = np.where(rng.random((160, 12)) < 0.3, 1, -1)[:, :labels]
        self.signs = signs.astype(np.int8)
        self.features = ((signs > 0) @ self.vectors + 0.1 * rng.normal(size=(160, 6))).astype(np.float32)
        self.unseen = np.arange(labels - n_unseen, labels)
        n_train = 80 if view else 120
        self.splits = {"train": np.arange(n_train), "test": np.arange(n_train, 120 if view else 160)}
        names = tuple(f"label{i}" for i in range(labels))
        columns = {"image": {"features": (6,)}, "class": {"semantics": (6,)}}
        seen = tuple(range(labels - n_unseen))
        self.spec = Spec(self.name, "LabelSet", columns, {}, names, seen, tuple(self.unseen.tolist()))
        self.fingerprints = {"features": str(self.features.sum()), "splits": f"{self.splits}"[:99]}

    def validation_view(self, fold=1):
        """No test image and no unseen label: three of the seen ones play them."""
        return LabelSet(labels=8, n_unseen=3, view="+val")

    def ids(self, side, split):
        return (
            self.splits[split] if side == "image" else np.arange(len(self.vectors)) if split == "all" else self.unseen
        )

    def items(self, side, ids, columns):
        of = {"image": {"features": self.features}, "class": {"semantics": self.vectors}}[side]
        return {name: of[name][ids] for name in columns}

    def summary(self):
        return f"toy: {self.signs.shape[0]} images, {self.signs.shape[1]} labels"


def _precision(embedder, options):
    """The share of right labels among the two nearest unseen ones; the mean over images."""
    data = embedder.dataset
    ids, _ = embedder.nearest("test", data.unseen, k=2)
    right = data.signs[data.splits["test"][:, None], ids] > 0
    return Result({"labels/precision@2": float(right.mean())}, {"by_rank": right.mean(axis=0).tolist()})


LABELS = Protocol(
    name="labels",
    columns=(Column("labels/precision@2", "P@2", progress=True),),
    evaluate=_precision,
    objectives=("labels/precision@2",),
    draw=lambda figure, metrics, details: figure.subplots().bar([1, 2], details["by_rank"]),
)


def _rows(data):
    ids = data.splits["train"]
    columns = {"features": data.features[ids], "signs": data.signs[ids][:, : len(data.spec.seen)].astype(np.float32)}
    columns["weight"] = np.ones(len(ids), np.float32)
    return Rows({name: np.concatenate([x, np.zeros_like(x[:1])]) for name, x in columns.items()}, streams=True)


def multilabel(spec: Spec, *, margin: float = 1.0) -> Task:
    """Images to the word space: a hinge on the sign of every seen label."""

    def embed(variables, items):
        return items["features"] @ variables.params

    def loss(variables, batch, key, axis):
        scores = embed(variables, batch) @ batch["semantics"].T
        wrong = jnp.maximum(0.0, batch["margin"] - batch["signs"] * scores).mean(axis=1)
        return jnp.sum(batch["weight"] * wrong), jnp.sum(batch["weight"]), {}, variables.state

    n = spec.n_features, spec.n_semantics
    return Task(
        name="multilabel",
        score=Score("dot"),
        embed={"image": embed, "class": lambda variables, items: items["semantics"]},
        protocols=(LABELS,),
        init=lambda key: Variables(0.1 * jax.random.normal(key, n)),
        loss=loss,
        fields=("features", "signs", "weight"),
        batchings={"examples": _rows},
        constants=lambda data: {"semantics": data.vectors[: len(spec.seen)], "margin": np.float32(margin)},
        sweepable=("margin",),
    )
