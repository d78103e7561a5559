"""Objects from a user's Python file, FILE.py:NAME, and errors in such a file as one line that names its line."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from demjax.checks import UserError, did_you_mean


def is_reference(name: str) -> bool:
    """Whether a name is FILE.py:NAME."""
    return ".py:" in name


def file_of(reference: str) -> Path:
    """The file of FILE.py:NAME."""
    return Path(reference.rpartition(":")[0]).expanduser().resolve()


def load_python(file: Path) -> Any:
    """A Python file as a module; run once, and again when its content has changed.

    Raises:
      UserError: there is no such file, or it raises, with the line.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if file.suffix != ".py":
        raise UserError(f"{file}: expected a Python file")
    file = file.resolve()
    name = f"demjax_user_{file.stem}_{hashlib.sha256(str(file).encode() + file.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling of traces look a module up by its name
    try:
        with errors_of(file):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_object(reference: str) -> Any:
    """The object of FILE.py:NAME.

    Raises:
      UserError: as `load_python`, or a name that the file does not define.
    """
    file, name = file_of(reference), reference.rpartition(":")[2]
    module = load_python(file)
    if not hasattr(module, name):
        public = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise UserError(f"{file} does not define {name!r}: {did_you_mean(name, public)}")
    return getattr(module, name)


@contextlib.contextmanager
def errors_of(reference: str | Path) -> Iterator[None]:
    """Turns what is raised in a user's file, or by what it calls, into one line with the file and its line.

    `reference` is the file, or FILE.py:NAME; for the name of anything else nothing is changed.

    Raises:
      UserError: with the innermost line of the file that took part.
    """
    file = reference if isinstance(reference, Path) else file_of(reference) if is_reference(reference) else None
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        line = _line_in(error, file) if file else None
        if line is None:
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{file}, line {line}: {type(error).__name__}: {reason}") from error


def _line_in(error: BaseException, file: Path) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return lines[-1] if lines else None


def guarded(value: Any, file: Path) -> Any:
    """`value` with every function in it, however deep in dataclasses, tuples and mappings, under `errors_of(file)`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: guarded(getattr(value, name), file) for name in names})
    if isinstance(value, Mapping):
        return {key: guarded(item, file) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [guarded(item, file) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if not callable(value) or isinstance(value, type):
        return value

    @functools.wraps(value)
    def call(*args: Any, **kwargs: Any) -> Any:
        with errors_of(file):
            return value(*args, **kwargs)

    return call
