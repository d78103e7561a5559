import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demjax.data.class_set import ClassSet, scale_semantics

NAMES = ("ant", "bee", "cat", "dog", "eel")
ROLES = {  # image i is of class i // 5; seen: ant, bee, dog (bee is val); unseen: cat, eel
    "trainval": [0, 1, 2, 3, 5, 6, 7, 8, 15, 16, 17, 18],
    "test_seen": [4, 9, 19],
    "test_unseen": [10, 11, 12, 13, 14, 20, 21, 22, 23, 24],
    "train": [0, 1, 2, 3, 15, 16, 17, 18],
    "val": [5, 6, 7, 8],
}


def parts(**changed):
    rng = np.random.default_rng(3)
    fields = {
        "name": "toy",
        "features": rng.standard_normal((25, 3)).astype(np.float32),
        "labels": np.arange(25) // 5,
        "classes": NAMES,
        "semantics": rng.standard_normal((5, 2)).astype(np.float32),
        "splits": {k: np.array(v) for k, v in ROLES.items()},
        "version": "ps2",
        "sources": {"features": "a", "semantics": "b"},
    }
    return fields | changed


def with_value(array, at, value):
    changed = array.copy()
    changed[at] = value
    return changed


def test_seen_and_unseen():
    dataset = ClassSet(**parts())
    assert dataset.seen.tolist() == [0, 1, 3]
    assert dataset.unseen.tolist() == [2, 4]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_not_finite(bad, refused):
    with refused("image 17", "NaN or Inf", "1 such rows"):
        ClassSet(**parts(features=with_value(parts()["features"], (17, 1), bad)))


def test_inf_that_cancels_is_found(refused):
    features = with_value(parts()["features"], (slice(8, 10), 0), np.inf)
    features[8:10, 1] = -np.inf
    with refused("image 8", "2 such rows"):
        ClassSet(**parts(features=features))


def test_large_finite_features_are_fine():
    """Their sum overflows; they themselves do not."""
    features = with_value(parts()["features"], 6, np.float32(3e38))
    assert ClassSet(**parts(features=features)).features[6, 0] == np.float32(3e38)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_features_of_another_type(dtype, refused):
    with refused("features are", np.dtype(dtype).name, "float32"):
        ClassSet(**parts(features=parts()["features"].astype(dtype)))


def test_features_transposed(refused):
    with refused("(3, 25)", "25 images", "transposed"):
        ClassSet(**parts(features=parts()["features"].T))


def test_features_for_another_number_of_images(refused):
    with refused("(24, 3)", "25 images"):
        ClassSet(**parts(features=parts()["features"][:24]))


@pytest.mark.parametrize(("label", "at"), [(5, 24), (-1, 3)])
def test_label_outside_the_table(label, at, refused):
    with refused(f"image {at} ", f"label {label} ", "0 to 4"):
        ClassSet(**parts(labels=with_value(parts()["labels"], at, label)))


def test_doubled_class_names(refused):
    with refused("ant", "twice"):
        ClassSet(**parts(classes=("ant", "bee", "cat", "dog", "ant")))


@pytest.mark.parametrize("shape", [(4, 2), (6, 2), (5,), (5, 2, 1)])
def test_semantics_for_other_classes(shape, refused):
    with refused("semantics have shape", shape, "5 classes"):
        ClassSet(**parts(semantics=np.zeros(shape, np.float32)))


def test_semantics_not_finite(refused):
    with refused("'dog'", "NaN or Inf"):
        ClassSet(**parts(semantics=with_value(parts()["semantics"], (3, 0), np.nan)))


def test_splits_are_checked(refused):
    """All of them: tests/data/splits_test.py. Here: that a ClassSet does."""
    with refused("trainval", "test_seen", "the first is 4"):
        ClassSet(**parts(splits=parts()["splits"] | {"trainval": np.array([*ROLES["trainval"], 4])}))


def test_fingerprints_do_not_depend_on_memory_order():
    dataset = ClassSet(**parts())
    other = ClassSet(**parts(features=np.asfortranarray(parts()["features"]), labels=np.arange(50)[::2] // 10))
    assert dataset.fingerprints == other.fingerprints
    assert all(len(v) == 16 and int(v, 16) >= 0 for v in dataset.fingerprints.values())


@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        ({"features": with_value(parts()["features"], (0, 0), 9)}, {"features"}),
        ({"labels": with_value(parts()["labels"], [10, 20], [4, 2])}, {"features"}),  # two unseen images swapped
        ({"semantics": with_value(parts()["semantics"], (0, 0), 9)}, {"semantics"}),
        ({"classes": ("Ant", *NAMES[1:])}, {"semantics", "splits"}),
        ({"splits": parts()["splits"] | {"val": np.array([5, 6, 7])}}, {"splits"}),
        ({"name": "another", "version": "custom", "sources": {}}, set()),
    ],
)
def test_fingerprints_tell_what_changed(changed, moved):
    before, after = ClassSet(**parts()).fingerprints, ClassSet(**parts(**changed)).fingerprints
    assert {k for k in before if before[k] != after[k]} == moved


