"""The rows for each compiled call: placed once, or read chunk by chunk ahead of the training."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from demjax.data import Rows
from demjax.train.engine.placement import Placement, place_rows, spread_rows


class Feed:
    """The rows for each compiled call of a run; `with` it, so that nothing is read when the run has ended."""

    def __init__(self, placement: Placement, rows: Rows, fields: tuple[str, ...], mesh: Mesh, key_data: Any):
        self._placement, self._mesh, self._key_data = placement, mesh, jnp.asarray(np.asarray(key_data))
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: tuple[int, Future] | None = None
        if placement.kind == "streamed":  # in a chunk rows stand elsewhere: their numbers travel with them
            self._columns = {name: rows.columns[name] for name in fields}
            self._columns["row"] = np.arange(rows.n_rows + 1, dtype=np.int32)
        else:
            self._resident = place_rows(rows, fields, mesh, shared=placement.kind == "sharded")

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *error: object) -> None:
        if self._reader:
            self._reader.shutdown(wait=True, cancel_futures=True)

    def __call__(self, call: int) -> Mapping[str, Any]:
        """The rows on the devices for call number `call` from 0; a stream then reads ahead for the next one."""
        if self._placement.kind != "streamed":
            return self._resident
        if not self._reader:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
        number, future = self._ahead if self._ahead else (-1, None)
        rows = future.result() if future and number == call else self._read(self._ids(call))
        self._ahead = call + 1, self._reader.submit(self._read, self._ids(call + 1))
        return rows

    def _ids(self, call: int) -> np.ndarray:
        """Here, not in the thread that reads: it computes on a device, before the training is sent there."""
        return self._placement.rows_of(jax.random.wrap_key_data(self._key_data), call)

    def _read(self, ids: np.ndarray) -> Mapping[str, Any]:
        return jax.block_until_ready({name: spread_rows(x, ids, self._mesh) for name, x in self._columns.items()})
