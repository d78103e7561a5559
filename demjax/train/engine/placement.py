"""Where training rows are: on every device, shared out among them, or streamed in chunks from a file.

* replicated: every device holds all rows.
* sharded: every device holds its part of the rows, and fetches what a batch needs of the others' parts. The batches
  are those of replicated rows, number for number.
* streamed: chunks of rows go through the devices, the next one is read while one trains. A chunk is made of random
  blocks of neighbouring rows, new ones in every pass, and a batch holds rows of one chunk.

A column whose rows repeat those of a source (many captions of one image) is placed as the source, once, and the places
of the rows in it.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demjax.checks import UserError, choose
from demjax.data import Indexed, Rows
from demjax.mesh import DATA_AXIS, replicate
from demjax.progress import readable_bytes
from demjax.train.engine.memory import device_bytes

CHUNK_BYTES = 2**28
BLOCK_BYTES = 2**21  # of neighbouring rows: large enough to read a disk at its full speed
LEAST_BLOCKS = 16  # of a chunk: fewer would be hardly shuffled
REPLICATED_SHARE, SHARDED_SHARE = 0.25, 0.6  # of the memory of a device that rows may take
RESIDENT = "resident"  # replicated or sharded, whatever the memory
PLACEMENTS = dict.fromkeys(("auto", "replicated", "sharded", "streamed"))
CHUNK_ORDERS = 2**32 - 1  # folded into the key of a run: no epoch has this number, so chunks have keys of their own


class Gathered(NamedTuple):
    """A column on the devices whose row i is source[places[i]]; every device holds all places."""

    source: jax.Array
    places: jax.Array


class Placement(NamedTuple):
    """Where the rows are.

    Attributes:
      kind: `replicated`, `sharded` or `streamed`.
      n_rows: without the empty one at the end.
      row_bytes: of one row, when it is read for a chunk.
      total_bytes: of all rows once they are placed.
      chunk_blocks: streamed: blocks of a chunk at most; 0 else.
      block_rows: streamed: rows of a block.
    """

    kind: str
    n_rows: int
    row_bytes: int
    total_bytes: int
    chunk_blocks: int = 0
    block_rows: int = 0

    @property
    def chunks(self) -> int:
        """Of a pass over the rows."""
        return math.ceil(self._blocks / self.chunk_blocks) if self.chunk_blocks else 1

    @property
    def call_rows(self) -> int:
        """Rows that one compiled call sees; those of chunks with a block less are filled up with empty ones."""
        return math.ceil(self._blocks / self.chunks) * self.block_rows if self.chunk_blocks else self.n_rows

    @property
    def _blocks(self) -> int:
        return math.ceil(self.n_rows / self.block_rows)

    @property
    def identity(self) -> str:
        """What a resumed run must agree on: the composition of its batches."""
        return f"{self.chunk_blocks} x {self.block_rows} rows" if self.chunk_blocks else "all rows"

    def rows_of(self, key: jax.Array, call: int) -> np.ndarray:
        """Row ids [call_rows] of the chunk of compiled call number `call` from 0; n_rows, the empty row, at gaps."""
        number, chunk = divmod(call, self.chunks)
        chunk_key = jax.random.fold_in(jax.random.fold_in(key, np.uint32(CHUNK_ORDERS)), number)
        order = jax.random.permutation(chunk_key, self._blocks)
        first, last = (self._blocks * c // self.chunks for c in (chunk, chunk + 1))
        blocks = np.asarray(order)[first:last]
        ids = (blocks[:, None].astype(np.int64) * self.block_rows + np.arange(self.block_rows)).reshape(-1)
        ids = np.minimum(ids, self.n_rows)  # the last block may be short
        return np.pad(ids, (0, self.call_rows - len(ids)), constant_values=self.n_rows)

    def summary(self, mesh: Mesh) -> str:
        """What was decided and what it means for the batches, in one line."""
        size = f"{self.n_rows:,} rows, {readable_bytes(self.total_bytes)}"
        if self.kind == "replicated":
            return f"{size}, on every device; batches are cut from one permutation of all rows"
        if self.kind == "sharded":
            share = readable_bytes(self.total_bytes / mesh.size)
            return f"{size}, {share} on each of {mesh.size} devices; batches as if every device held all"
        chunk = readable_bytes(self.call_rows * self.row_bytes)
        return (
            f"{size}, streamed: {self.chunks} chunks of {self.call_rows:,} rows ({chunk}); a batch holds rows of one "
            f"chunk, a chunk {self.call_rows // self.block_rows} random blocks of {self.block_rows} neighbouring rows"
        )


def choose_placement(kind: str, rows: Rows, fields: tuple[str, ...], mesh: Mesh, chunk_rows: int) -> Placement:
    """Where rows go; `auto` by their size and the memory of a device.

    Args:
      kind: a key of PLACEMENTS, or RESIDENT.
      rows, fields: which of their columns the task reads.
      mesh: the devices.
      chunk_rows: of a streamed chunk, rounded up to whole blocks; 0: CHUNK_BYTES of them. Never by the machine, so that
        a run can go on on another one.

    Raises:
      UserError: an unknown kind; columns of different lengths; rows that cannot be shared out or streamed as asked.
    """
    if kind != RESIDENT:
        choose("train.placement", kind, PLACEMENTS)
    if missing := [name for name in fields if name not in rows.columns]:
        raise UserError(f"fields of the task name {missing[0]!r}: the rows have {', '.join(rows.columns)}")
    columns = {name: rows.columns[name] for name in fields}
    check_columns(columns, rows.n_rows)
    row_bytes = sum(_row_bytes(x) for x in columns.values())
    total_bytes = sum(_placed_bytes(x, rows.n_rows) for x in columns.values())
    if kind in ("auto", RESIDENT):
        memory = device_bytes()
        if kind == "auto" and total_bytes > SHARDED_SHARE * memory * mesh.size and rows.streams:
            kind = "streamed"
        else:
            kind = "sharded" if mesh.size > 1 and total_bytes > REPLICATED_SHARE * memory else "replicated"
    if kind != "streamed":
        return Placement(kind, rows.n_rows, row_bytes, total_bytes)
    chunk = min(chunk_rows or max(1, CHUNK_BYTES // row_bytes), rows.n_rows)
    block = min(max(1, BLOCK_BYTES // row_bytes), math.ceil(chunk / LEAST_BLOCKS))
    blocks = min(math.ceil(chunk / block), math.ceil(rows.n_rows / block))
    return Placement(kind, rows.n_rows, row_bytes, total_bytes, blocks, block)


def check_columns(columns: Mapping[str, Any], n_rows: int) -> None:
    """Raises a UserError unless every column has the rows and an empty one, of a type that devices have."""
    for name, column in columns.items():
        if len(column) != n_rows + 1:
            raise UserError(f"column {name!r} has {len(column)} rows: expected {n_rows} and an empty one at the end")
        if np.dtype(column.dtype).itemsize > 4:
            raise UserError(
                f"column {name!r} is {column.dtype}: expected at most 32 bits, which is what devices compute in"
            )


def _row_bytes(column: Any) -> int:
    return int(np.prod(column.shape[1:])) * np.dtype(column.dtype).itemsize


def _placed_bytes(column: Any, n_rows: int) -> int:
    return column.nbytes if isinstance(column, Indexed) else n_rows * _row_bytes(column)


def check_stream(rows: Rows, passes: int) -> None:
    """Raises a UserError for what cannot be streamed."""
    if not rows.streams:
        raise UserError(
            f"train.placement=streamed with rows that are {rows.noun} or drawn by group: expected examples, one row an "
            "image, or train.placement=sharded"
        )
    if passes != 1:
        raise UserError(
            f"train.placement=streamed with train.passes_per_epoch={passes}: expected 1, a pass has many calls"
        )


def place_rows(rows: Rows, fields: tuple[str, ...], mesh: Mesh, shared: bool = False) -> dict[str, Any]:
    """The columns that the task reads, on every device of the mesh or, `shared`, in equal parts.

    A column that repeats the rows of a source becomes `Gathered`.
    """
    placed: dict[str, Any] = {}
    for name in fields:
        column = rows.columns[name]
        if isinstance(column, Indexed) and column.repeats:
            source, places = column.compact()
            placed[name] = Gathered(_place(source, mesh, shared), replicate(places, mesh))
        else:
            placed[name] = _place(column, mesh, shared)
    return placed


def _place(column: Any, mesh: Mesh, shared: bool) -> jax.Array:
    if not shared:
        return replicate(np.asarray(column), mesh)
    return spread_rows(column, np.arange(len(column) - 1), mesh)


def spread_rows(column: Any, ids: np.ndarray, mesh: Mesh) -> jax.Array:
    """column[ids] shared out among the devices, empty rows at the end; a process reads what its own devices hold."""
    ids = np.pad(ids, (0, -(len(ids) + 1) % mesh.size + 1), constant_values=len(column) - 1)
    sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    return jax.make_array_from_callback((len(ids), *column.shape[1:]), sharding, lambda at: column[ids[at[0]]])  # type: ignore[index]


def column_specs(rows: Rows, fields: tuple[str, ...]) -> dict[str, Any]:
    """How `place_rows(..., shared=True)` has placed each column, for shard_map."""
    shared, everywhere = PartitionSpec(DATA_AXIS), PartitionSpec()

    def spec(column: Any) -> Any:
        return Gathered(shared, everywhere) if isinstance(column, Indexed) and column.repeats else shared  # type: ignore[arg-type]

    return {name: spec(rows.columns[name]) for name in fields}


def take(rows: Mapping[str, Any], ids: jax.Array) -> dict[str, Any]:
    """This device's part of a batch, where it holds all rows; numbered as they stand, unless they say "row"."""

    def pick(x: Any) -> jax.Array:
        return x.source[x.places[ids]] if isinstance(x, Gathered) else x[ids]

    return {"row": ids} | {name: pick(x) for name, x in rows.items()}


def take_shared(rows: Mapping[str, Any], ids: jax.Array) -> dict[str, Any]:
    """The same where every device holds a part of the rows, and `ids` [b] are those of the whole batch.

    Each gives what it has of the batch and gets its part of it: one reduce-scatter of a batch, exact, because all but
    one of the numbers added are 0.
    """
    device, n = jax.lax.axis_index(DATA_AXIS), len(ids) // jax.lax.axis_size(DATA_AXIS)

    def exchange(x: jax.Array, ids: jax.Array) -> jax.Array:
        at = ids - device * len(x)
        here = (at >= 0) & (at < len(x))
        part = jnp.where(here.reshape(-1, *[1] * (x.ndim - 1)), x[jnp.clip(at, 0, len(x) - 1)], jnp.zeros((), x.dtype))
        return jax.lax.psum_scatter(part, DATA_AXIS, tiled=True)

    def pick(x: Any) -> jax.Array:
        return exchange(x.source, x.places[ids]) if isinstance(x, Gathered) else exchange(x, ids)

    local = jax.lax.dynamic_slice_in_dim(ids, device * n, n)
    return {"row": local} | {name: pick(x) for name, x in rows.items()}
