"""README and CHANGELOG say what is there."""

import re
from pathlib import Path

import numpy as np
import pytest

import demjax
from demjax.tasks import TASKS
from demjax.train.config import default_config, flatten

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_two_commands_set_up_and_run():
    commands = re.findall(r"^```sh\n(.*?)\n```", README, flags=re.M | re.S)[:2]
    assert all("python3 -m venv .venv" in c and "pip install -r requirements" in c for c in commands)
    assert "demjax.main --config=configs/synthetic.py" in commands[0] and "-m pytest" in commands[1]


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:demjax|configs|launch|benchmarks|tests)/[\w/.-]+)`", README)))
)
def test_files_named_exist(path):
    assert (ROOT / path).exists()


def test_settings_named_exist():
    known = {key for task in TASKS for key in flatten(default_config(task))}
    named = set(re.findall(r"--config\.([\w.]+)", README))
    assert named and named <= known


def test_links_to_files_work():
    for target in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / target).exists(), target


def test_requirements_are_exact_and_cover_the_package():
    pins = (ROOT / "requirements.txt").read_text()
    lines = [line.split("#")[0].strip() for line in pins.splitlines()]
    assert all("==" in line for line in lines if line)
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plain = lambda name: name.lower().replace("-", "_")  # noqa: E731
    pinned = {plain(line.split("==")[0]) for line in lines if line}
    for requirement in project["dependencies"]:
        assert plain(re.split(r"[<>=]", requirement)[0]) in pinned


def test_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", demjax.__version__)


def test_the_search_section_runs(tmp_path, monkeypatch, capsys):
    """Its command and its Python, word by word, on files of the shapes it speaks of."""
    from demjax.cli.hubness import main

    rng = np.random.default_rng(0)
    for name, n in (("images", 60), ("classes", 20), ("train", 40)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((n, 5), np.float32))
    monkeypatch.chdir(tmp_path)
    section = README[README.index("## Neighbours, ranks and hubness") :]
    command = re.search(r"-m demjax.hubness (.*)", section).group(1)
    main(command.split())
    assert "csls (on the bank)" in capsys.readouterr().out and (tmp_path / "hubness" / "hubness.json").is_file()
    names = {}
    exec(re.search(r"^```python\n(.*?)\n```", section, flags=re.M | re.S).group(1), names)  # noqa: S102
    assert names["rank"].tolist() == [1] * 60 and names["corrected"].ids.shape == (60, 10)
    assert set(names["report"]) >= {"k_skewness", "gini"}