@pytest.fixture
def numbered():
    """Features that carry the image number, semantics that carry the class number."""
    return ClassSet(
        **parts(
            features=np.repeat(np.arange(25, dtype=np.float32)[:, None], 3, axis=1),
            semantics=np.repeat(np.arange(5, dtype=np.float32)[:, None], 2, axis=1),
        )
    )


def test_validation_view_holds_nothing_of_the_test(numbered):
    view = numbered.validation_view()
    images = set(view.features[:, 0].astype(int).tolist())
    assert images == set(ROLES["train"]) | set(ROLES["val"])
    assert not images & (set(ROLES["test_seen"]) | set(ROLES["test_unseen"]))
    assert view.classes == ("ant", "bee", "dog")
    assert view.semantics[:, 0].tolist() == [0, 1, 3]


def test_validation_view_roles(numbered):
    view = numbered.validation_view()
    in_role = {k: set(view.features[ids, 0].astype(int).tolist()) for k, ids in view.splits.items()}
    assert in_role["test_unseen"] == set(ROLES["val"])
    assert in_role["trainval"] | in_role["test_seen"] == set(ROLES["train"])
    assert [sum(i // 5 == c for i in in_role["test_seen"]) for c in (0, 1, 3)] == [1, 0, 1]  # round(0.2 * 4)
    assert not in_role["trainval"] & in_role["test_seen"]
    assert in_role["train"] == in_role["val"] == set()
    assert [view.classes[c] for c in view.seen] == ["ant", "dog"]
    assert [view.classes[c] for c in view.unseen] == ["bee"]
    assert view.version == "ps2+val"


def test_validation_view_keeps_images_with_their_classes(numbered):
    view = numbered.validation_view()
    for x, label in zip(view.features[:, 0], view.labels, strict=True):
        assert view.classes[label] == NAMES[int(x) // 5]


def test_validation_view_is_the_same_every_time_and_follows_its_seed():
    dataset = ClassSet(**parts())
    assert dataset.validation_view().fingerprints == dataset.validation_view().fingerprints
    views = {str(dataset.validation_view(seed=s).fingerprints) for s in range(6)}
    assert len(views) > 1


def test_validation_view_takes_its_share(numbered):
    assert len(numbered.validation_view(share=0.5).splits["test_seen"]) == 4


def test_validation_view_does_not_look_at_the_test():
    """Other test images, another unseen class table: the same view."""
    first = ClassSet(**parts())
    features, semantics = first.features.copy(), first.semantics.copy()
    features[ROLES["test_seen"] + ROLES["test_unseen"]] = 77
    semantics[[2, 4]] = 77
    second = ClassSet(**parts(features=features, semantics=semantics))
    assert first.validation_view().fingerprints == second.validation_view().fingerprints


@pytest.mark.parametrize("empty", ["train", "val"])
def test_validation_view_without_a_fold(empty, refused):
    with refused("toy", f"0 {empty}", "no validation fold"):
        ClassSet(**parts(splits=parts()["splits"] | {empty: np.array([], np.int64)})).validation_view()


def test_validation_view_of_a_view(refused):
    with refused("toy", "no validation fold"):
        ClassSet(**parts()).validation_view().validation_view()


def test_dataset_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClassSet(**parts()).name = "other"


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 99))
def test_scales(n_classes, width, seed):
    table = np.random.default_rng(seed).normal(size=(n_classes, width)) * 100
    assert scale_semantics(table, "none").tolist() == table.astype(np.float32).tolist()
    for how, norm in (("unit", 1.0), ("sqrt", width**0.5)):
        scaled = scale_semantics(table, how)
        assert scaled.dtype == np.float32
        for row, raw in zip(scaled.astype(float), table, strict=True):
            assert sum(v * v for v in row) ** 0.5 == pytest.approx(norm, rel=1e-5)
            np.testing.assert_allclose(row, raw * norm / sum(v * v for v in raw) ** 0.5, rtol=1e-5)


def test_scale_leaves_a_row_of_zeros():
    assert scale_semantics(np.array([[0.0, 0.0], [3.0, 4.0]]), "unit").tolist() == [
        [0.0, 0.0],
        [np.float32(0.6), np.float32(0.8)],
    ]


def test_unknown_scale(refused):
    with refused("'squrt'", "did you mean 'sqrt'?"):
        scale_semantics(np.ones((2, 2)), "squrt")
