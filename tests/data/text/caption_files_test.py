"""Caption files of every form, joined by name, and what is refused about them."""

import json

import pytest

from demjax.data.text.caption_files import Names, lines, plain, read
from demjax.data.text.captions import OF_CLASS

CLASSES = ("001.Snowy_Owl", "002.Gull", "003.gull")
IMAGES = ("001.Snowy_Owl/a_1.jpg", "001.Snowy_Owl/a_2.jpg", "002.Gull/b_1.jpg", "003.gull/b_1.jpg")
NAMES = Names(CLASSES, IMAGES, [0, 0, 1, 2])


def as_tuples(path, names=NAMES):
    return [tuple(c) for c in read(path, names)]


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_names_as_people_write_them():
    assert plain("001.Black_footed_Albatross") == plain("Black footed  albatross") == "black footed albatross"


def test_a_folder_of_images_and_classes(tmp_path):
    written(tmp_path / "001.Snowy_Owl" / "a_2.txt", "white\n\nround\n")
    written(tmp_path / "002.Gull.txt", "loud")
    assert as_tuples(tmp_path) == [(0, 1, "white"), (0, 1, "round"), (1, OF_CLASS, "loud")]


def test_csv(tmp_path):
    file = written(tmp_path / "c.csv", 'image,class,caption\na_1.png,snowy owl,"white, round"\n,002.Gull,"two lines"\n')
    assert as_tuples(file) == [(0, 0, "white, round"), (1, OF_CLASS, "two lines")]
    without = written(tmp_path / "d.csv", "caption,class\nwhite,001.Snowy_Owl\n")
    assert as_tuples(without) == [(0, OF_CLASS, "white")]


def test_json_and_jsonl(tmp_path):
    file = written(tmp_path / "c.json", json.dumps({"snowy owl": ["white", "round"], "002.Gull": ["loud"]}))
    assert as_tuples(file) == [(0, OF_CLASS, "white"), (0, OF_CLASS, "round"), (1, OF_CLASS, "loud")]
    file = written(tmp_path / "c.jsonl", json.dumps({"class": "002.Gull", "text": "Loud. Grey!\n... \nBig"}) + "\n\n")
    assert as_tuples(file) == [(1, OF_CLASS, "Loud."), (1, OF_CLASS, "Grey!"), (1, OF_CLASS, "Big")]


def test_classes_that_differ_in_case_only_are_told_apart(tmp_path, refused):
    assert as_tuples(written(tmp_path / "a.csv", "class,caption\n003.gull,x\n")) == [(2, OF_CLASS, "x")]
    with refused("a.csv line 2", "could be 002.Gull, 003.gull"):
        read(written(tmp_path / "a.csv", "class,caption\ngull,x\n"), NAMES)


def test_an_image_is_found_within_its_class(tmp_path, refused):
    def line(image, of_class):
        return written(tmp_path / "a.csv", f"image,class,caption\n{image},{of_class},x\n")

    assert as_tuples(line("003.gull/b_1.jpg", "003.gull")) == [(2, 3, "x")]
    assert as_tuples(line("b_1", "003.gull")) == [(2, 3, "x")]  # two classes have a b_1
    assert as_tuples(line("b_1.png", "002.Gull")) == [(1, 2, "x")]
    with refused("line 2", "'a_9.jpg' is no image of class 001.Snowy_Owl", "known: 001.Snowy_Owl/a_1.jpg"):
        read(line("a_9.jpg", "snowy owl"), NAMES)
    with refused("image '001.Snowy_Owl/a_1.jpg' is of class 001.Snowy_Owl, not 002.Gull"):
        read(line("001.Snowy_Owl/a_1.jpg", "002.Gull"), NAMES)
    with refused("the set has no image names"):
        read(line("a_1", "002.Gull"), Names(CLASSES, (), [0, 0, 1, 2]))


def test_dots_in_names_of_images(tmp_path, refused):
    names = Names(("cat",), ("cat/im.jpg", "cat/im.v2.jpg", "x/im.v2.png"), [0, 0, 0])
    written(tmp_path / "cat" / "im.txt", "one")
    assert as_tuples(tmp_path, names) == [(0, 0, "one")]
    written(tmp_path / "cat" / "im.v2.txt", "two")
    with refused("im.v2.txt line 1: 'im.v2' could be cat/im.v2.jpg, x/im.v2.png: give its path"):
        read(tmp_path, names)
    assert as_tuples(tmp_path, names._replace(images=names.images[:2], labels=[0, 0]))[1] == (0, 1, "two")


