import dataclasses

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data import Dataset, synthetic
from demjax.data.dataset import SCALES, scale_semantics


@pytest.fixture(scope="module")
def dataset():
    return synthetic.plant(n_classes=12, n_unseen=4, n_attributes=5, n_features=8, images_per_class=10)


def test_validation_view_holds_no_test_image_and_no_unseen_class(dataset):
    view = dataset.validation_view()
    test = np.concatenate([dataset.splits["test_seen"], dataset.splits["test_unseen"]])
    rows = {row.tobytes() for row in view.features}
    assert not rows & {row.tobytes() for row in dataset.features[test]}
    assert len(rows) == len(dataset.splits["trainval"])
    assert not set(view.classes) & {dataset.classes[c] for c in dataset.unseen}
    vectors = {row.tobytes() for row in view.semantics}
    assert not vectors & {row.tobytes() for row in dataset.semantics[dataset.unseen]}


def test_validation_view_roles(dataset):
    view = dataset.validation_view()
    name = lambda d, ids: {d.classes[c] for c in d.labels[ids]}  # noqa: E731
    assert name(view, view.splits["test_unseen"]) == name(dataset, dataset.splits["val"])
    assert name(view, view.splits["trainval"]) == name(dataset, dataset.splits["train"])
    assert name(view, view.splits["test_seen"]) == name(dataset, dataset.splits["train"])
    by_row = {row.tobytes(): dataset.classes[c] for row, c in zip(dataset.features, dataset.labels, strict=True)}
    for row, c in zip(view.features, view.labels, strict=True):
        assert by_row[row.tobytes()] == view.classes[c]
    held = len(view.splits["test_seen"]) / (len(view.splits["test_seen"]) + len(view.splits["trainval"]))
    assert held == pytest.approx(0.25, abs=0.01)  # 2 of the 8 training images of a class: round(0.2 * 8)


def test_validation_view_is_the_same_every_time(dataset):
    assert dataset.validation_view().fingerprints == dataset.validation_view().fingerprints
    assert dataset.validation_view(seed=1).fingerprints != dataset.validation_view().fingerprints


def test_a_view_of_a_view_is_refused(dataset):
    with pytest.raises(UserError, match="no validation fold"):
        dataset.validation_view().validation_view()


@pytest.mark.parametrize("part", ["features", "semantics", "splits"])
def test_fingerprints_see_their_part_only(dataset, part):
    changes = {
        "features": dict(features=dataset.features + np.float32(1e-3)),
        "semantics": dict(semantics=dataset.semantics + np.float32(1e-3)),
        "splits": dict(splits=dict(dataset.splits) | {"val": dataset.splits["val"][:-1]}),
    }
    other = dataclasses.replace(dataset, **changes[part])
    assert {k for k in dataset.fingerprints if dataset.fingerprints[k] != other.fingerprints[k]} == {part}


def test_scales_by_loops():
    table = np.array([[3.0, 4.0], [0.0, 0.0], [-1.0, 0.0]], np.float32)
    np.testing.assert_allclose(scale_semantics(table, "none"), table)
    np.testing.assert_allclose(scale_semantics(table, "unit"), [[0.6, 0.8], [0, 0], [-1, 0]], rtol=1e-6)
    root = np.sqrt(2)
    np.testing.assert_allclose(
        scale_semantics(table, "sqrt"), [[0.6 * root, 0.8 * root], [0, 0], [-root, 0]], rtol=1e-6
    )
    assert set(SCALES) == {"none", "unit", "sqrt"}
    with pytest.raises(UserError, match="semantics scale is 'sqr'"):
        scale_semantics(table, "sqr")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: dict(features=d.features.T), "expected .120 images, width.; they look transposed|expected .120"),
        (lambda d: dict(features=d.features.astype(np.float64)), "features are float64: expected float32"),
        (lambda d: dict(features=d.features.astype(np.float16)), "features are float16: expected float32"),
        (lambda d: dict(labels=d.labels + 1), r"has label 12 \(0-based\): expected 0 to 11"),
        (lambda d: dict(classes=("a", "a", *d.classes[2:])), "stand twice: a"),
        (lambda d: dict(semantics=d.semantics[:-1]), "expected one row for each of 12 classes"),
        (lambda d: dict(splits=dict(d.splits) | {"trainval": np.array([], int)}), "split trainval is empty"),
        (lambda d: dict(splits=dict(d.splits) | {"val": np.array([-1])}), "names image -1"),
        (lambda d: dict(splits=dict(d.splits) | {"val": d.splits["train"][:3]}), "in both train and val"),
    ],
)
def test_broken_promises(dataset, change, told):
    import inspect

    build = inspect.unwrap(dataclasses.replace)
    with pytest.raises(UserError, match=told):
        build(dataset, **change(dataset))


def test_arrays_of_your_own_make_a_dataset():
    """Without any file: what someone with features in memory writes."""
    rng = np.random.default_rng(0)
    made = Dataset(
        name="mine",
        features=rng.standard_normal((8, 3)).astype(np.float32),
        labels=np.array([0, 0, 1, 1, 0, 1, 2, 2]),
        classes=("cat", "dog", "yak"),
        semantics=rng.standard_normal((3, 2)).astype(np.float32),
        splits={k: np.array(v, int) for k, v in dict(
            trainval=[0, 1, 2, 3], test_seen=[4, 5], test_unseen=[6, 7], train=[0, 1], val=[2, 3]
        ).items()},
    )  # fmt: skip
    assert made.seen.tolist() == [0, 1] and made.unseen.tolist() == [2]
