"""Errors that say what was got, what was expected and what to do next."""

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """A mistake the person at the keyboard can mend; `demjax.main` prints it as one line, no traceback."""


class ReportedElsewhere(UserError):
    """A mistake that ends all processes of a program and that process 0 prints."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest known one, else all of them.

    >>> did_you_mean("learnig_rate", ["learning_rate", "epochs"])
    "did you mean 'learning_rate'?"
    """
    known = [str(k) for k in known]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def choose(what: str, name: str, options: dict[str, T]) -> T:
    """`options[name]`, or a UserError that names the nearest option."""
    if name not in options:
        raise UserError(f"{what} is {name!r}: {did_you_mean(str(name), options)}")
    return options[name]


def in_range(what: str, value: Any, low: int | float, high: int | float = math.inf, *, open_low: bool = False) -> None:
    """Raises a UserError unless `value` is a finite number in [low, high] ((low, high] with `open_low`)."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)  # those of NumPy are numbers, too
    ok = number and math.isfinite(value) and low <= value <= high
    if not ok or (open_low and value == low):
        sign = ">" if open_low else ">="
        upper = "" if high == math.inf else f" and <= {high:g}"
        raise UserError(f"{what} is {value!r}: expected a number {sign} {low:g}{upper}")


def whole_number(what: str, value: Any, low: int, high: int | float = math.inf) -> None:
    """Raises a UserError unless `value` is a whole number in [low, high]; 3.0 and True are none."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:
        upper = "" if high == math.inf else f" and <= {high:g}"
        raise UserError(f"{what} is {value!r}: expected a whole number >= {low}{upper}")


def several_numbers(what: str, values: Any, n: int, low: int | float = -math.inf) -> None:
    """Raises a UserError unless `values` is a tuple or list of `n` finite numbers >= `low`."""
    if not isinstance(values, tuple | list) or len(values) != n:
        raise UserError(f"{what} is {values!r}: expected {n} numbers in a tuple, one for each source")
    for value in values:
        in_range(what, value, low)


def listed(items: Iterable, most: int = 5) -> str:
    """The first few items for an error message, and how many more there are.

    >>> listed(range(7), most=3)
    '0, 1, 2 and 4 more'
    """
    items = list(items)
    shown = ", ".join(str(i) for i in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")
