"""The command line of demjax.hubness, as a stranger runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from demjax.checks import UserError
from demjax.cli.hubness import main


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name, n in (("q", 60), ("g", 20), ("b", 40)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((n, 5), np.float32))
    (tmp_path / "names.txt").write_text("".join(f"class {chr(97 + i)}\n" for i in range(20)))
    return {name: str(tmp_path / f"{name}.npy") for name in "qgb"} | {"dir": tmp_path}


def test_measures_prints_and_draws(files, capsys):
    out = files["dir"] / "new" / "folder"
    argv = ["--queries", files["q"], "--gallery", files["g"], "--k", "3", "--score", "cosine", "--out", str(out)]
    argv += ["--correct", "csls", "--bank", files["b"], "--names", str(files["dir"] / "names.txt")]
    report = main(argv)
    printed = capsys.readouterr().out
    x, y = (np.load(files[n]).astype(np.float64) for n in "qg")
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    counts = np.bincount(np.argsort(-(x @ y.T), axis=1)[:, :3].ravel(), minlength=20)
    name, most = report["hubs"]["raw"][0]
    assert most == counts.max() and name == f"class {chr(97 + int(counts.argmax()))}"
    assert report["measures"]["raw"]["groupie_ratio"] == pytest.approx(counts.max() / 180)
    assert set(report["measures"]) == {"raw", "csls (on the bank)"}
    assert json.loads(next(line for line in printed.splitlines() if line.startswith("{"))) == report
    assert "k_skewness" in printed and name in printed
    assert json.loads((out / "hubness.json").read_text()) == report
    assert (out / "hubness.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in out.iterdir()) == ["hubness.json", "hubness.png"]


def test_a_set_against_itself(files):
    report = main(["--queries", files["q"], "--k", "2", "--out", str(files["dir"]), "--precision", "certified"])
    x = np.load(files["q"]).astype(np.float64)
    d = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(d, np.inf)
    counts = np.bincount(np.argsort(d, axis=1)[:, :2].ravel(), minlength=60)
    assert report["hubs"]["raw"][0][1] == counts.max() and report["score"] == "euclidean"
    assert report["measures"]["raw"]["antihub_occurrence"] == pytest.approx(np.mean(counts == 0))


def test_without_a_bank_it_says_transductive(files, capsys):
    main(
        ["--queries", files["q"], "--gallery", files["g"], "--k", "3", "--correct", "nicdm", "--out", str(files["dir"])]
    )
    assert "nicdm (transductive)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (["--k", "20"], "--k 20 of 20 gallery items: expected 1 <= k < 20"),
        (["--k", "0"], "--k 0"),
        (["--score", "cosin"], "did you mean 'cosine'"),
        (["--correct", "cls"], "did you mean 'csls'"),
        (["--correct", "csls", "--score", "euclidean"], "expected --score cosine"),
        (["--bank", "B"], "no such file"),
        (["--names", "N"], "No such file"),
        (["--precision", "best"], "precision is 'best'"),
        (["--score", ""], "--score is ''"),
        (["--correct", "csls", "--correct-k", "0"], "--correct-k is 0"),
        (["--correct", "isf", "--beta", "0"], "--beta is 0"),
        (["--correct", "csls", "--bank", "NARROW"], r"bank float32 \(9, 4\): expected float32 \[r, 5\]"),
        (["--correct", "csls", "--bank", "NAN"], "bank row 7 holds nan"),
        (["--gallery", "OBJECTS"], "OBJECTS.npy.*object"),
        ([], "hubness.json is there already: choose another --out, or add --overwrite"),
        (["--out", "Q"], "is a file: expected a folder"),
    ],
)
def test_mistakes_are_one_line_and_lose_nothing(files, extra, told):
    (files["dir"] / "hubness.json").write_text("kept")
    made = {"NARROW": np.zeros((9, 4), np.float32), "NAN": np.ones((9, 5), np.float32), "OBJECTS": np.array([{}, 1])}
    made["NAN"][7, 2] = np.nan
    for name, array in made.items():
        np.save(files["dir"] / f"{name}.npy", array, allow_pickle=True)
        extra = [str(files["dir"] / f"{name}.npy") if word == name else word for word in extra]
    extra = [files["q"] if word == "Q" else word for word in extra]
    with pytest.raises(UserError, match=told) as error:
        main(["--queries", files["q"], "--gallery", files["g"], "--k", "3", "--out", str(files["dir"]), *extra])
    assert "\n" not in str(error.value) and (files["dir"] / "hubness.json").read_text() == "kept"


def test_the_file_of_the_queries_is_told_from_others(files, capsys):
    """As the gallery it would find itself; as the bank it is transductive whatever the flag says."""
    out = str(files["dir"] / "out")
    same = main(["--queries", files["q"], "--gallery", files["q"], "--k", "2", "--out", out])
    assert "nothing finds itself" in capsys.readouterr().err
    alone = main(["--queries", files["q"], "--k", "2", "--out", out, "--overwrite"])
    assert same["measures"] == alone["measures"] and same["measures"]["raw"]["k_skewness"] is not None
    given = ["--queries", files["q"], "--gallery", files["g"], "--k", "2", "--out", out, "--overwrite"]
    report = main([*given, "--correct", "csls", "--bank", files["q"], "--precision", "certified"])
    assert report["precision"] == {"raw": "certified", "csls (transductive)": "highest"}


def test_without_matplotlib_it_says_how_to_get_a_picture(files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    folder = files["dir"] / "o"
    folder.mkdir()
    (folder / "hubness.png").write_text("of an earlier run")
    main(["--queries", files["q"], "--k", "2", "--out", str(folder), "--overwrite"])
    assert "pip install matplotlib" in capsys.readouterr().err and not (folder / "hubness.png").exists()


def test_the_wrong_number_of_names(files):
    with pytest.raises(UserError, match="20 lines for 60 gallery items"):
        main(["--queries", files["q"], "--k", "3", "--names", str(files["dir"] / "names.txt")])


def test_the_command_itself(files):
    def run(*argv):
        return subprocess.run([sys.executable, "-m", "demjax.hubness", *argv], capture_output=True, text=True)

    told = run("--help")
    assert told.returncode == 0 and "examples:" in told.stdout and "mutual" not in told.stderr
    wrong = run("--queries", str(files["dir"] / "none.npy"))
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1 and "no such file" in wrong.stderr
