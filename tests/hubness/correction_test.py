"""What the corrections refuse, and how they behave at the edges; that they equal their formulas: fit_test.py."""

import inspect

import numpy as np
import pytest
from scipy.stats import norm

import demjax.hubness as hubness
from demjax.checks import UserError
from demjax.hubness import CORRECTIONS

two, three = np.array([0.5, 0.7]), np.array([0.2, 0.3, 0.4])
bad = np.array([0.2, np.nan, 0.4])


def plain(name):
    """The constructor without the shape checks of the tests, as a user calls it."""
    return inspect.unwrap(getattr(hubness, name))


@pytest.mark.parametrize(
    ("name", "args", "told"),
    [
        ("csls", (two, bad), "gallery_mean row 1 is nan"),
        ("csls", (two[:, None], three), r"query_mean has shape \(2, 1\): expected 1 dimension"),
        ("csls", (two, three[:0]), r"gallery_mean has shape \(0,\).*not empty"),
        ("nnn", (three, 2, -0.1), "alpha is -0.1"),
        ("nnn", (bad, 2), "gallery_mean row 1 is nan"),
        ("inverted_softmax", (three, 2, 0.0), "beta is 0"),
        ("inverted_softmax", (bad, 2, 1.0), "gallery_lse row 1 is nan"),
        ("dynamic_inverted_softmax", (three, 1.0, np.ones(2, bool), np.array([0])), r"expected bool\[3\]"),
        ("dynamic_inverted_softmax", (three, 1.0, np.ones(3, int), np.array([0])), r"expected bool\[3\]"),
        ("dynamic_inverted_softmax", (three, 1.0, np.ones(3, bool), np.array([0, 3])), "expected one id of 0 to 2"),
        ("globally_corrected", (bad,), "gallery_bank has shape"),
        ("globally_corrected", (bad[None],), "gallery_bank row 0 is nan"),
        ("local_scaling", (two, np.array([1.0, 0.0, 2.0])), "gallery_radius row 1 is 0.*greater k"),
        ("local_scaling", (-two, three), "query_radius row 0 is -0.5"),
        ("nicdm", (np.array([1.0, 0.0]), three), "query_mean row 1 is 0"),
        ("mutual_proximity_gaussian", (two, two, three, three[:2]), "gallery_std has 2 rows: expected 3"),
        ("mutual_proximity_gaussian", (two, -two, three, three), "query_std row 0 is -0.5"),
        ("mutual_proximity_empirical", (two[None], three[None]), "gallery_bank has 3 references: expected 2"),
        ("dis_sim_local", (-two, three), "query_offset row 0 is -0.5"),
    ],
)
def test_bad_statistics(name, args, told):
    with pytest.raises(UserError, match=told) as error:
        plain(name)(*args)
    assert "\n" not in str(error.value)


def applied(correction, scores):
    return np.asarray(correction.apply(scores, correction.query, correction.gallery))


def test_gaussian_proximity_orders_far_pairs_that_the_published_form_makes_equal():
    mean, std = np.full(1, 10.0), np.full(1, 0.5)
    far = -np.array([[14.0, 15.0, 16.0]], np.float32)
    fitted = plain("mutual_proximity_gaussian")(mean, std, np.full(3, 10.0), np.full(3, 0.5))
    got = applied(fitted, far)
    assert got[0, 0] > got[0, 1] > got[0, 2] and np.isfinite(got).all()
    np.testing.assert_allclose(got, 2 * norm.logsf(-far, 10, 0.5), rtol=1e-4)
    assert len(set(np.float32(1 - np.exp(got[0])).tolist())) == 1


def test_no_spread_is_a_step_at_the_mean():
    fitted = plain("mutual_proximity_gaussian")(np.ones(1), np.zeros(1), np.ones(3), np.zeros(3))
    got = applied(fitted, -np.array([[0.9, 1.0, 1.1]], np.float32))
    assert got[0, 0] == 0 and got[0, 1] == pytest.approx(2 * np.log(0.5), rel=1e-3) and got[0, 2] < -1e6


def test_inverted_softmax_at_a_large_beta_neither_underflows_nor_ties():
    from demjax.search import log_sum_exp

    rng = np.random.default_rng(0)
    x, bank = (rng.standard_normal((n, 8), np.float32) for n in (5, 30))
    fitted = plain("inverted_softmax")(log_sum_exp(x, bank, 1e4), 4, 1e4)
    scores = np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)
    got = applied(fitted, scores)
    assert np.isfinite(got).all() and len(np.unique(got)) == 20


def test_global_correction_counts_ties_as_not_nearer():
    fitted = plain("globally_corrected")(np.array([[0.1, 0.5, 0.9]]))
    got = applied(fitted, np.array([[0.5], [0.05], [0.95]], np.float32))
    np.testing.assert_allclose(got.ravel(), [0.5 - 1, 0.05 - 3, 0.95], atol=1e-6)


def test_every_method_says_what_a_user_must_know():
    for method in CORRECTIONS.values():
        assert method.scores[0] in ("cosine", "euclidean")
        assert "transductive" in method.bank and "inductive" in method.bank and method.equation and method.name
