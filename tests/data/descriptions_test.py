"""Sentences of classes: words, vocabulary of the seen, files, generated captions."""

import json

import numpy as np
import pytest

from demjax.data import descriptions as text
from demjax.data import load, synthetic
from demjax.data.descriptions import PADDING, UNKNOWN, encode, generate, read_jsonl, words_of

CLASSES = ("owl", "gull", "wren")


def test_words_in_any_alphabet():
    assert words_of("Chim sẻ, mỏ đen!") == ["chim", "sẻ", "mỏ", "đen"]
    assert words_of("... 12 -- ") == ["12"]


def test_encode_by_hand():
    found = encode([["a big owl", "an owl"], ["a gull"], ["a small wren"]], np.array([0, 1]), length=3)
    assert found.words == ("a", "an", "big", "gull", "owl")
    number = {word: i + 2 for i, word in enumerate(found.words)}
    expected = [
        [number["a"], number["big"], number["owl"]],
        [number["an"], number["owl"], PADDING],
        [number["a"], number["gull"], PADDING],
        [number["a"], UNKNOWN, UNKNOWN],  # small and wren are words of an unseen class only
    ]
    assert found.tokens.tolist() == expected
    assert found.first.tolist() == [0, 2, 3] and found.count.tolist() == [2, 1, 1]
    some = found.of(np.array([2, 0]))
    assert some.tokens.tolist() == [expected[3], expected[0], expected[1]] and some.first.tolist() == [0, 1]


def test_long_sentences_are_cut_and_rare_words_unknown():
    found = encode([["x y " * 40], ["x z"]], np.array([0, 1]), length=30, least=2)
    assert found.tokens.shape == (2, 30) and found.words == ("x", "y")
    assert found.tokens[1].tolist() == [2, UNKNOWN] + [PADDING] * 28


def test_a_file_is_joined_by_name(tmp_path):
    lines = [("wren", "Small. Brown!"), ("owl", "Big.\nAwake at night."), ("gull", "White; loud."), ("owl", "Wise.")]
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps({"class": c, "text": t}) + "\n" for c, t in lines) + "\n")
    assert read_jsonl(file, CLASSES) == [
        ["Big.", "Awake at night.", "Wise."],
        ["White; loud."],
        ["Small.", "Brown!"],
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"class": "owl"}', 'line 1: expected {"class": ..., "text": ...}'),
        ("owl big", "line 1: expected"),
        ('{"class": "owl", "text": 3}', "line 1: expected text"),
        ('{"class": "emu", "text": "x"}', "line 1 describes 'emu', which is no class"),
        ('{"class": "owl", "text": "x"}', "does not describe 2 classes: gull, wren"),
    ],
)
def test_bad_files(tmp_path, refused, content, told):
    file = tmp_path / "t.jsonl"
    file.write_text(content)
    with refused("t.jsonl", told):
        read_jsonl(file, CLASSES)


def test_no_file_and_a_class_without_words(tmp_path, refused):
    with refused("none.jsonl", "no such file"):
        read_jsonl(tmp_path / "none.jsonl", CLASSES)
    with refused("classes 1 (0-based) have no sentence"):
        encode([["a"], ["..."]], np.array([0]))


def test_generated_captions_say_what_the_table_says():
    table = np.zeros((3, 6))
    table[0, :3], table[1, 3:], table[2, 3:] = 1.0, [1.0, 0.5, 0.2], [1.0, 0.3, 0.0]
    sentences = generate(table, per_class=400, told=2)
    assert {w for s in sentences[0] for w in words_of(s)} == {"attribute1", "attribute2", "attribute3"}
    assert all(len(set(words_of(s))) == 2 for of_class in sentences for s in of_class)
    assert all(words_of(s) == sorted(words_of(s)) for of_class in sentences for s in of_class)
    one = [[words_of(s)[0] for s in of_class] for of_class in generate(table, per_class=2000, told=1)]
    # relative to the largest of its column: class 1 has all three in full, class 2 the first in full, the second by 0.6
    assert all(one[1].count(f"attribute{j}") / 2000 == pytest.approx(1 / 3, abs=0.05) for j in (4, 5, 6))
    assert one[2].count("attribute5") / 2000 == pytest.approx(0.36 / 1.36, abs=0.05) and "attribute6" not in one[2]
    assert generate(table, seed=1) != generate(table, seed=2) and generate(table) == generate(table)


def test_loaded_with_the_set_and_in_the_validation_view():
    small = dict(n_classes=12, n_unseen=3, n_attributes=6, n_features=8, images_per_class=10)
    whole, view = (load("planted", planted=small, fold=fold, descriptions="generated") for fold in ("test", "val"))
    assert whole.sources["descriptions"] == "generated" and "descriptions" in whole.fingerprints
    assert len(view.descriptions.count) == len(view.classes) < 12
    c = whole.classes.index(view.classes[1])
    own = whole.descriptions.of(np.array([c])).tokens.shape
    assert own == view.descriptions.of(np.array([1])).tokens.shape
    assert synthetic.plant(**small).descriptions is None and text.FIRST_WORD == 2


def test_the_view_has_no_words_of_validation_classes(tmp_path):
    """Its unseen classes must stay unknown there too."""
    small = dict(n_classes=12, n_unseen=3, n_attributes=6, n_features=8, images_per_class=10)
    plain = load("planted", planted=small)
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps({"class": c, "text": f"word {c}x"}) + "\n" for c in plain.classes))
    view = load("planted", planted=small, fold="val", descriptions=str(file))
    assert set(view.descriptions.words) == {"word", *(f"{view.classes[c]}x" for c in view.seen)}
