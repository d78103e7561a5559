"""What every data set promises: sides, ids, items; a Spec that goes through JSON; and ClassSet keeps it."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from demjax.data import ClassSet, Dataset, Spec, load, open_npy
from demjax.data.semantics import SCALES, scale_semantics
from demjax.data.text.captions import OF_CLASS, Caption

PLANTED = dict(n_classes=8, n_unseen=2, n_attributes=5, n_features=4, images_per_class=6)


@pytest.fixture
def bare():
    return load("planted", planted=PLANTED)


@pytest.fixture
def described(bare):
    """Class c has c + 1 sentences; those of an unseen class have a word that no other has."""
    rare = {int(c) for c in bare.unseen}
    captions = [
        Caption(c, OF_CLASS, f"Sentence {i} of class {c}" + " zebra" * (c in rare))
        for c in range(8)
        for i in range(c + 1)
    ]
    return bare.with_descriptions(captions, "by hand")


def test_a_class_set_is_a_dataset_and_other_things_are_not(bare, described):
    assert isinstance(bare, Dataset) and isinstance(described, Dataset)
    assert not isinstance("planted", Dataset) and not isinstance(bare.spec, Dataset)


def test_asking_what_it_is_reads_no_file(bare, tmp_path):
    """A file that is not finite: reading it would raise."""
    features = bare.features.copy()
    features[0, 0] = np.nan
    np.save(tmp_path / "x.npy", features)
    assert isinstance(dataclasses.replace(bare, features=open_npy(tmp_path / "x.npy")), Dataset)


def test_fingerprints_of_planted_sets_do_not_move(bare):
    """Of runs that have been reported: the digests stand in their provenance."""
    assert bare.fingerprints == {
        "features": "ba0bbb0ac48c1d0b",
        "semantics": "da89c7cfe65db8d2",
        "splits": "2b3850b0cfebe18b",
    }
    assert load("planted").fingerprints == {
        "features": "5349231827388e7f",
        "semantics": "3cea997ddb7b0bb1",
        "splits": "56f3756170e566a7",
    }
    generated = load("planted", planted=PLANTED, descriptions="generated")
    assert generated.fingerprints == bare.fingerprints | {"descriptions": "2e7b6ad8924f1046"}


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_a_view_made_in_memory_is_the_view_that_is_loaded(fold, tmp_path):
    name = "val" if fold == 1 else f"val{fold}"
    file = tmp_path / "c.csv"
    classes = load("planted", planted=PLANTED).classes
    file.write_text("class,caption\n" + "".join(f"{name},this is {name}\n" for name in classes))
    for descriptions in ("", "generated", str(file)):
        whole = load("planted", planted=PLANTED, descriptions=descriptions)
        view = whole.validation_view(fold=fold)
        loaded = load("planted", planted=PLANTED, descriptions=descriptions, fold=name)
        assert view.fingerprints == loaded.fingerprints and view.sources == loaded.sources
        assert view.version == loaded.version and view.spec == loaded.spec and view.summary() == loaded.summary()
        assert whole.training == view.training == "trainval"
        assert view.is_validation_view and not whole.is_validation_view


def test_generated_views_are_those_of_before():
    digests = {fold: load("planted", planted=PLANTED, descriptions="generated", fold=fold) for fold in ("val", "val2")}
    assert {fold: view.fingerprints["descriptions"] for fold, view in digests.items()} == {
        "val": "192f0c63f334e149",
        "val2": "192f0c63f334e149",
    }
    assert {fold: view.fingerprints["splits"] for fold, view in digests.items()} == {
        "val": "2c829cf83bf14b99",
        "val2": "e619a81fd6336a4b",
    }


def test_ids_of_every_side(described):
    for split, ids in described.splits.items():
        assert described.ids("image", split).tolist() == ids.tolist()
    assert described.ids("class", "all").tolist() == list(range(8))
    assert described.ids("class", "seen").tolist() == described.seen.tolist()
    assert described.ids("class", "unseen").tolist() == described.unseen.tolist()
    numbers = [(c, i) for c in range(8) for i in range(c + 1)]  # of the sentences, in order
    for split, classes in (("all", range(8)), ("seen", described.seen), ("unseen", described.unseen)):
        expected = [n for n, (c, _) in enumerate(numbers) if c in classes]
        assert described.ids("text", split).tolist() == expected


def test_items_of_every_side(described):
    images = np.array([7, 0, 7])
    features = described.items("image", images, ("features",))["features"]
    np.testing.assert_array_equal(features, described.features[images])
    of_class = described.items("class", np.array([2, 0]), ("id", "semantics", "sentences"))
    assert of_class["id"].tolist() == [2, 0] and list(of_class) == ["id", "semantics", "sentences"]
    np.testing.assert_array_equal(of_class["semantics"], described.semantics[[2, 0]])
    plain = [[s.replace(" zebra", "") for s in sentences] for sentences in of_class["sentences"]]
    assert plain == [[f"Sentence {i} of class 2" for i in range(3)], ["Sentence 0 of class 0"]]
    assert isinstance(of_class["sentences"], tuple) and isinstance(of_class["sentences"][0], tuple)
    text = described.items("text", np.array([3, 0]), ("sentences", "label", "semantics"))
    assert [s.replace(" zebra", "") for s in text["sentences"]] == ["Sentence 0 of class 2", "Sentence 0 of class 0"]
    assert text["label"].tolist() == [2, 0] and isinstance(text["sentences"], tuple)
    np.testing.assert_array_equal(text["semantics"], described.semantics[[2, 0]])


def test_items_are_copies_and_of_a_file_only_what_is_asked_for(described, tmp_path):
    before = described.fingerprints
    for side, columns in described.spec.columns.items():
        for value in described.items(side, np.array([0]), tuple(columns)).values():
            if isinstance(value, np.ndarray):
                value[:] = 9
    assert dataclasses.replace(described).fingerprints == before
    np.save(tmp_path / "x.npy", described.features)
    mapped = dataclasses.replace(described, features=open_npy(tmp_path / "x.npy"))
    features = mapped.items("image", np.array([5, 6]), ("features",))["features"]
    assert type(features) is np.ndarray and features.tolist() == described.features[5:7].tolist()


@pytest.mark.parametrize("ids", [[], [3]])
def test_no_item_and_one_item(described, ids):
    for side, columns in described.spec.columns.items():
        items = described.items(side, np.array(ids, int), tuple(columns))
        assert {len(value) for value in items.values()} == {len(ids)}


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda d: d.ids("pixels", "all"), ("planted has no side 'pixels'", "it has image, class")),
        (lambda d: d.ids("image", "tests"), ("side image", "no split 'tests'", "trainval, test_seen, test_unseen")),
        (lambda d: d.ids("class", "trainval"), ("side class", "no split 'trainval'", "it has all, seen, unseen")),
        (lambda d: d.ids("text", "all"), ("no side 'text'", "it has image, class", "data.descriptions")),
        (lambda d: d.items("image", np.array([0]), ("pixels",)), ("no column 'pixels'", "it has features")),
        (lambda d: d.items("class", np.array([0]), ("sentences",)), ("no column 'sentences'", "id, semantics")),
        (lambda d: d.items("words", np.array([0]), ()), ("no side 'words'",)),
    ],
)
def test_what_a_set_does_not_have(bare, refused, ask, named):
    with refused(*named):
        ask(bare)


def test_spec_of_a_set(bare, described):
    spec = bare.spec
    assert (spec.name, spec.kind, spec.classes, spec.parts) == ("planted", "ClassSet", bare.classes, {})
    assert (spec.n_features, spec.n_semantics, spec.n_classes, spec.n_seen) == (4, 5, 8, 6)
    assert spec.seen == tuple(bare.seen) and spec.unseen == tuple(bare.unseen)
    assert spec.columns == {"image": {"features": (4,)}, "class": {"id": (), "semantics": (5,)}}
    assert not spec.has_captions and spec.vocabulary == ()
    with_text = described.spec
    assert with_text.has_captions and with_text.columns["text"] == {"sentences": (), "label": (), "semantics": (5,)}
    assert {"sentence", "class", "of"} <= set(with_text.vocabulary) and "zebra" not in with_text.vocabulary
    assert with_text.vocabulary == tuple(sorted(with_text.vocabulary))


def test_the_vocabulary_knows_no_word_of_a_test_image(bare):
    label, seen = bare.labels, bare.splits["trainval"][0]
    test = next(i for i in bare.splits["test_seen"] if label[i] == label[seen])
    captions = [Caption(c, OF_CLASS, "plain") for c in range(8)]
    captions += [Caption(int(label[i]), int(i), word) for i, word in ((seen, "trained"), (test, "secret"))]
    assert bare.with_descriptions(captions, "by hand").spec.vocabulary == ("plain", "trained")


def test_a_spec_goes_through_json(described):
    for spec in (described.spec, dataclasses.replace(described.spec, parts={"att": 3, "wv": 2})):
        again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec and type(again.seen) is tuple and again.columns["image"]["features"] == (4,)
    with pytest.raises(ValueError, match="a Spec has the fields"):
        Spec.from_json({"name": "x"})


def test_summary_is_one_line(bare, described):
    assert bare.summary() == "planted (planted): 48 images x 4 features, 6 seen and 2 unseen classes x 5 semantics"
    assert described.summary() == bare.summary() + ", 36 descriptions (by hand)"


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(2, 40)), elements=st.floats(-9, 9, width=32)),
    st.sampled_from(sorted(SCALES)),
    st.data(),
)
def test_scaled_items_are_rows_of_the_scaled_table(semantics, how, data):
    """Bit for bit, whatever rows are asked for, and each source on its own."""
    first = data.draw(st.integers(1, semantics.shape[1] - 1))
    rows = np.array(data.draw(st.lists(st.integers(0, len(semantics) - 1), min_size=1, max_size=5)))
    for parts in ({}, {"a": first, "b": semantics.shape[1] - first}):
        table = scale_semantics(semantics, how, parts)
        assert table.dtype == np.float32
        np.testing.assert_array_equal(scale_semantics(semantics[rows], how, parts), table[rows])
    blocks = [scale_semantics(x, how) for x in (semantics[:, :first], semantics[:, first:])]
    np.testing.assert_array_equal(table, np.concatenate(blocks, axis=1))


def test_class_vectors_are_scaled_semantics(bare):
    two = dataclasses.replace(bare, parts={"a": 2, "b": 3})
    for how in SCALES:
        sources = two.class_vectors_by_source(how)
        assert [(name, x.shape) for name, x in sources.items()] == [("a", (8, 2)), ("b", (8, 3))]
        np.testing.assert_array_equal(two.class_vectors(how), np.concatenate(list(sources.values()), axis=1))
        raw = two.items("class", np.array([4, 1]), ("semantics",))["semantics"]
        np.testing.assert_array_equal(scale_semantics(raw, how, two.spec.parts), two.class_vectors(how)[[4, 1]])


def test_load_gives_a_class_set():
    assert isinstance(load("planted", planted=PLANTED), ClassSet)
