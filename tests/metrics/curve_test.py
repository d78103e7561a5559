import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax import metrics
from demjax.checks import UserError


def accuracies_by_loop(scores, truth, seen, gamma, average):
    """Penalise, take the argmax, average: nothing clever. At score - gamma = score of an unseen class, unseen wins."""
    hits = {}
    for row, label in zip(scores, truth, strict=True):
        best_seen = max((float(s) - gamma, -i) for i, s in enumerate(row) if seen[i])
        best_unseen = max((float(s), -i) for i, s in enumerate(row) if not seen[i])
        answer = -best_seen[1] if best_seen[0] > best_unseen[0] else -best_unseen[1]
        hits.setdefault(int(label), []).append(answer == label)
    sides = []
    for side in (False, True):
        of_side = [h for c, h in hits.items() if bool(seen[c]) == side]
        flat = [x for h in of_side for x in h]
        sides.append(np.mean([np.mean(h) for h in of_side]) if average == "per_class" else np.mean(flat))
    return sides


def problem(seed, n=40, c=7, levels=6):
    """Whole scores, so that gaps tie often; both sides have images."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([[0, c - 1], rng.integers(0, c, n - 2)])
    scores = rng.integers(0, levels, (n, c)).astype(np.float64)
    scores[np.arange(n), truth] += rng.integers(0, 3, n)
    return scores, truth, np.arange(c) < c // 2


def gammas_between(curve):
    """A gamma at every breakpoint, and one in every interval between."""
    inner = curve.gamma[1:]
    return [inner[0] - 1, *inner, *((inner[1:] + inner[:-1]) / 2), inner[-1] + 1]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 9999), st.sampled_from(["per_class", "micro"]))
def test_every_interval_equals_a_loop(seed, average):
    scores, truth, seen = problem(seed)
    curve = metrics.seen_unseen_curve(metrics.gaps_of_scores(scores, truth, seen), average)
    area, best, last = 0.0, 0.0, None
    for gamma in sorted(gammas_between(curve)):
        point = metrics.at_gamma(curve, gamma)
        u, s = accuracies_by_loop(scores, truth, seen, gamma, average)
        assert (point.unseen, point.seen) == pytest.approx((u, s), abs=1e-12)
        best = max(best, 2 * u * s / (u + s) if u + s else 0.0)
        area += 0.0 if last is None else (u - last[0]) * (s + last[1]) / 2
        last = u, s
    assert metrics.ausuc(curve) == pytest.approx(area, abs=1e-12)
    found = metrics.best_harmonic(curve)
    assert found.harmonic == pytest.approx(best, abs=1e-12)
    u, s = accuracies_by_loop(scores, truth, seen, found.gamma, average)
    assert found.harmonic == pytest.approx(2 * u * s / (u + s) if u + s else 0.0, abs=1e-12)


def by_hand():
    """Class 0 seen (two images), class 1 seen (one), class 2 unseen (two): gaps 1, 3, 2, -1, 2."""
    return metrics.gaps(
        np.array([1.0, 3, 2, 0, 4]),
        np.array([True, True, True, False, False]),
        np.array([0.0, 0, 0, 1, 2]),
        np.array([False, False, False, True, True]),
        np.array([0, 0, 1, 2, 2]),
        np.array([True, True, True, False, False]),
    )


def test_by_hand():
    curve = metrics.seen_unseen_curve(by_hand())
    np.testing.assert_array_equal(curve.gamma, [-np.inf, -1, 1, 2, 3])
    np.testing.assert_array_equal(curve.unseen, [0, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(curve.seen, [1, 1, 0.75, 0.25, 0])
    assert metrics.ausuc(curve) == pytest.approx(0.5 + 0.5 * (0.75 + 0.25) / 2)  # the two gaps of 2 flip together
    best = metrics.best_harmonic(curve)
    assert best == pytest.approx((0.0, 0.5, 1.0, 2 / 3))  # gamma in the middle of [-1, 1)
    assert metrics.at_gamma(curve, 1.0).seen == 0.75 and metrics.at_gamma(curve, 0.999).seen == 1.0
    micro = metrics.seen_unseen_curve(by_hand(), "micro")
    np.testing.assert_allclose(micro.seen, [1, 1, 2 / 3, 1 / 3, 0])


def test_flips_one_by_one_would_give_another_area():
    """Mutant: tied gaps taken one at a time draw a corner instead of a line."""
    curve = metrics.seen_unseen_curve(by_hand())
    apart = by_hand()._replace(gap=np.array([1, 3, 2 - 1e-9, -1, 2]))
    assert metrics.ausuc(metrics.seen_unseen_curve(apart)) < metrics.ausuc(curve) - 0.1


def test_the_ends_of_the_curve():
    curve = metrics.seen_unseen_curve(metrics.gaps_of_scores(*problem(3)))
    assert curve.unseen[0] == 0.0 and curve.seen[-1] == 0.0  # exact, so that H is 0 there
    assert (np.diff(curve.unseen) >= 0).all() and (np.diff(curve.seen) <= 0).all() and (np.diff(curve.gamma) > 0).all()
    assert metrics.at_gamma(curve, -np.inf).seen == curve.seen[0]
    assert metrics.at_gamma(curve, np.inf).unseen == curve.unseen[-1]


@pytest.mark.parametrize("average", ["per_class", "micro"])
def test_blocks_joined_equal_the_whole(average):
    scores, truth, seen = problem(5, n=90)
    parts = [metrics.gaps_of_scores(scores[i : i + 40], truth[i : i + 40], seen) for i in (0, 40, 80)]
    whole = metrics.seen_unseen_curve(metrics.gaps_of_scores(scores, truth, seen), average)
    joined = metrics.seen_unseen_curve(metrics.join_gaps(parts), average)
    for a, b in zip(whole, joined, strict=True):
        np.testing.assert_array_equal(a, b)


def test_masked_rows_may_hold_anything():
    scores, truth, seen = problem(6)
    mask = np.ones(len(truth), bool)
    mask[5:15] = False
    padded, foreign = scores.copy(), truth.copy()
    padded[~mask], foreign[~mask] = np.nan, -1
    left = metrics.gaps_of_scores(scores[mask], truth[mask], seen)
    for array in (padded, jnp.array(padded)):
        found = metrics.gaps_of_scores(array, foreign, seen, mask)
        for a, b in zip(found, left, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_calibration_is_generalised_accuracy():
    rng = np.random.default_rng(0)
    scores, truth, seen = rng.standard_normal((80, 6)), rng.integers(0, 6, 80), np.array([1, 0, 1, 0, 1, 1], bool)
    point = metrics.at_gamma(metrics.seen_unseen_curve(metrics.gaps_of_scores(scores, truth, seen)), 0.0)
    counts = metrics.class_counts(jnp.array(scores.argmax(1)), jnp.array(truth), 6)
    for side, found in ((seen, point.seen), (~seen, point.unseen)):
        of_side = metrics.ClassCounts(*(np.where(side, x, 0) for x in counts))
        assert found == pytest.approx(metrics.per_class_accuracy(of_side))
    assert point.harmonic == metrics.harmonic_mean(point.unseen, point.seen)


def test_nothing_right_gives_gamma_zero():
    wrong = by_hand()._replace(right=np.zeros(5, bool))
    assert metrics.best_harmonic(metrics.seen_unseen_curve(wrong)) == (0.0, 0.0, 0.0, 0.0)


def test_a_hundred_thousand_images_are_no_wait():
    rng = np.random.default_rng(0)
    n, truth = 100_000, rng.integers(0, 50, 100_000)
    is_seen = truth < 40
    record = metrics.Gaps(rng.standard_normal(n), rng.random(n) < 0.7, truth, is_seen)
    curve = metrics.seen_unseen_curve(record)
    assert curve.unseen[-1] == pytest.approx(0.7, abs=0.02) and curve.seen[0] == pytest.approx(0.7, abs=0.02)
    assert metrics.ausuc(curve) == pytest.approx(0.7 * 0.7 / 2, abs=0.02)  # gaps that tell nothing: a straight line


def test_errors_say_what_is_wrong():
    scores, truth, seen = problem(7)
    with pytest.raises(UserError, match="7 of 7 classes are seen"):
        metrics.gaps_of_scores(scores, truth, np.ones(7, bool))
    broken = scores.copy()
    broken[4, 1] = np.nan
    with pytest.raises(UserError, match="NaN in row 4"):
        metrics.gaps_of_scores(broken, truth, seen)
    broken[4] = np.where(seen, -np.inf, 0)
    with pytest.raises(UserError, match="not finite in row 4"):
        metrics.gaps_of_scores(broken, truth, seen)
    with pytest.raises(UserError, match="0 of 0 images|no blocks"):
        metrics.join_gaps([])
    only = metrics.gaps_of_scores(scores, truth, seen, seen[truth])
    with pytest.raises(UserError, match="are of seen classes"):
        metrics.seen_unseen_curve(only)
    with pytest.raises(UserError, match="class 0 is seen in some rows"):
        metrics.seen_unseen_curve(by_hand()._replace(truth=np.array([0, 0, 1, 2, 0])))
    with pytest.raises(UserError, match="gamma is NaN"):
        metrics.at_gamma(metrics.seen_unseen_curve(by_hand()), float("nan"))
