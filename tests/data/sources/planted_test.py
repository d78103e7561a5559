import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.special import log_ndtr, ndtr
from scipy.stats import skew

from demjax.data.sources import planted as synthetic
from demjax.data.sources.planted import plant

TINY = dict(n_classes=7, n_unseen=3, n_attributes=3, n_features=4, images_per_class=10)


def law(seed=0, hubness=0.5, **sizes):
    """Mean prototype [d] and mu_c - m [c, d] of a planted set, drawn anew in the order that `plant` draws."""
    sizes = TINY | sizes
    rng = np.random.default_rng(seed)
    attributes = rng.uniform(-1, 1, (sizes["n_classes"], sizes["n_attributes"])).astype(np.float32)
    centre, outward = synthetic._prototypes(attributes, sizes["n_features"], hubness, rng)
    return centre.astype(np.float64), outward.astype(np.float64)


def density(x, centre, outward, noise, hubness):
    """log p(x | c) but for a constant common to all c, by adaptive quadrature over the reach t."""

    def squared(t):
        return np.sum((x - centre - t * outward) ** 2) / (2 * noise**2)

    best_t = np.clip((x - centre) @ outward / (outward @ outward), 1 - hubness, 1)
    if hubness == 0:
        return -squared(1.0)
    width = noise / np.linalg.norm(outward)
    points = [p for p in (best_t - 5 * width, best_t, best_t + 5 * width) if 1 - hubness < p < 1]
    shift = squared(best_t)
    area, _ = integrate.quad(lambda t: np.exp(shift - squared(t)), 1 - hubness, 1, points=points or None, limit=200)
    return np.log(area / hubness) - shift


def score(dataset, role, candidates, predict):
    """Mean over classes of the share of right answers, in loops."""
    right, total = {}, {}
    for i in dataset.splits[role]:
        c = int(dataset.labels[i])
        total[c] = total.get(c, 0) + 1
        right[c] = right.get(c, 0) + (predict(dataset.features[i].astype(np.float64), candidates) == c)
    return float(np.mean([right[c] / total[c] for c in total]))


def scores(dataset, predict):
    everyone, unseen = list(range(len(dataset.classes))), dataset.unseen.tolist()
    u, s = (score(dataset, role, everyone, predict) for role in ("test_unseen", "test_seen"))
    return {
        "zsl/top1": score(dataset, "test_unseen", unseen, predict),
        "gzsl/unseen": u,
        "gzsl/seen": s,
        "gzsl/harmonic": 0.0 if u + s == 0 else 2 / (1 / u + 1 / s) if u * s else 0.0,
    }


@pytest.mark.parametrize(
    ("noise", "hubness", "seed"),
    [(0.5, 0.5, 0), (1.0, 1.0, 1), (0.3, 0.2, 2), (2.0, 0.9, 3), (0.003, 1.0, 4), (0.5, 0.0, 5)],
)
def test_bayes_equals_quadrature(noise, hubness, seed):
    dataset = plant(**TINY, noise=noise, hubness=hubness, seed=seed)
    centre, outward = law(seed, hubness)

    def predict(x, candidates):
        return candidates[int(np.argmax([density(x, centre, outward[c], noise, hubness) for c in candidates]))]

    assert dict(dataset.bayes) == pytest.approx(scores(dataset, predict), abs=1e-12)


@pytest.mark.parametrize("noise", [0.001, 0.003, 0.01])
def test_bayes_of_almost_clean_images(noise):
    """Images that fall short almost to the centre: a coarse grid over the reach misses the narrow peaks there."""
    sizes = dict(n_classes=30, n_unseen=10, n_features=16, n_attributes=4, images_per_class=20)
    dataset = plant(**sizes, noise=noise, hubness=1.0, seed=0)
    centre, outward = law(0, 1.0, **sizes)
    length = np.linalg.norm(outward, axis=1)

    def predict(x, candidates):
        # The integral of a Gaussian along t is closed: what lies across the ray, and two tails along it.
        z = x - centre
        along = outward[candidates] @ z / length[candidates]
        across = z @ z - along**2
        a, b = -along / noise, (length[candidates] - along) / noise
        flip = a > 0  # both in the upper tail: mirror, so that the difference is of small numbers
        big, small = np.where(flip, log_ndtr(-a), log_ndtr(b)), np.where(flip, log_ndtr(-b), log_ndtr(a))
        mass = big + np.log1p(-np.exp(small - big))
        return candidates[int(np.argmax(mass - np.log(length[candidates]) - across / (2 * noise**2)))]

    for key, value in scores(dataset, predict).items():
        assert dataset.bayes[key] == pytest.approx(value, abs=1e-12), key


