"""A toy of image-text retrieval: two captions an image, hardest negatives of the global batch, a running mean."""

import jax
import jax.numpy as jnp
import numpy as np

from demjax.data import Indexed, Rows, Spec
from demjax.protocols import Column, Protocol, Result
from demjax.search import Score
from demjax.tasks import Groups, Task, Variables


class CaptionSet:
    """Two captions an image, as vectors; splits are over images, and captions travel with theirs."""

    version, sources, bayes, training = "toy", {"features": "made", "semantics": "made"}, {}, "train"

    def __init__(self, folder="", n=90, view=""):
        rng = np.random.default_rng(1)
        hidden, to_image, to_text = (rng.normal(size=s) for s in ((90, 4), (4, 7), (4, 5)))
        self.features = (hidden @ to_image + 0.05 * rng.normal(size=(90, 7))).astype(np.float32)[:n]
        self.image_of_caption = np.repeat(np.arange(n), 2)
        captions = hidden[self.image_of_caption] @ to_text
        self.captions = (captions + 0.05 * rng.normal(size=captions.shape)).astype(np.float32)
        self.name, self.is_validation_view = "toy captions", bool(view)
        self.version += view
        self.splits = {"train": np.arange(n - 30), "test": np.arange(n - 30, n)}
        self.spec = Spec(
            self.name, "CaptionSet", {"image": {"features": (7,)}, "text": {"words": (5,)}}, {}, (), (), ()
        )
        self.fingerprints = {"features": str(self.features.sum()), "splits": f"{n}"}

    def validation_view(self, fold=1):
        """The test images gone; the last of the others play them."""
        return CaptionSet(n=60, view="+val")

    def ids(self, side, split):
        images = self.splits[split]
        return images if side == "image" else np.flatnonzero(np.isin(self.image_of_caption, images))

    def items(self, side, ids, columns):
        of = {"image": {"features": self.features}, "text": {"words": self.captions}}[side]
        return {name: of[name][ids] for name in columns}

    def summary(self):
        return f"toy: {len(self.features)} images, {len(self.captions)} captions"


def _recall(embedder, options):
    """Recall@1 and Recall@5 of images by captions, by counting ranks."""
    data = embedder.dataset
    images = data.ids("image", "test")
    right = np.searchsorted(images, data.image_of_caption[data.ids("text", "test")])[:, None]
    ranks = embedder.ranks("test", right, queries="text", gallery=("image", "test"))
    return Result({f"recall/{k}": float((ranks <= k).mean()) for k in (1, 5)}, {"ranks": ranks.tolist()})


RECALL = Protocol(
    name="recall",
    columns=(Column("recall/1", "R@1", progress=True), Column("recall/5", "R@5")),
    evaluate=_recall,
    objectives=("recall/1", "recall/5"),
    corrects=False,
    lines=lambda metrics, details: [f"median rank {np.median(details['ranks']):.0f}"],
    draw=lambda figure, metrics, details: figure.subplots().hist(details["ranks"]),
)


def _rows(data):
    """A row is a caption; its image stands once for both of them."""
    ids = data.ids("text", "train")
    words = np.concatenate([data.captions[ids], np.zeros((1, 5), np.float32)])
    weight = np.append(np.ones(len(ids), np.float32), np.float32(0))
    columns = {"features": Indexed(data.features, data.image_of_caption[ids]), "words": words, "weight": weight}
    return Rows(columns, "captions", np.repeat(np.arange(len(ids) // 2), 2).astype(np.int32))


def retrieval(spec: Spec, *, width: int = 4, margin: float = 0.2, text_from: int = 0) -> Task:
    """Both sides into one space; the hardest negative of the whole batch (Faghri et al. 2018, eq. 6)."""

    def image(variables, items):
        x = (items["features"] - variables.state["mean"][None]) @ variables.params["image"]
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def text(variables, items):
        x = items["words"] @ variables.params["text"]
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def loss(variables, batch, key, axis):
        total = jax.lax.psum(jnp.sum(batch["weight"][:, None] * batch["features"], axis=0), axis)
        count = jnp.maximum(jax.lax.psum(jnp.sum(batch["weight"]), axis), 1)
        state = {"mean": 0.9 * variables.state["mean"] + 0.1 * total / count}
        gap = 1 - batch["weight"][:, None]  # empty rows: no vector of length 0 may be normalised
        v, t = (side(variables, {name: batch[name] + gap for name in ("features", "words")}) for side in (image, text))
        others, there = jax.lax.all_gather((v, batch["weight"]), axis, tiled=True)
        scores = jnp.where(there[None] > 0, t @ others.T, -2.0)
        truth = jax.lax.axis_index(axis) * len(t) + jnp.arange(len(t))
        right = jnp.take_along_axis(scores, truth[:, None], axis=1)[:, 0]
        hardest = jnp.where(jnp.arange(len(there))[None] == truth[:, None], -2.0, scores).max(axis=1)
        wrong = jnp.maximum(0.0, batch["margin"] + hardest - right)
        return jnp.sum(batch["weight"] * wrong), jnp.sum(batch["weight"]), {}, state

    def init(key):
        keys = jax.random.split(key)
        params = {"image": jax.random.normal(keys[0], (7, width)), "text": jax.random.normal(keys[1], (5, width))}
        return Variables(params, {"mean": jnp.zeros(7)})

    return Task(
        name="retrieval",
        score=Score("dot"),
        embed={"image": image, "text": text},
        reads={"text": ("words",)},
        protocols=(RECALL,),
        init=init,
        loss=loss,
        fields=("features", "words", "weight"),
        batchings={"pairs": _rows},
        constants=lambda data: {"margin": np.float32(margin)},
        sweepable=("margin",),
        groups=Groups(lambda params: {name: name for name in params}, start={"text": text_from}),
    )
