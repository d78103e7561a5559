"""A search as it was asked: checked, with everything later stages read."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from demjax.checks import UserError
from demjax.mesh import DATA_AXIS, data_mesh
from demjax.progress import ProgressLine
from demjax.search import inputs
from demjax.search.tiles import Rows, Tiling, tiling


class Problem(NamedTuple):
    """A checked search.

    Attributes:
      queries, gallery: [q, d] or [q, m, d], and [g, d]; finite float32.
      score: one of `inputs.SCORES`.
      own: the gallery row [q] a query may not find, -1 for none; None where no query has one.
      mesh: the devices.
      frame: what is taken out of both sides.
      progress: whether to tell how far it is.
    """

    queries: Rows
    gallery: Rows
    score: str
    excluded: np.ndarray | None
    mesh: Mesh
    frame: inputs.Frame
    progress: bool

    @property
    def vectors(self) -> int:
        """Vectors per query; its score is the largest of theirs."""
        return 1 if self.queries.ndim == 2 else self.queries.shape[1]

    @property
    def eligible(self) -> int:
        """How many gallery rows a query can find at least."""
        return len(self.gallery) - (self.excluded is not None)

    def subset(self, which: np.ndarray) -> "Problem":
        """The same for some of the queries."""
        excluded = None if self.excluded is None else self.excluded[which]
        return self._replace(queries=np.asarray(self.queries[which]), excluded=excluded)

    def tiling(self, results: int, by_queries: bool = False) -> Tiling:
        """The cut into tiles when so many results are kept for each query."""
        return tiling(len(self.queries), len(self.gallery), results, self.vectors, self.mesh, by_queries)

    def progress_line(self, label: str) -> ProgressLine | None:
        """A progress line, if wanted."""
        return ProgressLine(label) if self.progress else None


def checked_problem(
    queries: Any,
    gallery: Any,
    score: str,
    mesh: Mesh | None,
    progress: bool,
    exclude_self: bool = False,
    k: Any = 1,
    vectors: bool = True,
) -> Problem:
    """Checks a search; `vectors` says whether several vectors per query are allowed.

    Raises:
      UserError: shapes, dtypes or k that do not fit, an empty side, NaN or infinity (with its row), an unknown score.
    """
    inputs.check(queries, gallery, score, vectors)
    inputs.check_k(k, len(gallery), exclude_self)
    if exclude_self and len(queries) != len(gallery):
        raise UserError(f"exclude_self with {len(queries)} queries and {len(gallery)} gallery rows: expected one set")
    excluded = np.arange(len(queries), dtype=np.int32) if exclude_self else None
    mesh = mesh or data_mesh(jax.local_devices()[:1])
    if mesh.axis_names != (DATA_AXIS,):
        raise UserError(
            f"the mesh has axes {mesh.axis_names}: expected one, {DATA_AXIS!r}, as of demjax.mesh.data_mesh"
        )
    return Problem(queries, gallery, score, excluded, mesh, inputs.shared_frame(queries, gallery, score), progress)
