"""How a search is cut into tiles, and how the tiles travel to the devices.

A tile is a block of queries against a block of the gallery. Its shape follows from the sizes of the problem
alone, never from the number of devices, so that every score is computed by the same arithmetic wherever it is
computed: ids, counts and ranks are the same bit for bit on one device and on many. Devices share the tiles out:
either each takes its own queries and all see the same gallery tile, or, with few queries, each takes its own
gallery tile.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demjax.mesh import DATA_AXIS, place

QUERY_ROWS = 1024  # vectors of a query tile at most
GALLERY_ROWS = 15 * 1024  # rows of a gallery tile at most
LARGE_K = 64  # above it tiles have rows four times as long: top_k then has less to do
TILE_SCORES = 25 * 2**18  # 25 MiB: glibc maps memory of 32 MiB and more anew each time, which halves the speed
ACCELERATED = 4  # times the rows and 16 times the scores on a GPU or TPU, where launches cost and memory is reused
RESULT_BYTES = 2**27  # of the running result of one query tile; large k means fewer queries a tile
CHUNK_BYTES = 2**28  # of gallery kept ready on all devices of a process together
ROW_BYTES = 2**26  # of the rows of one side of a tile, where rows are of any size
LEAST_QUERIES = 32  # vectors of a query tile, where large scores leave room for them: a gallery row is read for each

Rows = np.ndarray | jax.Array


class Size(NamedTuple):
    """What one query and one gallery row take of a tile."""

    vectors: int = 1  # rows of the product per query
    numbers: int = 1  # float32 numbers per query and gallery row that are in memory at once
    query_bytes: int = 0  # of one row; 0 where the number of rows alone is limited
    gallery_bytes: int = 0


class Tiling(NamedTuple):
    """The cut of a search."""

    queries: int  # rows of each side
    gallery: int
    q_rows: int  # rows of a tile
    g_rows: int
    by_queries: bool  # devices differ in their queries (else in their part of the gallery)
    mesh: Mesh

    @property
    def q_block(self) -> int:
        """Rows of queries that all devices together take at once."""
        return self.q_rows * (self.mesh.size if self.by_queries else 1)

    @property
    def g_block(self) -> int:
        """Rows of the gallery that all devices together take at once."""
        return self.g_rows * (1 if self.by_queries else self.mesh.size)

    @property
    def q_spec(self) -> PartitionSpec:
        """Where queries and their results live."""
        return PartitionSpec(DATA_AXIS) if self.by_queries else PartitionSpec()

    @property
    def g_spec(self) -> PartitionSpec:
        """Where gallery rows live."""
        return PartitionSpec() if self.by_queries else PartitionSpec(DATA_AXIS)

    def q_starts(self) -> range:
        """First row of each block of queries."""
        return range(0, self.queries, self.q_block)

    def g_chunks(self, row_bytes: int) -> Iterator[range]:
        """First rows of the gallery blocks, in chunks that may stay on the devices together."""
        held = self.g_rows * row_bytes * self.mesh.size
        per_chunk = max(1, CHUNK_BYTES // held)
        starts = range(0, self.gallery, self.g_block)
        for i in range(0, len(starts), per_chunk):
            yield starts[i : i + per_chunk]


def tiling(queries: int, gallery: int, k: int, size: Size, mesh: Mesh, by_queries: bool = False) -> Tiling:
    """Cuts `queries` x `gallery` rows for k results each. A tile holds TILE_SCORES numbers, or those of a single pair.

    With `by_queries` devices always differ in their queries: then even sums of floats are the same on any number of
    devices, because each sees the tiles of the gallery in order.
    """
    faster = 1 if mesh.devices.flat[0].platform == "cpu" else ACCELERATED
    longer = 4 if k > LARGE_K else 1
    scores, row_bytes = faster**2 * TILE_SCORES // size.numbers, faster**2 * ROW_BYTES
    g_most = min(faster * longer * GALLERY_ROWS, scores // max(1, LEAST_QUERIES // size.vectors))
    g_most = min(g_most, row_bytes // max(1, size.gallery_bytes))
    g_rows = _even(gallery, max(1, g_most), 512 if gallery > 8192 else 128)
    q_most = min(faster * QUERY_ROWS // size.vectors, scores // g_rows, RESULT_BYTES // (16 * k))
    q_most = min(q_most, row_bytes // max(1, size.query_bytes))
    q_rows = _even(queries, max(1, q_most), 64 if queries > 512 else 8)
    q_tiles, g_tiles = math.ceil(queries / q_rows), math.ceil(gallery / g_rows)
    rounds_by_queries = math.ceil(q_tiles / mesh.size) * g_tiles
    rounds_by_gallery = q_tiles * math.ceil(g_tiles / mesh.size)
    return Tiling(queries, gallery, q_rows, g_rows, by_queries or rounds_by_queries <= rounds_by_gallery, mesh)


def _even(n: int, most: int, step: int) -> int:
    """Rows of a tile when n rows are cut into equal tiles of at most `most`; few different shapes to compile."""
    rows = math.ceil(n / math.ceil(n / most))
    if rows <= step:
        return min(1 << (rows - 1).bit_length(), max(most, 1))
    return min(math.ceil(rows / step) * step, most)


def put(x: Rows, start: int, rows: int, mesh: Mesh, spec: PartitionSpec) -> jax.Array:
    """Rows start to start + rows on the devices. Reads no more of a memory map than that.

    After the end, zeros where the devices hold different rows; where all hold the same, fewer rows.
    """
    part = x[start : start + rows]
    missing = rows - part.shape[0]
    if missing and spec != PartitionSpec() and mesh.size > 1:
        xp: Any = np if isinstance(part, np.ndarray) else jnp
        part = xp.pad(part, ((0, missing),) + ((0, 0),) * (part.ndim - 1))
    return place(part, NamedSharding(mesh, spec))


def pad(x: jax.Array, rows: int) -> jax.Array:
    """x with zeros after its last row, up to `rows`."""
    return jnp.pad(x, ((0, rows - x.shape[0]),) + ((0, 0),) * (x.ndim - 1))
