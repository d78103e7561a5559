"""A checked search, with everything that later stages read."""

from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Shaped

from demjax.checks import UserError
from demjax.mesh import DATA_AXIS, data_mesh
from demjax.progress import ProgressLine
from demjax.search import inputs
from demjax.search.pair_size import numbers_per_pair
from demjax.search.score import Pair, Score, checked_score
from demjax.search.tiles import Rows, Size, Tiling, tiling

Queries: TypeAlias = Shaped[Array | np.ndarray, "q ..."]
Gallery: TypeAlias = Shaped[Array | np.ndarray, "g ..."]


class Problem(NamedTuple):
    """A checked search."""

    queries: Rows  # finite float32 [q, d], or [q, m, d] with m > 1; of a Pair any array
    gallery: Rows  # finite float32 [g, d]; of a Pair any array
    score: Score | Pair
    excluded: tuple[np.ndarray, ...]  # (the gallery row [q] that may not be a neighbour of the query,), or ()
    mesh: Mesh
    context: Any  # arrays that every tile needs: the frame of products, or the variables of a Pair
    size: Size
    progress: bool

    @property
    def vector_score(self) -> Score:
        """The score of a search that is by products of vectors."""
        assert isinstance(self.score, Score)
        return self.score

    @property
    def eligible(self) -> int:
        """How many gallery rows can be neighbours of a query at least."""
        return len(self.gallery) - len(self.excluded)

    def subset(self, which: np.ndarray) -> "Problem":
        """The same search for a part of the queries."""
        excluded = tuple(rows[which] for rows in self.excluded)
        return self._replace(queries=np.asarray(self.queries[which]), excluded=excluded)

    def tiling(self, results: int, by_queries: bool = False) -> Tiling:
        """The cut into tiles when so many results are kept for each query."""
        return tiling(len(self.queries), len(self.gallery), results, self.size, self.mesh, by_queries)

    def progress_line(self, label: str) -> ProgressLine | None:
        """A progress line, if wanted."""
        return ProgressLine(label) if self.progress else None


def checked_problem(
    queries: Any, gallery: Any, score: Any, mesh: Mesh | None, progress: bool, exclude_self: bool = False, k: Any = 1
) -> Problem:
    """Checks a search and reads both sides once; raises the UserErrors of `nearest`."""
    inputs.check(queries, gallery, score)
    score = checked_score(score, queries)
    inputs.check_k(k, len(gallery), exclude_self)
    if exclude_self and len(queries) != len(gallery):
        raise UserError(f"exclude_self with {len(queries)} queries and {len(gallery)} gallery rows: expected one set")
    excluded = (np.arange(len(queries), dtype=np.int32),) if exclude_self else ()
    mesh = mesh or data_mesh(jax.local_devices()[:1])
    if mesh.axis_names != (DATA_AXIS,):
        raise UserError(
            f"the mesh has axes {mesh.axis_names}: expected one, {DATA_AXIS!r}, as of demjax.mesh.data_mesh"
        )
    if isinstance(score, Pair):
        context = score.variables
        for name, x in (("queries", queries), ("gallery", gallery)):
            inputs.largest(name, x)  # refuses what is not finite
        q_bytes, g_bytes = (x[:1].size * x.dtype.itemsize for x in (queries, gallery))
        size = Size(1, numbers_per_pair(score, queries, gallery), q_bytes, g_bytes)
    else:
        if score.vectors == 1:
            queries = queries.reshape(len(queries), queries.shape[-1])
        context = inputs.shared_frame(queries, gallery, score.kind)
        kept = 2 * score.mean_of_best if 1 < score.mean_of_best < score.vectors else 0  # before and after each vector
        size = Size(score.vectors, score.vectors + kept)
    return Problem(queries, gallery, score, excluded, mesh, context, size, progress)
