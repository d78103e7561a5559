"""Characters and words as numbers: the alphabet with its doubled hyphen, unknown ones, cutting, vocabulary."""

import numpy as np
import pytest

from demjax.data.text import vocabulary as text


def spelled(row):
    return "".join(text.ALPHABET[i - 1] if i else "_" for i in row)


def test_the_alphabet():
    assert len(text.ALPHABET) == 70 and text.ALPHABET[:36] == "abcdefghijklmnopqrstuvwxyz0123456789"
    assert [i + 1 for i, c in enumerate(text.ALPHABET) if c == "-"] == [37, 60]
    assert text.ALPHABET.index(" ") == 69


def test_the_later_hyphen_wins():
    assert text.characters(["a-b"])[0, :3].tolist() == [1, 60, 2]


def test_lower_case_spaces_and_length():
    ids = text.characters(["The  Bird\n has 2.", "x" * 300], length=201)
    assert ids.shape == (2, 201) and ids.dtype == np.uint8
    assert spelled(ids[0, :15]) == "the bird has 2." and (ids[0, 15:] == 0).all() and (ids[1] == 24).all()


def test_an_unknown_character_is_a_gap_and_reading_goes_on():
    assert text.characters(["bé, ø!"])[0, :6].tolist() == [2, 0, 38, 70, 0, 41]


def test_only_unknown_characters(refused):
    with refused("description 1 (0-based)", "(1 such)"):
        text.characters(["a", "чайка"])


def test_words_in_any_alphabet():
    assert text.words_of("Chim sẻ, mỏ đen!") == ["chim", "sẻ", "mỏ", "đen"]
    assert text.words_of("... 12 -- ") == ["12"]
    assert text.words_of("हिन्दी cafe\u0301 the bird’s") == ["हिन्दी", "café", "the", "bird's"]  # marks are part of words


def test_vocabulary_and_numbers_by_hand():
    known = text.vocabulary(["a big owl", "an owl", "a gull"])
    assert known == ("a", "an", "big", "gull", "owl")
    ids = text.numbered(["an owl", "a small wren", "a a a a"], known, length=3)
    assert ids.tolist() == [[3, 6, 0], [2, text.UNKNOWN, text.UNKNOWN], [2, 2, 2]]


def test_rare_words_and_words_behind_the_cut_are_no_vocabulary():
    assert text.vocabulary(["x y " * 40 + "late", "x z"], length=30, least=2) == ("x", "y")


def test_no_word(refused):
    with refused("description 1 (0-based)", "'...'", "has no word"):
        text.numbered(["a", "..."], ("a",))


def test_the_report_of_unknown_words():
    told = text.unknown_report(["a big big owl", "a wren"], ("a", "owl"))
    assert told == "50.0 % of the words (2 different ones) are unknown: big, wren"
    assert text.unknown_report(["a"], ("a",)) == "0.0 % of the words (0 different ones) are unknown"


@pytest.mark.parametrize("n", [0, 1, 3])
def test_any_number_of_sentences(n):
    assert text.characters(["ab"] * n).shape == (n, 201) and text.numbered(["ab"] * n, ("ab",)).shape == (n, 30)
