"""How training rows come to the devices: held by each, shared out among them, or streamed in chunks from a file.

* replicated: every device holds all rows.
* sharded: every device holds its part of the rows, and fetches what a batch needs of the others' parts. The batches
  are those of replicated rows, number for number.
* streamed: chunks of rows go through the devices, the next one is read while one trains. A chunk is made of random
  blocks of neighbouring rows, new ones in every pass, and a batch holds rows of one chunk.
"""

import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demjax.checks import UserError, choose
from demjax.mesh import DATA_AXIS, replicate
from demjax.train.memory import device_bytes

CHUNK_BYTES = 2**28
BLOCK_BYTES = 2**21  # of neighbouring rows: large enough to read a disk at its full speed
LEAST_BLOCKS = 16  # of a chunk: fewer would be hardly shuffled
REPLICATED_SHARE, SHARDED_SHARE = 0.25, 0.6  # of the memory of a device that rows may take
RESIDENT = "resident"  # replicated or sharded, whatever the memory
PLACEMENTS = dict.fromkeys(("auto", "replicated", "sharded", "streamed"))

Rows = Mapping[str, Any]  # arrays, or what can be sliced like one (data/picked.py); the last row is empty


class Placement(NamedTuple):
    """Where the rows are.

    Attributes:
      kind: `replicated`, `sharded` or `streamed`.
      n_rows: without the empty one at the end.
      row_bytes: of one row.
      chunk_blocks: streamed: blocks of a chunk at most; 0 else.
      block_rows: streamed: rows of a block.
    """

    kind: str
    n_rows: int
    row_bytes: int
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
        order = jax.random.permutation(jax.random.fold_in(key, number), self._blocks)
        first, last = (self._blocks * c // self.chunks for c in (chunk, chunk + 1))
        blocks = np.asarray(order)[first:last]
        ids = (blocks[:, None].astype(np.int64) * self.block_rows + np.arange(self.block_rows)).reshape(-1)
        ids = np.minimum(ids, self.n_rows)  # the last block may be short
        return np.pad(ids, (0, self.call_rows - len(ids)), constant_values=self.n_rows)

    def told(self, mesh: Mesh) -> str:
        """What was decided and what it means for the batches, in one line."""
        size = f"{self.n_rows:,} rows, {_told_bytes(self.n_rows * self.row_bytes)}"
        if self.kind == "replicated":
            return f"{size}, on every device; batches are cut from one permutation of all rows"
        if self.kind == "sharded":
            own = _told_bytes(math.ceil(self.n_rows / mesh.size) * self.row_bytes)
            return f"{size}, {own} on each of {mesh.size} devices; batches as if every device held all"
        chunk = _told_bytes(self.call_rows * self.row_bytes)
        return (
            f"{size}, streamed: {self.chunks} chunks of {self.call_rows:,} rows ({chunk}); a batch holds rows of one "
            f"chunk, a chunk {self.call_rows // self.block_rows} random blocks of {self.block_rows} neighbouring rows"
        )


def choose_placement(kind: str, rows: Rows, fields: tuple[str, ...], mesh: Mesh, chunk_rows: int) -> Placement:
    """Where rows go; `auto` by their size and the memory of a device.

    Args:
      kind: a key of PLACEMENTS, or RESIDENT.
      rows, fields: which of them the task reads.
      mesh: the devices.
      chunk_rows: of a streamed chunk, rounded up to whole blocks; 0: CHUNK_BYTES of them. Never by the machine, so that
        a run can go on on another one.

    Raises:
      UserError: an unknown kind.
    """
    if kind != RESIDENT:
        choose("train.placement", kind, PLACEMENTS)
    n_rows = len(rows["weight"]) - 1
    row_bytes = sum(int(np.prod(rows[f].shape[1:])) * rows[f].dtype.itemsize for f in fields)
    if kind in ("auto", RESIDENT):
        memory, whole = device_bytes(), n_rows * row_bytes
        if kind == "auto" and whole > SHARDED_SHARE * memory * mesh.size:
            kind = "streamed"
        else:
            kind = "sharded" if mesh.size > 1 and whole > REPLICATED_SHARE * memory else "replicated"
    if kind != "streamed":
        return Placement(kind, n_rows, row_bytes)
    chunk = min(chunk_rows or max(1, CHUNK_BYTES // row_bytes), n_rows)
    block = min(max(1, BLOCK_BYTES // row_bytes), math.ceil(chunk / LEAST_BLOCKS))
    blocks = math.ceil(chunk / block)
    return Placement(kind, n_rows, row_bytes, min(blocks, math.ceil(n_rows / block)), block)


class Feed:
    """The rows for each compiled call of a run; `with` it, so that nothing is read when the run has ended."""

    def __init__(self, placement: Placement, rows: Rows, fields: tuple[str, ...], mesh: Mesh, key_data: Any):
        self._placement, self._mesh, self._key_data = placement, mesh, jnp.asarray(np.asarray(key_data))
        self._rows = {name: rows[name] for name in fields}
        self._reader: ThreadPoolExecutor | None = None
        self._ready: tuple[int, Future] | None = None
        self._resident: Rows = {}
        if placement.kind == "streamed":  # in a chunk rows stand elsewhere
            self._rows["row"] = np.arange(len(rows["weight"]), dtype=np.int32)
        if placement.kind == "replicated":
            self._resident = replicate({name: np.asarray(x) for name, x in self._rows.items()}, mesh)
        elif placement.kind == "sharded":
            self._resident = self._spread(np.arange(placement.n_rows))

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *error: object) -> None:
        if self._reader:
            self._reader.shutdown(wait=True, cancel_futures=True)

    def __call__(self, call: int) -> Rows:
        """The rows on the devices for call number `call` from 0; a stream then reads ahead for the next one."""
        if self._placement.kind != "streamed":
            return self._resident
        if not self._reader:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
        number, future = self._ready if self._ready else (-1, None)
        rows = future.result() if future and number == call else self._read(self._ids(call))
        self._ready = call + 1, self._reader.submit(self._read, self._ids(call + 1))
        return rows

    def _ids(self, call: int) -> np.ndarray:
        """Here, not in the thread that reads: it computes on a device, before the training is sent there."""
        return self._placement.rows_of(jax.random.wrap_key_data(self._key_data), call)

    def _read(self, ids: np.ndarray) -> Rows:
        return jax.block_until_ready(self._spread(ids))

    def _spread(self, ids: np.ndarray) -> Rows:
        """Rows shared out among the devices, empty ones at the end; a process reads those of its own devices only."""
        mesh, empty = self._mesh, self._placement.n_rows
        ids = np.pad(ids, (0, -(len(ids) + 1) % mesh.size + 1), constant_values=empty)
        sharding = NamedSharding(mesh, PartitionSpec(DATA_AXIS))

        def put(x: Any) -> jax.Array:
            def part(at: Any) -> np.ndarray:
                return x[ids[at[0]]]

            return jax.make_array_from_callback((len(ids), *x.shape[1:]), sharding, part)

        return {name: put(x) for name, x in self._rows.items()}


def check_stream(batching: str, passes: int) -> None:
    """Raises a UserError for what cannot be streamed."""
    if batching != "examples":
        raise UserError(f"train.placement=streamed with train.batching={batching}: expected examples, one row an image")
    if passes != 1:
        raise UserError(
            f"train.placement=streamed with train.passes_per_epoch={passes}: expected 1, a pass has many calls"
        )


def _told_bytes(n: int | float) -> str:
    """
    >>> _told_bytes(96_600_000), _told_bytes(58e9)
    ('92.1 MiB', '54 GiB')
    """
    for unit in ("KiB", "MiB"):
        n /= 1024
        if n < 1000:
            return f"{n:.3g} {unit}"
    return f"{n / 1024:.3g} GiB"
