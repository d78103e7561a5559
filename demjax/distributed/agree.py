"""Exchange between processes: flags, shares of work, errors. All must call these functions, in the same order."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from demjax.checks import ReportedElsewhere, UserError
from demjax.distributed.watch import farewell

EXPECTED = (UserError, OSError)
MESSAGE_BYTES = 2000  # at least


def is_first() -> bool:
    """Whether this is process 0, which writes files and prints."""
    return jax.process_index() == 0


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Each flag as it is in any process: what one has seen all know, at the same place of the program."""
    if jax.process_count() == 1:
        return flags
    return tuple(bool(x) for x in multihost_utils.process_allgather(np.array(flags)).any(axis=0))


def wait(name: str) -> None:
    """Until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def share_rows(
    n: int,
    block: int,
    work: Callable[[slice], tuple[np.ndarray, ...]],
    like: Sequence[np.ndarray],
    stop_point: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, ...]:
    """Arrays of n rows, made block by block; the processes take turns and all get the whole.

    Args:
      n, block: rows, and rows of a block.
      work: rows -> what belongs to them.
      like: arrays of the types, and of the shapes but for the rows.
      stop_point: called before each round, in all processes; may raise.

    Raises:
      UserError: a type of more than 32 bits, which JAX would cut on the way.
    """
    if wide := next((x.dtype for x in like if x.dtype.itemsize > 4), None):
        raise UserError(f"rows of {wide} are shared by processes: expected at most 32 bits, as float32 or int32")
    n_processes, starts = jax.process_count(), range(0, n, block)
    whole = tuple(np.zeros((n, *x.shape[1:]), x.dtype) for x in like)
    for i in range(0, len(starts), n_processes):
        stop_point()
        here, local = i + jax.process_index(), tuple(np.zeros((block, *x.shape[1:]), x.dtype) for x in like)
        if here < len(starts):
            rows = slice(starts[here], min(starts[here] + block, n))
            for array, part in zip(local, work(rows), strict=True):
                array[: len(part)] = part
        everyone = multihost_utils.process_allgather(local) if n_processes > 1 else tuple(x[None] for x in local)
        for start, p in zip(starts[i : i + n_processes], range(n_processes), strict=False):
            for array, parts in zip(whole, everyone, strict=True):
                array[start : start + block] = np.asarray(parts[p])[: n - start]
    return whole


def share_blocks(n: int, work: Callable[[int], jax.Array]) -> Iterator[jax.Array | np.ndarray]:
    """work(0), ..., work(n - 1), in order: arrays of one shape. The processes take turns, and each gets all of them."""
    n_processes = jax.process_count()
    for i in range(0, n, n_processes):
        mine = work(min(i + jax.process_index(), n - 1))  # with nothing left to do the last is done again
        yield from multihost_utils.process_allgather(mine)[: n - i] if n_processes > 1 else (mine,)


def smallest(value: int) -> int:
    """The smallest value of any process."""
    if jax.process_count() == 1:
        return value
    return min(int(message) for message in _messages(str(value)))


@contextlib.contextmanager
def raise_in_all() -> Iterator[None]:
    """Around what one process does alone: an error in it ends all processes, so that none waits. No collectives inside.

    Raises:
      UserError: here or, `ReportedElsewhere`, in another process.
      Exception: whatever was raised here.
    """
    mistake: Exception | None = None
    try:
        yield
    except Exception as error:
        mistake = error
    if jax.process_count() > 1:
        mistakes = _messages(_line(mistake) if mistake else "")
        bad = [i for i, message in enumerate(mistakes) if message]
        if bad:
            farewell()  # all end now, each by itself
            if not is_first() and (mistake is None or isinstance(mistake, EXPECTED)):
                raise ReportedElsewhere(mistakes[bad[0]]) from mistake
            if mistake is None:
                raise UserError(f"process {bad[0]} of {len(mistakes)}: {mistakes[bad[0]]}")
    if mistake:
        raise mistake


def _line(error: Exception) -> str:
    if not isinstance(error, EXPECTED):  # a bug: the process that has it shows where
        return f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _messages(mine: str) -> list[str]:
    """The message of each process."""
    line = mine.encode()
    longest = int(multihost_utils.process_allgather(np.int32(len(line))).max())
    size = MESSAGE_BYTES
    while size < longest:  # few different sizes, as each is compiled
        size *= 4
    padded = np.frombuffer(line.ljust(size, b"\0"), np.uint8)
    return [bytes(row).rstrip(b"\0").decode() for row in multihost_utils.process_allgather(padded)]


def check_alike(what: str, mine: str) -> None:
    """Raises a UserError unless `mine` is the same in all processes."""
    if jax.process_count() == 1:
        return
    values = _messages(mine)
    with raise_in_all():
        if other := next((i for i, value in enumerate(values) if value != values[0]), 0):
            differing = f"{values[other]}, {values[0]}"
            raise UserError(f"process {other} has other {what} than process 0 ({differing}): start all alike")


def from_first(mine: str) -> str:
    """The message of process 0."""
    return _messages(mine)[0]
