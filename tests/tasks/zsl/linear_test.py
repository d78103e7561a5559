"""What the closed forms share: one spectrum for a sweep, in blocks of images."""

import numpy as np
from sklearn.linear_model import Ridge

from demjax.tasks.zsl import linear
from demjax.tasks.zsl.linear import eszsl, ridge
from tests.tasks.zsl.scaled import DATA, SEMANTIC, SPEC, close


def test_one_spectrum_for_a_sweep_and_another_for_other_data(monkeypatch):
    monkeypatch.setattr(linear.SPECTRA, "_kept", {})
    decomposed = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda m: decomposed.append(len(m)) or eigh(m))
    for l2 in (0.1, 1.0, 10.0):
        ridge(SPEC, direction=SEMANTIC, l2=l2).solve(DATA)
        eszsl(SPEC, alpha=l2).solve(DATA)
    assert decomposed.count(20) == 1
    ridge(SPEC, direction=SEMANTIC, features_scale="unit").solve(DATA)
    view = DATA.validation_view()
    first = ridge(view.spec, direction=SEMANTIC).solve(view).params["weights"]
    assert decomposed.count(20) == 3
    ridge(SPEC, direction=SEMANTIC).solve(DATA.validation_view())  # the same fold, made anew
    assert decomposed.count(20) == 3
    x, a = view.features[view.splits["trainval"]].astype(np.float64), view.semantics.astype(np.float64)
    model = Ridge(alpha=1.0, fit_intercept=False).fit(x, a[view.labels[view.splits["trainval"]]])
    close(first, model.coef_.T)


def test_the_oldest_spectrum_goes(monkeypatch):
    spectra, decomposed = linear.Spectra(), []
    decompose = linear.decompose
    monkeypatch.setattr(linear, "KEPT", 2)
    monkeypatch.setattr(linear, "decompose", lambda data, how: decomposed.append(how) or decompose(data, how))
    for how in ("none", "unit", "none", "standard", "unit", "none"):
        spectra.of(DATA, how)
    assert decomposed == ["none", "unit", "standard", "none"]


def test_blocks_of_images_add_up(monkeypatch):
    whole = linear.decompose(DATA, "standard")
    monkeypatch.setattr(linear, "BLOCK", 7)
    for a, b in zip(linear.decompose(DATA, "standard")[:-1], whole[:-1], strict=True):
        np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-8)