def test_line_separators_inside_text_are_no_ends_of_lines(tmp_path):
    strange = "red\u2028bill\x0cblack\x85wing"
    assert as_tuples(written(tmp_path / "a.csv", f"class,caption\n002.Gull,{strange}\n")) == [(1, OF_CLASS, strange)]
    assert as_tuples(written(tmp_path / "d" / "002.Gull.txt", strange).parent) == [(1, OF_CLASS, strange)]
    line = json.dumps({"class": "002.Gull", "text": strange}, ensure_ascii=False)
    assert len(as_tuples(written(tmp_path / "a.jsonl", line + "\r\n"))) == 1


def test_a_class_named_twice_in_json_keeps_both_lists(tmp_path):
    file = written(
        tmp_path / "a.json", '{"002.Gull": ["loud"], "gull": ["x"], "002.Gull": ["grey"]}'.replace('gull"', '002.Gull"')
    )
    assert [c[2] for c in as_tuples(file)] == ["loud", "x", "grey"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "class,caption\nemu,x\n", ("a.csv line 2", "'emu' is no class of this set")),
        ("a.csv", "class,caption\n002.Gull,\n", ("line 2", "the caption is empty")),
        ("a.csv", "class,caption\n,x\n", ("line 2", "the caption has no class")),
        ("a.csv", "class,caption\n002.Gull,a,b\n", ("line 2", "expected 2 fields", "in quotes")),
        ("a.csv", "class,caption\n002.Gull\n", ("line 2", "expected 2 fields")),
        ("a.csv", "name,text\n002.Gull,x\n", ("has columns name, text", "expected class, caption")),
        ("a.csv", "", ("has columns none",)),
        ("a.csv", "class,caption\n", ("holds no caption",)),
        ("a.csv", 'class,caption\n002.Gull,"loud\n003.gull,x\n', ("is no CSV", "is a quote left open?")),
        ("a.csv", 'class,caption\n002.Gull,"loud\n003.gull,x"\n', ("line 3", "has a line break")),
        ("a.csv", "class,caption,caption\n002.Gull,x,y\n", ("has columns class, caption, caption",)),
        ("a.csv", "class,caption\n002.Gull,...\n", ("line 2", "'...' has no word")),
        ("a.csv", "class,caption\nb'002.Gull',x\n", ("line 2", "was bytes printed as text")),
        ("a.csv", "class,caption\n002.Gull,[b'loud']\n", ("line 2", "was bytes printed as text")),
        ("a.json", '{"002.Gull": []}', ("class '002.Gull' has no captions",)),
        ("a.json", '{"002.Gull": ["\\ud800 x"]}', ("half a character",)),
        ("a.json", "[" * 100_000, ("is no JSON of captions",)),
        ("a.csv", "class,caption\n002.Gull,a \x00 loud\n", ("line 2", "control character '\\x00'")),
        ("a.csv", "class,caption\n002.Gull,B'loud'\n", ("line 2", "was bytes printed as text")),
        ("a.csv", "class,caption\n002.Gull,rb'loud'\n", ("line 2", "was bytes printed as text")),
        ("a.csv", "class,caption\n002.Gull,b'loud'\n", ("line 2", "was bytes printed as text", ".decode('utf-8')")),
        ("a.csv", b"class,caption\n002.Gull,\xe9cru\n", ("line 2 is not UTF-8 (byte 0xe9)", "iconv")),
        ("a.json", "[1]", ("expected {class: [caption, ...], ...}",)),
        ("a.json", '{"002.Gull": "loud"}', ("expected {class: [caption, ...], ...}",)),
        ("a.json", '{"002.Gull": [3]}', ("'002.Gull' number 0", "expected text for the caption, got int")),
        ("a.json", "{", ("a.json is no JSON of captions",)),
        ("a.jsonl", '{"class": "002.Gull"}', ("line 1", 'expected {"class": ..., "text": ...}')),
        ("a.jsonl", '{"class": "002.Gull", "text": 3}', ("line 1", "expected text")),
        ("a.jsonl", "gull big", ("line 1", "expected")),
        ("a.xlsx", "x", ("expected a folder of .txt, or .csv, .json, .jsonl, got .xlsx",)),
        ("d/emu/a_1.txt", "x", ("emu/a_1.txt line 1", "'emu' is no class")),
    ],
)
def test_bad_files(tmp_path, refused, name, content, told):
    path = written(tmp_path / name, content)
    with refused(*told):
        read(tmp_path / "d" if name.startswith("d/") else path, NAMES)


def test_without_a_set_any_class_is_read(tmp_path):
    file = written(tmp_path / "a.csv", "image,class,caption\nx.jpg,emu,tall\n")
    assert list(lines(file)) == [(f"{file} line 2", "emu", "x.jpg", "tall")]


def test_a_byte_order_mark_is_no_letter(tmp_path):
    assert as_tuples(written(tmp_path / "a.csv", "\ufeffclass,caption\n002.Gull,x\n")) == [(1, OF_CLASS, "x")]
