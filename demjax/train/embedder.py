"""A data set seen through a trained task: every side embedded once, in blocks, and searched."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demjax import distributed, hubness, search
from demjax.checks import UserError
from demjax.data import Dataset
from demjax.hubness import Correction
from demjax.mesh import local_mesh, localise, replicate, spread
from demjax.search import Pair, Score
from demjax.tasks import Task, Variables

IMAGES, SENTENCES = 4096, 256  # embedded at once; sentences take 400 MB inside a character network
KEPT_BYTES = 2**30  # of the items of a split: a larger one is embedded anew, block by block, for every search


class TaskEmbedder:
    """What protocols search with: `demjax.protocols.Embedder`, which says what each public method does."""

    def __init__(
        self,
        task: Task,
        variables: Variables,
        dataset: Dataset,
        *,
        query_batch: int = IMAGES,
        correction: str = "",
        mesh: Mesh | None = None,
        stop_point: Callable[[], None] = lambda: None,
    ):
        """
        Args:
          task, variables, dataset: what is embedded, and how.
          query_batch: images embedded at once.
          correction: a hub correction of `demjax.hubness` that `corrected()` applies; its bank is the images that are
            trained on: inductive.
          mesh: all devices, of all processes; None: one device.
          stop_point: called between blocks of work, in all processes; may raise to end the evaluation.
        """
        variables = localise(variables)
        self._local = mesh and local_mesh(mesh)
        self._variables = replicate(variables, self._local) if self._local else variables
        self.task, self.dataset, self.stop_point = task, dataset, stop_point
        self.score: Score = task.score
        self.is_corrected = False
        self._mesh, self._query_batch, self._correction = mesh, query_batch, correction
        self._score = Pair(task.pair, self._variables) if task.pair else task.score
        self._compiled = {side: jax.jit(f) for side, f in task.embed.items()}  # once for all members of a population
        self._blocks: dict[tuple[str, str, int], jax.Array] = {}
        self._wholes: dict[tuple[str, str], np.ndarray] = {}
        self._fitted: dict[tuple, Correction] = {}

    def corrected(self) -> "TaskEmbedder":
        """The same, with what is embedded so far, but searched with the hub correction."""
        corrected = copy.copy(self)
        corrected.is_corrected = True
        return corrected

    @property
    def can_embed(self) -> tuple[str, ...]:
        return tuple(self.task.embed)

    def embed(self, side: str, split: str) -> np.ndarray:
        if (side, split) not in self._wholes:
            self._wholes[side, split] = self._embed(side, split)
        return self._wholes[side, split]

    def _embed(self, side: str, split: str) -> np.ndarray:
        if side == "class":
            every = self._classes
            return every if split == "all" else every[self.dataset.ids("class", split)]
        first = {name: np.asarray(x) for name, x in self._items(side, self.dataset.ids(side, split)[:1]).items()}
        like = jax.eval_shape(self._compiled[side], self._variables, first)
        (whole,) = self.over(side, split, lambda x, part: (np.asarray(x),), np.zeros((0, *like.shape[1:]), np.float32))
        return whole

    @cached_property
    def _classes(self) -> np.ndarray:
        """All classes [c, d]: embedded as the task does it, else as the means of their sentences."""
        if "class" not in self.task.embed:
            return np.asarray(self._means_of_sentences())
        ids = self.dataset.ids("class", "all")
        items = self._items("class", ids)
        return np.asarray(self.task.embed["class"](self._variables, items))

    def _means_of_sentences(self) -> jax.Array:
        """[c, d], sums in float32, one block after the other; the processes share the blocks."""
        ids = self.dataset.ids("text", "all")
        label = self.dataset.items("text", ids, ("label",))["label"]
        n_classes, size = len(self.dataset.ids("class", "all")), min(SENTENCES, len(ids))

        def block(i: int) -> jax.Array:
            part = ids[i * size : (i + 1) * size]
            return self._run("text", np.concatenate([part, np.repeat(part[-1:], size - len(part))]))

        total: Any = jnp.float32(0.0)
        for i, embedded in enumerate(distributed.share_blocks(math.ceil(len(ids) / size), block)):
            self.stop_point()
            of_class = label[i * size : (i + 1) * size]
            block_rows = jnp.asarray(embedded)[: len(of_class)]
            total += jnp.zeros((n_classes, block_rows.shape[1])).at[of_class].add(block_rows)
        return total / np.bincount(label, minlength=n_classes)[:, None].astype(np.float32)

    def _items(self, side: str, ids: np.ndarray) -> dict[str, Any]:
        items = self.dataset.items(side, ids, self.task.columns(side))
        tokens = self.task.tokens
        return {name: tokens[name](x) if name in tokens and side != "class" else x for name, x in items.items()}

    def _run(self, side: str, ids: np.ndarray) -> jax.Array:
        """Items embedded by the compiled side, shared out among the devices of this process."""
        items = {name: spread(np.asarray(x), self._variables) for name, x in self._items(side, ids).items()}
        return self._compiled[side](self._variables, items)[: len(ids)]

    def block(self, side: str, split: str, part: slice) -> jax.Array:
        """Items of a split, embedded; those of a small split are embedded once and stay."""
        key = side, split, part.start
        if key in self._blocks:
            return self._blocks[key]
        ids = self.dataset.ids(side, split)
        block = self._run(side, ids[part])
        if block.nbytes * (len(ids) / len(block)) <= KEPT_BYTES:
            self._blocks[key] = block
        return block

    def over(self, side: str, split: str, work: Callable, *like: np.ndarray) -> tuple[np.ndarray, ...]:
        n, size = len(self.dataset.ids(side, split)), SENTENCES if side == "text" else self._query_batch

        def one(part: slice) -> tuple[np.ndarray, ...]:
            return work(self.block(side, split, part), part)

        return distributed.share_rows(n, size, one, like, self.stop_point)

    def nearest(
        self,
        split: str,
        candidates: np.ndarray | None = None,
        k: int = 1,
        *,
        queries: str = "image",
        gallery: tuple[str, str] = ("class", "all"),
    ) -> tuple[np.ndarray, np.ndarray]:
        correction = self._fit(queries, split, gallery) if self.is_corrected else None
        items = self.embed(*gallery)
        items = items if candidates is None else items[candidates]

        def find(block: jax.Array, part: slice) -> tuple[np.ndarray, np.ndarray]:
            local = correction and _part_of(correction, part, candidates)
            best = search.nearest(block, items, k, self._score, self._local, correction=local)
            return np.asarray(best.ids), np.asarray(best.scores)

        like = np.zeros((0, k), np.int32), np.zeros((0, k), np.float32)
        ids, scores = self.over(queries, split, find, *like)
        return (ids if candidates is None else candidates[ids]), scores

    def ranks(
        self,
        split: str,
        positives: np.ndarray,
        candidates: np.ndarray | None = None,
        *,
        ties: str = "lowest_id",
        queries: str = "image",
        gallery: tuple[str, str] = ("class", "all"),
    ) -> np.ndarray:
        if self.is_corrected:
            raise UserError("ranks with a hub correction: only nearest items are corrected")
        items = np.asarray(self.embed(*gallery))
        if candidates is not None:
            items, positives = items[candidates], _places(positives, candidates)

        def rank(block: jax.Array, part: slice) -> tuple[np.ndarray]:
            return (search.ranks(np.asarray(block), items, positives[part], self._score, self._local, ties=ties),)

        (ranks,) = self.over(queries, split, rank, np.zeros(0, np.int32))
        return ranks

    def search(self, queries: Any, gallery: Any, k: int) -> search.Neighbours:
        return search.nearest(queries, gallery, k, self._score, self._mesh)

    def _fit(self, side: str, split: str, gallery: tuple[str, str]) -> Correction:
        """Fitted on the whole gallery with the images that are trained on as the bank: no answer knows another query.

        All processes search together here; elsewhere each searches other queries.
        """
        key = side, split, gallery
        if key not in self._fitted:
            bank = self.embed(side, self.dataset.training)
            self.stop_point()
            self._fitted[key] = hubness.fit(
                self._correction,
                self.embed(side, split),
                self.embed(*gallery),
                bank,
                score=self._score,
                mesh=self._mesh,
            )
        return self._fitted[key]

    def deviation(self) -> float:
        classes = self.embed("class", "all")

        def deviations(block: jax.Array, part: slice) -> tuple[np.ndarray]:
            one = block[:, 0] if block.ndim == 3 else block  # of several vectors any has the scale
            score = self._score if self.task.pair else self.score.kind
            return (np.asarray(search.moments(one, classes, score, mesh=self._local)[1]),)

        if not hasattr(self, "_deviation"):
            (std,) = self.over("image", self.dataset.training, deviations, np.zeros(0, np.float32))
            self._deviation = math.sqrt(float(np.mean(np.square(std, dtype=np.float64)))) or 1.0
        return self._deviation


def embed_sentences(task: Task, variables: Variables, sentences: Sequence[str]) -> Iterator[np.ndarray]:
    """[.., d], block after block: any sentences, by the text side of a task that reads nothing but them."""
    embed, tokens = jax.jit(task.embed["text"]), task.tokens["sentences"]
    size = min(SENTENCES, len(sentences))
    for start in range(0, len(sentences), size):
        block = tokens(sentences[start : start + size])
        padded = np.concatenate([block, np.repeat(block[-1:], size - len(block), axis=0)])
        yield np.asarray(embed(variables, {"sentences": padded}))[: len(block)]


def _part_of(correction: Correction, part: slice, candidates: np.ndarray | None) -> Correction:
    """The statistics of the queries in `part` and of the candidates."""
    gallery = correction.gallery if candidates is None else tuple(x[candidates] for x in correction.gallery)
    return correction._replace(query=tuple(x[part] for x in correction.query), gallery=gallery)


def _places(ids: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Where gallery items stand among the candidates, -1 for none."""
    return np.where(ids < 0, -1, np.searchsorted(candidates, ids))
