import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import skew

from demjax.checks import UserError
from demjax.data import synthetic

SMALL = dict(n_classes=12, n_unseen=4, n_attributes=5, n_features=8, images_per_class=10)


def test_sizes_and_roles():
    dataset = synthetic.plant(**SMALL)
    assert dataset.features.shape == (120, 8) and dataset.semantics.shape == (12, 5)
    assert len(dataset.unseen) == 4 and len(dataset.seen) == 8
    assert {k: len(v) for k, v in dataset.splits.items()} == {
        "trainval": 64, "test_seen": 16, "test_unseen": 40, "train": 48, "val": 16,
    }  # fmt: skip
    view = dataset.validation_view()
    assert len(view.seen) == 6 and len(view.unseen) == 2


def test_the_seed_is_everything():
    one, same, other = (synthetic.plant(**SMALL, seed=s) for s in (0, 0, 1))
    assert one.fingerprints == same.fingerprints
    assert one.fingerprints["features"] != other.fingerprints["features"]


def test_log_likelihood_equals_numerical_integration():
    """p(x | c) = mean over t of N(x; t mu_c, noise^2 I), by adaptive quadrature, up to a constant of x."""
    rng = np.random.default_rng(0)
    x, outward, noise, hubness = rng.standard_normal((4, 3)), rng.standard_normal((5, 3)), 0.7, 0.6
    found = synthetic._log_likelihood(x, outward, noise, hubness)
    for i in range(4):

        def density(t, mu, x=x[i]):
            return np.exp(-((x - t * mu) ** 2).sum() / (2 * noise**2))

        exact = [np.log(quad(density, 1 - hubness, 1, args=(mu,))[0]) for mu in outward]
        np.testing.assert_allclose(np.diff(found[i]), np.diff(exact), atol=1e-3)


def test_without_hubness_the_best_rule_is_the_nearest_prototype():
    rng = np.random.default_rng(0)
    x, outward = rng.standard_normal((50, 6)), rng.standard_normal((7, 6))
    likely = synthetic._log_likelihood(x, outward, 0.5, 0.0).argmax(axis=1)
    nearest = [int(np.argmin([((q - p) ** 2).sum() for p in outward])) for q in x]
    assert likely.tolist() == nearest


def test_bayes_is_what_a_fresh_simulation_reaches():
    """Two classes at known distance: accuracy is Phi(distance / 2 noise), whatever the images drawn."""
    from scipy.stats import norm

    dataset = synthetic.plant(
        n_classes=4, n_unseen=2, n_attributes=3, n_features=3, images_per_class=4000, noise=0.8, hubness=0.0
    )
    a, b = (dataset.features[dataset.labels == c].mean(axis=0) for c in dataset.unseen)
    assert dataset.bayes["zsl/top1"] == pytest.approx(norm.cdf(np.linalg.norm(a - b) / 1.6), abs=0.02)


def test_nobody_beats_bayes_by_more_than_luck():
    """Not even the nearest class mean, learned from other images of the unseen classes."""
    dataset = synthetic.plant(n_classes=24, n_unseen=20, images_per_class=200, noise=1.2, hubness=0.6)
    learn, ask = np.arange(len(dataset.labels)) % 2 == 0, np.arange(len(dataset.labels)) % 2 == 1
    means = np.stack([dataset.features[learn & (dataset.labels == c)].mean(0) for c in dataset.unseen])
    ask &= np.isin(dataset.labels, dataset.unseen)
    found = [int(np.argmin(((x - means) ** 2).sum(axis=1))) for x in dataset.features[ask]]
    accuracy = np.mean(dataset.unseen[found] == dataset.labels[ask])
    assert 0.3 < accuracy <= dataset.bayes["zsl/top1"] + 0.02


def test_the_knob_makes_hubs():
    """N_1 skewness of the nearest class mean among the unseen, averaged over seeds."""

    def skewness(hubness, seed):
        dataset = synthetic.plant(n_classes=60, n_unseen=30, images_per_class=20, noise=0.6, hubness=hubness, seed=seed)
        means = np.stack([dataset.features[dataset.labels == c].mean(0) for c in dataset.unseen])
        queries = dataset.features[dataset.splits["test_unseen"]]
        nearest = ((means**2).sum(1) - 2 * queries @ means.T).argmin(axis=1)
        n1 = np.bincount(nearest, minlength=30)
        return skew(n1) if n1.std() > 0.5 else 0.0

    even, uneven = (np.mean([skewness(h, seed) for seed in range(5)]) for h in (0.0, 0.9))
    assert uneven > even + 0.7


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"n_classes": 2}, "data.planted.n_classes is 2"),
        ({"n_unseen": 0}, "data.planted.n_unseen is 0"),
        ({"n_unseen": 11}, "expected two seen ones"),
        ({"images_per_class": 2}, "data.planted.images_per_class is 2"),
        ({"noise": -1.0}, "data.planted.noise is -1.0"),
        ({"noise": float("nan")}, "data.planted.noise is nan"),
        ({"hubness": 1.5}, "and <= 1"),
    ],
)
def test_bad_sizes(setting, told):
    with pytest.raises(UserError, match=told):
        synthetic.plant(**(SMALL | setting))
