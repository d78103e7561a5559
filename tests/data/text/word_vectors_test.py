"""GloVe and word2vec files, text and binary, and averages."""

import gzip

import numpy as np
import pytest

from demjax.data.text.word_vectors import average_vectors, read_word_vectors

VECTORS = {"owl": [1.0, 2.0, 3.0], "new york": [0.5, 0.25, -1.0], "Wren": [4.0, 5.0, 6.0], "gull": [7.0, 8.0, 9.0]}
WANTED = {"owl", "wren", "emu", "new york"}


def glove():
    return "".join(f"{w} {' '.join(map(str, v))}\n" for w, v in VECTORS.items()).encode()


def word2vec_text():
    return b"4 3\n" + glove()


def word2vec_binary(newline=b"\n"):
    words = (w.replace(" ", "_").encode() for w in VECTORS)  # a space ends a word there
    rows = (w + b" " + np.array(v, "<f4").tobytes() + newline for w, v in zip(words, VECTORS.values(), strict=True))
    return b"4 3\n" + b"".join(rows)


def save(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w2v.txt", word2vec_text()),
        ("w2v.txt.gz", word2vec_text()),
        ("w2v.bin", word2vec_binary()),
        ("w2v.bin", word2vec_binary(b"")),
        ("w2v.bin.gz", word2vec_binary()),
    ],
)
def test_the_wanted_words_only(tmp_path, name, content):
    found = read_word_vectors(save(tmp_path, name, content), WANTED)
    expected = {"owl": [1, 2, 3], "wren": [4, 5, 6]}  # the file has the wren with a capital only
    if ".bin" not in name:
        expected["new york"] = [0.5, 0.25, -1]
    assert {w: v.tolist() for w, v in found.items()} == expected
    assert all(v.dtype == np.float32 for v in found.values())


def test_glove_without_a_head_line(tmp_path):
    lines = b"\xef\xbb\xbfowl 1 2 3\n\nowl 9 9 9\nbad\xff 1 2 3\nWREN 0 0 0\nwren 4 5 6\n"
    found = read_word_vectors(save(tmp_path, "glove.txt", lines), WANTED)
    assert found["owl"].tolist() == [1, 2, 3] and found["wren"].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("g.txt", b"owl 1 2 3\nwren 1 x 3\n", ("line 2: expected 3 numbers",)),
        ("g.txt", b"owl 1 2 3\nwren 1 2\n", ("line 2: expected a word and 3 numbers",)),
        ("g.txt", b"owl\n", ("line 1: expected a word and some numbers",)),
        ("g.txt", b"owl 1 nan 3\n", ("vector of 'owl' has NaN",)),
        ("g.txt", b"owl 1 2 1e60\n", ("vector of 'owl' has NaN or Inf",)),
        ("g.txt", b"\x93NUMPY\x01\x00v\x00{'descr'}", ("is no UTF-8 text of words",)),
        ("g.txt", "owl 1 2 3\n".encode("utf-16"), ("is no UTF-8 text of words",)),
        ("g.bin", "5 ²\n".encode(), ("not a word2vec binary file",)),
        ("g.bin", b"PK\x03\x04", ("not a word2vec binary file",)),
        ("g.bin", word2vec_binary()[:-8], ("ends at word 3 of 4",)),
        ("g.bin", b"9 3\n" + word2vec_binary()[4:], ("ends or breaks at word 4 of 9",)),
        ("g.bin", b"1 3\n" + b"x" * 2000, ("breaks at word 0",)),
        ("g.bin", b"1 999999999\n", ("not a word2vec binary file",)),
    ],
)
def test_bad_files(tmp_path, refused, name, content, told):
    with refused(name, *told):
        read_word_vectors(save(tmp_path, name, content), WANTED)


def test_no_file_and_a_torn_archive(tmp_path, refused):
    with refused("none.txt", "no such file"):
        read_word_vectors(tmp_path / "none.txt", WANTED)
    whole = save(tmp_path, "g.txt.gz", glove())
    whole.write_bytes(whole.read_bytes()[:-12])
    with refused("damaged or cut short"):
        read_word_vectors(whole, WANTED)


def test_averages_leave_out_what_has_no_vector(refused):
    vectors = {"owl": np.array([1.0, 2.0], np.float32), "gull": np.array([3.0, 0.0], np.float32)}
    found = average_vectors(["An owl, a gull, an owl", "emu"], vectors)
    np.testing.assert_allclose(found, [[5 / 3, 4 / 3], [0, 0]], rtol=1e-6)
    with refused("no word of the descriptions has a word vector"):
        average_vectors(["emu"], {})
