"""The training images of a planted set, scaled in NumPy, for the tests of closed forms."""

import numpy as np

from tests.tasks.planted import DATA, LABELS, X

SPEC = DATA.spec
VISUAL, SEMANTIC = "semantic->visual", "visual->semantic"
__all__ = ["DATA", "LABELS", "SEMANTIC", "SPEC", "VISUAL", "X", "close", "scaled", "table"]


def scaled(x, how):
    if how == "unit":
        return x / np.linalg.norm(x, axis=1, keepdims=True)
    return (x - X.mean(axis=0)) / X.std(axis=0) if how == "standard" else x


def table(how):
    a = DATA.semantics.astype(np.float64)
    norm = np.linalg.norm(a, axis=1, keepdims=True)
    return {"none": a, "unit": a / norm, "sqrt": a / norm * np.sqrt(6)}[how]


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-4 * np.abs(want).max())
