"""The promises of a ClassSet about its classes and features."""

from collections.abc import Mapping

import numpy as np

from demjax.checks import UserError, listed
from demjax.data.fingerprints import not_finite


def check_classes(classes: tuple[str, ...], semantics: np.ndarray, parts: Mapping[str, int]) -> None:
    """Names are unique; semantics [c, a] have one finite row for each, and the columns that `parts` count, if any."""
    doubled = sorted({name for name in classes if classes.count(name) > 1}) if len(set(classes)) < len(classes) else []
    if doubled:
        raise UserError(f"class names stand twice: {listed(doubled)}; names must be unique")
    if semantics.ndim != 2 or len(semantics) != len(classes):
        raise UserError(f"semantics have shape {semantics.shape}: expected one row for each of {len(classes)} classes")
    bad = np.flatnonzero(~np.isfinite(semantics).all(axis=1))
    if len(bad):
        raise UserError(f"semantic vector of class {classes[bad[0]]!r} has NaN or Inf ({len(bad)} such classes)")
    if parts and sum(parts.values()) != semantics.shape[1]:
        expected = f"{sum(parts.values())} columns by {dict(parts)}"
        raise UserError(f"semantics have {semantics.shape[1]} columns: expected {expected}")


def check_images(features: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], images: tuple[str, ...]) -> None:
    """Features [n, d] are float32, finite unless mapped, one row a label, as are names; labels [n] are of `classes`."""
    if features.ndim != 2 or len(features) != len(labels):
        hint = "; they look transposed" if features.ndim == 2 and features.shape[1] == len(labels) else ""
        raise UserError(f"features have shape {features.shape}: expected [{len(labels)} images, width]{hint}")
    if features.dtype != np.float32:
        raise UserError(f"features are {features.dtype}: expected float32; convert with .astype('float32')")
    bad = not_finite(features[:0] if isinstance(features, np.memmap) else features)
    if len(bad):
        raise UserError(
            f"features of image {bad[0]} (0-based row) hold NaN or Inf ({len(bad)} such rows): "
            "extract these images again or take them out"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(outside):
        raise UserError(
            f"image {outside[0]} (0-based row) has label {labels[outside[0]]} (0-based): "
            f"expected 0 to {len(classes) - 1}, the rows of the class table"
        )
    if images and len(images) != len(labels):
        raise UserError(f"{len(images)} image names for {len(labels)} images: expected one for each")
