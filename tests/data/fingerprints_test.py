"""A mapped file is looked at once, in blocks; what is wrong with it is named by its row."""

import hashlib
import json
import os

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.data import fingerprints as module
from demjax.data.fingerprints import fingerprint_file
from demjax.data.npy import open_npy

X = np.random.default_rng(0).standard_normal((23, 3), np.float32)


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """A file of 23 rows in blocks of 5."""
    monkeypatch.setattr(module, "BLOCK_BYTES", 64)

    def write(x):
        np.save(tmp_path / "x.npy", x)
        return open_npy(tmp_path / "x.npy")

    return write


def test_the_digest_is_that_of_all_blocks(mapped):
    blocks = [hashlib.sha256(X[i : i + 5].tobytes()).digest() for i in range(0, 23, 5)]
    whole = hashlib.sha256(b"<f4(23, 3)" + b"".join(blocks)).hexdigest()
    assert fingerprint_file(mapped(X)).digest == whole[:16]
    digests = {fingerprint_file(mapped(np.where(np.arange(23)[:, None] == row, X + 1, X))).digest for row in range(23)}
    assert len(digests) == 23 and whole[:16] not in digests


@pytest.mark.parametrize(("row", "bad"), [(0, np.nan), (4, np.inf), (5, -np.inf), (22, np.nan)])
def test_the_first_bad_row_is_named(mapped, row, bad):
    x = X.copy()
    x[row, 1] = x[22, 2] = bad
    with pytest.raises(UserError, match=rf"x.npy: row {row} \(0-based\) holds NaN or Inf"):
        fingerprint_file(mapped(x))


def test_large_numbers_are_not_bad(mapped):
    """Their sum leaves float32; they do not."""
    fingerprint_file(mapped(np.full((23, 3), 3e38, np.float32)))


def test_a_file_is_read_again_only_when_it_has_changed(mapped, monkeypatch):
    x = mapped(X)
    first = fingerprint_file(x)
    reads = []
    read_rows = module.read_rows
    monkeypatch.setattr(module, "read_rows", lambda *args: reads.append(1) or read_rows(*args))
    assert fingerprint_file(open_npy(x.filename)) == first and not reads
    os.utime(x.filename, ns=(1, 1))
    assert fingerprint_file(open_npy(x.filename)) == first and len(reads) == 5


def test_a_file_that_is_gone_or_shorter(mapped):
    x = mapped(X)
    with open(x.filename, "r+b") as file:
        file.truncate(200)
    with pytest.raises(OSError, match="was cut short while it was in use"):
        fingerprint_file(x)
    os.remove(x.filename)
    with pytest.raises(FileNotFoundError):
        fingerprint_file(x)


def test_what_was_seen_is_remembered(mapped, tmp_path, monkeypatch):
    x, file = mapped(X), tmp_path / "fingerprints.json"
    first = fingerprint_file(x)
    file.write_text(json.dumps(module.known(x)))
    key = next(iter(module.known(x)))
    monkeypatch.setattr(module, "_known", {})
    wrong = [json.dumps({key: value}) for value in (3, ["abc", -1], [first.digest, "x"], [123, -1], [first.digest])]
    for damage in ("", "[1]", "{", *wrong):
        (tmp_path / "damaged.json").write_text(damage)
        module.load_known(tmp_path / "damaged.json")
    module.load_known(tmp_path / "missing.json")
    assert module._known == {}
    module.load_known(file)
    monkeypatch.setattr(module, "read_rows", None)
    assert fingerprint_file(open_npy(tmp_path / "x.npy")) == first


def test_it_can_be_stopped_between_blocks(mapped):
    class Stopped(Exception):
        pass

    looks = []

    def stop_point():
        looks.append(1)
        if len(looks) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        fingerprint_file(mapped(X + 1), stop_point)
