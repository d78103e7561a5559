"""Text, JSON and lists of names: what is read, and what is refused with file and place."""

import pytest

from demjax.data.files import read_json, read_names, read_text


def written(tmp_path, content):
    file = tmp_path / "x.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_with_and_without_a_byte_order_mark(tmp_path, mark):
    assert read_text(written(tmp_path, mark + "hyäne\r\n".encode())) == "hyäne\r\n"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8(tmp_path, refused, mark):
    with refused("x.txt line 2 is not UTF-8 (byte 0xe4)", f"byte {len(mark) + 4} of the file", "iconv"):
        read_text(written(tmp_path, mark + b"ok\nh\xe4"))


def test_no_file(tmp_path, refused):
    with refused("none.txt: no such file; expected a text file"):
        read_text(tmp_path / "none.txt")
    with refused("no such file; expected JSON of birds"):
        read_json(tmp_path / "none.json", "JSON of birds")
    with refused("no such file; expected one class name a line"):
        read_names(tmp_path)


def test_json(tmp_path):
    assert read_json(written(tmp_path, '\ufeff{"a": [1, 2]}')) == {"a": [1, 2]}
    assert read_json(written(tmp_path, '{"a": 1, "a": 2}'), pairs=list) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("content", ["", "{", "[1,]", "[" * 100_000, "a\nb"])
def test_what_is_no_json(tmp_path, refused, content):
    with refused("x.txt is no JSON of birds: ", "mend it"):
        read_json(written(tmp_path, content), "JSON of birds")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_names_one_a_line(tmp_path, end):
    content = end.join(["black bear ", "", "  Emu", "emu", "a\u2028b", "  "])
    assert read_names(written(tmp_path, content)) == ["black bear", "Emu", "emu", "a\u2028b"]


def test_no_names(tmp_path):
    assert read_names(written(tmp_path, "\n \n")) == []


def test_names_that_stand_twice_are_listed(tmp_path, refused):
    with refused("x.txt has 2 names that stand twice: emu, owl"):
        read_names(written(tmp_path, "owl\nemu\nwren\nemu \nowl\nowl\n"))


def test_several_names_in_a_single_line(tmp_path, refused):
    with refused("x.txt has a single line of 3 words", "one name a line is expected"):
        read_names(written(tmp_path, "owl emu wren\n"))
    assert read_names(written(tmp_path, "polar bear\n"), known={"polar bear"}) == ["polar bear"]
