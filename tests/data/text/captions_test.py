"""Captions in the order of their classes, which of them serve which image, views, and generated ones."""

import dataclasses

import numpy as np
import pytest

from demjax.data import load
from demjax.data.sources import planted
from demjax.data.text.captions import OF_CLASS, Caption, arrange, generate

NAMES = ("owl", "gull", "wren")
CAPTIONS = [
    Caption(2, 7, "wren at 7"),
    Caption(0, OF_CLASS, "any owl"),
    Caption(2, 5, "wren at 5"),
    Caption(2, 7, "wren at 7 again"),
    Caption(0, 3, "owl at 3"),
    Caption(1, OF_CLASS, "any gull"),
]


def test_order_by_class_then_image():
    found = arrange(CAPTIONS, NAMES)
    assert found.sentences == ("any owl", "owl at 3", "any gull", "wren at 5", "wren at 7", "wren at 7 again")
    assert found.first.tolist() == [0, 2, 3] and found.count.tolist() == [2, 1, 3]
    assert found.image.tolist() == [-1, 3, -1, 5, 7, 7] and found.label.tolist() == [0, 0, 1, 2, 2, 2]
    assert found.rows_of(np.array([2, 0])).tolist() == [3, 4, 5, 0, 1]


def test_which_captions_serve_an_image():
    """Its own; else those of its class; else, where all belong to images, any of the class."""
    first, count = arrange(CAPTIONS, NAMES).captions_for(np.array([7, 5, 9, 3, 4, 8]), np.array([2, 2, 2, 0, 0, 1]))
    assert list(zip(first.tolist(), count.tolist(), strict=True)) == [(4, 2), (3, 1), (3, 3), (1, 1), (0, 1), (2, 1)]


def test_a_view_has_no_word_about_other_images(refused):
    found = arrange(CAPTIONS, NAMES).view(np.array([0, 2]), ("owl", "wren"), *[np.array([3, 5, 6])] * 2)
    assert found.sentences == ("any owl", "owl at 3", "wren at 5") and found.image.tolist() == [-1, 0, 1]
    with refused("1 classes have no description: wren"):
        arrange(CAPTIONS, NAMES).view(np.array([0, 2]), ("owl", "wren"), *[np.array([3])] * 2)


def test_a_class_without_captions(refused):
    with refused("2 classes have no description: owl, wren"):
        arrange([Caption(1, OF_CLASS, "any gull")], NAMES)


def test_generated_captions_say_what_the_table_says():
    table = np.zeros((3, 6))
    table[0, :3], table[1, 3:], table[2, 3:] = 1.0, [1.0, 0.5, 0.2], [1.0, 0.3, 0.0]
    captions = generate(table, per_class=400, n_named=2)
    assert len(captions) == 1200 and generate(table, per_class=400, n_named=2) == captions
    said = np.zeros((3, 6))
    for label, image, sentence in captions:
        told = [int(word.removeprefix("a")) - 1 for word in sentence.split(", ")]
        assert image == OF_CLASS and len(set(told)) == 2 and told == sorted(told)
        said[label, told] += 1
    assert (said[0, 3:] == 0).all() and (said[1:, :3] == 0).all()
    alone = [c.sentence for c in generate(table, per_class=2000, n_named=1) if c.label == 2]
    assert 2.2 < alone.count("a4") / alone.count("a5") < 3.5  # 1 to (0.3 / 0.5)^2: drawn by squared relative value


def test_at_most_half_of_the_table_is_told():
    for caption in generate(np.ones((2, 5)), per_class=3, n_named=28):
        assert len(caption.sentence.split(", ")) == 3


def test_no_word_written_for_a_test_image_is_trained_on(refused):
    found = arrange(CAPTIONS, NAMES)
    training = found.for_training(np.array([5, 9]), np.array([0, 2]), NAMES)
    assert training.sentences == ("any owl", "wren at 5") and training.count.tolist() == [1, 0, 1]
    first, count = training.captions_for(np.array([5, 9]), np.array([2, 2]))
    assert first.tolist() == [1, 1] and count.tolist() == [1, 1]  # 9 has none of its own: never those of image 7
    with refused("1 classes have no description: wren"):
        found.for_training(np.array([3]), np.array([0, 2]), NAMES)


PLANTED = dict(n_classes=12, n_unseen=3, n_attributes=6, n_features=20, images_per_class=13)


def test_a_set_and_its_validation_view_carry_captions(tmp_path):
    whole = load("planted", planted=PLANTED, descriptions="generated")
    assert whole.descriptions is not None and len(whole.descriptions.sentences) == 1200
    assert whole.sources["descriptions"] == "generated" and "descriptions" in whole.fingerprints
    file = tmp_path / "c.csv"
    file.write_text("class,caption\n" + "".join(f"{name},this is {name}\n" for name in whole.classes))
    view = load("planted", planted=PLANTED, descriptions=str(file), fold="val")
    assert view.descriptions is not None and len(view.classes) == 9
    assert view.descriptions.sentences == tuple(f"this is {name}" for name in view.classes)


def test_generated_captions_of_a_validation_view_know_no_unseen_class(monkeypatch):
    def view():
        return load("planted", planted=PLANTED, descriptions="generated", fold="val").descriptions.sentences

    before, plant = view(), planted.plant
    unseen = plant(**PLANTED).unseen

    def other(**settings):
        data = plant(**settings)
        table = data.semantics.copy()
        table[unseen] *= 7
        return dataclasses.replace(data, semantics=table)

    monkeypatch.setattr(planted, "plant", other)
    assert view() == before


@pytest.mark.parametrize("file", ["none.csv", "none.jsonl"])
def test_no_file(tmp_path, refused, file):
    with refused(file, "no such file"):
        load("planted", descriptions=str(tmp_path / file))
