"""How semantic vectors are scaled before a network reads them."""

from collections.abc import Callable, Mapping

import numpy as np

from demjax.checks import choose

# name -> function of rows [g, a], float64.
SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda s: s,
    "unit": lambda s: _unit_rows(s),
    "sqrt": lambda s: _unit_rows(s) * np.sqrt(s.shape[1]),  # norm sqrt(a): entries of about 1
}


def scale_semantics(semantics: np.ndarray, how: str, parts: Mapping[str, int] | None = None) -> np.ndarray:
    """Rows [g, a] scaled by `none`, `unit` (norm 1) or `sqrt` (norm sqrt(a)), in float64, as float32 [g, a].

    Each row on its own: scaled rows of a table are the scaled table's rows. A row of zeros stays. The
    columns of each source are scaled on their own, if `parts` counts them by name and in order.
    """
    scale = choose("semantics scale", how, SCALES)
    ends = np.cumsum(list(parts.values()) if parts else [semantics.shape[1]])
    blocks = np.split(semantics, ends[:-1], axis=1)
    scaled = [scale(np.asarray(block, np.float64, order="C")).astype(np.float32) for block in blocks]
    return np.concatenate(scaled, axis=1)


def _unit_rows(s: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(s, axis=1, keepdims=True)
    return s / np.where(norm > 0, norm, 1.0)
