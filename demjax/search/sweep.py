"""All tiles of a search, once each, on all devices: gallery chunks outside, blocks of queries inside."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from demjax.mesh import DATA_AXIS, localise, replicate
from demjax.search.operands import Tile
from demjax.search.tiles import Rows, Tiling, pad, put

RESIDENT_BYTES = 2**28  # of queries kept ready between chunks of the gallery; more are prepared again
PREPARED_ROWS = 512  # of the gallery at once
REPLICATED = PartitionSpec()

Progress = Callable[[int, int], None]


class Kernel(NamedTuple):
    """A function of local arrays and its static arguments, ((name, value), ...), both hashable."""

    function: Callable
    static: tuple = ()


class Recipe(NamedTuple):
    """What a sweep does with tiles. All three run on one device's share; at module level, so that jit finds them again.

    Attributes:
      queries: (rows, fields, context) -> what a step needs of a query tile.
      gallery: (rows, fields, valid, context) -> what it needs of a gallery tile; padding is not valid.
      step: (Tile, carry or None) -> carry, one leading row per query.
    """

    queries: Kernel
    gallery: Kernel
    step: Kernel


@lru_cache(maxsize=256)
def _mapped(kernel: Kernel, mesh: Mesh, in_specs: tuple, out_specs: Any) -> Callable:
    local = partial(kernel.function, **dict(kernel.static))
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


def _first(start: jax.Array, rows: int, split: bool) -> jax.Array:
    """Number of the first gallery row that this device holds of the block that starts at `start`."""
    return start + jax.lax.axis_index(DATA_AXIS) * rows if split else start


def _gallery_tile(
    sides: tuple, start: jax.Array, context: Any, *, kernel: Kernel, rows: int, split: bool, total: int
) -> Any:
    sides = tuple(pad(x, rows) for x in sides)
    valid = _first(start, rows, split) + jnp.arange(rows) < total

    def prepare(part: tuple) -> Any:
        rows_of_part, *fields, valid_part = part
        return kernel.function(rows_of_part, tuple(fields), valid_part, context, **dict(kernel.static))

    if rows % PREPARED_ROWS:
        return prepare((*sides, valid))
    # In parts that stay in the cache: whole, every intermediate array would be written to memory and read again.
    parts = jax.tree.map(lambda x: x.reshape(-1, PREPARED_ROWS, *x.shape[1:]), (*sides, valid))
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), jax.lax.map(prepare, parts))


def _query_tile(sides: tuple, context: Any, *, kernel: Kernel, rows: int) -> Any:
    sides = tuple(pad(x, rows) for x in sides)
    return kernel.function(sides[0], sides[1:], context, **dict(kernel.static))


def _step(q: Any, g: Any, start: jax.Array, carry: Any, context: Any, *, kernel: Kernel, rows: int, split: bool) -> Any:
    return kernel.function(Tile(q, g, context, _first(start, rows, split)), carry, **dict(kernel.static))


def sweep(
    cut: Tiling,
    queries: tuple[Rows, ...],
    gallery: tuple[Rows, ...],
    recipe: Recipe,
    context: Any,
    progress: Progress | None = None,
    needed: np.ndarray | None = None,
) -> list[Any]:
    """Runs `recipe` over every pair of tiles.

    Args:
      queries, gallery: the rows and, beside them, any fields with one row each.
      context: arrays that all three need, the same on every device.
      progress: called with (tiles done, tiles in all).
      needed: [query blocks, gallery blocks], False for pairs to leave out; every query block needs one.

    Returns:
      The carry of each block of queries. Its leading axis is that of the block's queries or, if the devices have
      different parts of the gallery, it holds these once per device: `merge` them.
    """
    mesh, split = cut.mesh, PartitionSpec(DATA_AXIS)
    context = replicate(context, mesh)
    tile_rows = (("rows", cut.g_rows), ("split", not cut.by_queries))
    g_kernel = Kernel(_gallery_tile, (("kernel", recipe.gallery), *tile_rows, ("total", cut.gallery)))
    prepare_gallery = _mapped(g_kernel, mesh, (cut.g_spec, REPLICATED, REPLICATED), cut.g_spec)
    q_kernel = Kernel(_query_tile, (("kernel", recipe.queries), ("rows", cut.q_rows)))
    prepare_queries = _mapped(q_kernel, mesh, (cut.q_spec, REPLICATED), cut.q_spec)
    s_kernel = Kernel(_step, (("kernel", recipe.step), *tile_rows))
    step = _mapped(s_kernel, mesh, (cut.q_spec, cut.g_spec, REPLICATED, split, REPLICATED), split)

    def tile(sides: tuple[Rows, ...], start: int, rows: int, spec: PartitionSpec) -> tuple[jax.Array, ...]:
        return tuple(put(x, start, rows, mesh, spec) for x in sides)

    starts = cut.q_starts()
    keep = sum(x.size * x.dtype.itemsize for x in queries) * (1 if cut.by_queries else mesh.size) <= RESIDENT_BYTES
    resident: dict[int, Any] = {}
    carries: list[Any] = [None] * len(starts)
    done, total = 0, len(starts) * len(range(0, cut.gallery, cut.g_block))
    for chunk in cut.g_chunks(sum(x[:1].size * x.dtype.itemsize for x in gallery)):
        tiles = [
            (np.int32(g0), prepare_gallery(tile(gallery, g0, cut.g_block, cut.g_spec), np.int32(g0), context))
            for g0 in chunk
        ]
        for i, q0 in enumerate(starts):
            block = resident.get(i)
            if block is None:
                block = prepare_queries(tile(queries, q0, cut.q_block, cut.q_spec), context)
            if keep:
                resident[i] = block
            for g0, ready in tiles:
                if needed is None or needed[i, g0 // cut.g_block]:
                    carries[i] = step(block, ready, g0, carries[i], context)
            done += len(tiles)
            # The host must not run ahead: what it has put on the devices stays there until it is used.
            jax.block_until_ready(carries[i - 1] if i else carries[i])
            if progress:
                progress(done, total)
    return localise(carries)


def on_host(blocks: list[Any], queries: int) -> Any:
    """The results of all blocks of queries in a row, as NumPy arrays without the padding of the last block."""
    return jax.tree.map(lambda *parts: np.concatenate([np.asarray(x) for x in parts])[:queries], *blocks)


def merge_by_query(cut: Tiling, carry: Any) -> Any:
    """A carry as [devices that saw these queries, queries of the block, ...]."""
    seen_by = 1 if cut.by_queries else cut.mesh.size
    return jax.tree.map(lambda x: x.reshape(seen_by, -1, *x.shape[1:]), carry)