def test_bayes_agrees_with_sampling():
    """p(x | c) as a mean over drawn reaches: no integral, no grid."""
    noise, hubness = 0.7, 0.8
    dataset = plant(**TINY, noise=noise, hubness=hubness, seed=6)
    centre, outward = law(6, hubness)
    reach = np.random.default_rng(0).uniform(1 - hubness, 1, 20_000)

    def predict(x, candidates):
        likelihood = []
        for c in candidates:
            squared = np.zeros_like(reach)
            for j in range(len(x)):
                squared += (x[j] - centre[j] - reach * outward[c, j]) ** 2
            likelihood.append(np.exp(-squared / (2 * noise**2)).mean())
        return candidates[int(np.argmax(likelihood))]

    expected = scores(dataset, predict)
    for key, value in dataset.bayes.items():
        assert value == pytest.approx(expected[key], abs=0.07), key  # two images of 30 may sit on a border


def test_images_follow_the_law():
    """Moments of many images of each class: m + E[t] (mu - m), and the variance along and across that ray."""
    noise, hubness = 0.2, 0.6
    dataset = plant(**TINY | {"images_per_class": 4000}, noise=noise, hubness=hubness, seed=1)
    centre, outward = law(1, hubness)
    for c in range(7):
        x = dataset.features[dataset.labels == c].astype(np.float64) - centre
        np.testing.assert_allclose(x.mean(axis=0), (1 - hubness / 2) * outward[c], atol=0.03)
        expected = noise**2 * np.eye(4) + hubness**2 / 12 * np.outer(outward[c], outward[c])
        np.testing.assert_allclose(np.cov(x.T), expected, atol=0.012)


def test_no_rule_beats_bayes_on_average():
    noise, hubness = 0.6, 0.8
    bayes, nearest = [], []
    for seed in range(12):
        dataset = plant(**TINY, noise=noise, hubness=hubness, seed=seed)
        centre, outward = law(seed, hubness)
        prototypes = centre + outward

        def predict(x, candidates, prototypes=prototypes):
            return candidates[int(np.argmin([np.sum((x - prototypes[c]) ** 2) for c in candidates]))]

        bayes.append(dataset.bayes["zsl/top1"])
        nearest.append(scores(dataset, predict)["zsl/top1"])
    assert np.mean(bayes) > np.mean(nearest)


def test_bayes_of_two_classes_by_hand():
    """With two prototypes at distance D and no hubness it is Phi(D / 2 noise), up to the luck of 8000 images."""
    sizes = dict(n_classes=4, n_unseen=2, n_attributes=3, n_features=3, images_per_class=4000, noise=0.8, hubness=0)
    dataset = plant(**sizes)
    _, outward = law(0, 0, n_classes=4, n_features=3)
    a, b = outward[dataset.unseen]
    assert 0.6 < dataset.bayes["zsl/top1"] < 0.95
    assert dataset.bayes["zsl/top1"] == pytest.approx(ndtr(np.linalg.norm(a - b) / 1.6), abs=0.015)


@pytest.mark.parametrize("hubness", [1e-15, 1e-7, 1e-5, 1.0])
def test_likelihood_at_the_edges(hubness):
    """A prototype that is the centre, an image that is, reaches that hardly differ: all finite, order kept."""
    outward = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    found = synthetic._log_likelihood(
        np.array([[0.0, 0.0], [0.99, 0.0], [0.0, 1.99], [300.0, 0.0]]), outward, 0.01, hubness
    )
    assert np.isfinite(found).all()
    assert found.argmax(axis=1).tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize("seed", range(3))
def test_without_hubness_bayes_is_the_nearest_prototype(seed):
    """The prototypes are read off a set without noise, by nothing but the public door."""
    clean = plant(**TINY, noise=0, hubness=0, seed=seed)
    prototypes = [clean.features[clean.labels == c].astype(np.float64).mean(axis=0) for c in range(7)]
    dataset = plant(**TINY, noise=0.4, hubness=0, seed=seed)

    def predict(x, candidates):
        return candidates[int(np.argmin([np.sum((x - prototypes[c]) ** 2) for c in candidates]))]

    assert dict(dataset.bayes) == pytest.approx(scores(dataset, predict))


def test_without_noise_everything_is_known():
    assert set(plant(**TINY, noise=0, hubness=0).bayes.values()) == {1.0}


def test_noise_hides_the_classes():
    sizes = TINY | {"images_per_class": 40}
    levels = [np.mean([plant(**sizes, noise=z, seed=s).bayes["zsl/top1"] for s in range(4)]) for z in (0.1, 0.5, 2, 20)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 0.9 and levels[-1] < 0.5  # chance is a third


def test_hubness_zero_keeps_prototypes_and_shrinking_is_bounded():
    raw = law(3, 0.0)
    for hubness in (0.3, 1.0):
        centre, outward = law(3, hubness)
        np.testing.assert_array_equal(centre, raw[0])
        keep = np.linalg.norm(outward, axis=1) / np.linalg.norm(raw[1], axis=1)
        assert (keep <= 1 + 1e-6).all() and (keep >= 1 - 0.6 * hubness - 1e-6).all()
        np.testing.assert_allclose(outward, keep[:, None] * raw[1], rtol=1e-5, atol=1e-6)


def occurrence_skewness(dataset):
    """N_1 of the means of the unseen classes among the unseen images."""
    images = dataset.splits["test_unseen"]
    x, y = dataset.features[images], dataset.labels[images]
    means = np.array([x[y == c].mean(axis=0) for c in dataset.unseen])
    counts = np.zeros(len(means))
    for row in x:
        counts[np.argmin(np.sum((means - row) ** 2, axis=1))] += 1
    return skew(counts) if counts.std() > 0 else 0.0  # every class equally often


def test_hubness_makes_hubs():
    """The third moment of 30 counts is noisy, so on average over seeds."""
    sizes = dict(n_classes=60, n_unseen=30, images_per_class=20, noise=0.6)

    def mean(hubness):
        return np.mean([occurrence_skewness(plant(**sizes, hubness=hubness, seed=s)) for s in range(8)])

    none, some, full = mean(0.0), mean(0.6), mean(1.0)
    assert none < 0.1 and some > none + 0.1 and full > some + 1.0


def test_the_seed_is_the_set():
    first, again, other = (plant(**TINY, seed=s) for s in (4, 4, 5))
    assert first.fingerprints == again.fingerprints and first.bayes == again.bayes
    assert all(first.fingerprints[k] != other.fingerprints[k] for k in first.fingerprints)


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 14), st.data())
def test_any_size_keeps_the_promises(n_classes, data):
    n_unseen = data.draw(st.integers(1, n_classes - 2))
    images, width, a = (data.draw(st.integers(*span)) for span in ((3, 11), (1, 6), (1, 4)))
    dataset = plant(
        n_classes=n_classes, n_unseen=n_unseen, n_attributes=a, n_features=width, images_per_class=images, seed=images
    )
    assert dataset.features.shape == (n_classes * images, width) and dataset.features.dtype == np.float32
    assert dataset.semantics.shape == (n_classes, a) and np.abs(dataset.semantics).max() <= 1
    assert len(dataset.unseen) == n_unseen and len(dataset.seen) == n_classes - n_unseen
    held = max(1, round(0.2 * images))
    assert len(dataset.splits["test_seen"]) == held * (n_classes - n_unseen)
    assert len(dataset.splits["trainval"]) == (images - held) * (n_classes - n_unseen)
    assert len(dataset.splits["test_unseen"]) == images * n_unseen
    trainval = set(dataset.splits["trainval"].tolist())
    assert set(dataset.splits["train"].tolist()) | set(dataset.splits["val"].tolist()) == trainval
    assert len(dataset.splits["train"]) and len(dataset.splits["val"])
    assert dataset.validation_view().version == "planted+val"


def test_labels_and_names():
    dataset = plant(**TINY)
    assert dataset.labels.tolist() == [c for c in range(7) for _ in range(10)]
    assert dataset.classes == tuple(f"class_{c}" for c in range(7))
    assert plant(**TINY | {"n_classes": 11}).classes[3] == "class_03"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_classes", 2),
        ("n_unseen", 0),
        ("n_attributes", 0),
        ("n_features", 0),
        ("images_per_class", 2),
        ("noise", -0.1),
        ("noise", float("nan")),
        ("hubness", 1.1),
        ("hubness", -0.5),
    ],
)
def test_settings_out_of_range(setting, value, refused):
    with refused(f"data.planted.{setting} is {value}"):
        plant(**TINY | {setting: value})


def test_too_few_seen_classes(refused):
    with refused("6 of 7", "two seen"):
        plant(**TINY | {"n_unseen": 6})
