"""launch/docker/Dockerfile, read: pinned, not root, no data inside. Building it needs a network: not done here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "launch" / "docker" / "Dockerfile"


def instructions(text):
    """(WORD, rest) of each, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def wrong_with(text):
    """What this project asks of the file, as sentences."""
    steps = instructions(text)
    values = {word: [rest for w, rest in steps if w == word] for word, _ in steps}
    wrong = []
    bases = [*values["FROM"], *(a.partition("=")[2] for a in values["ARG"] if a.startswith("BASE="))]
    if not all(b == "${BASE}" or re.search(r":\d+\.\d+\.\d+-[\w-]+(@sha256:[0-9a-f]{64})?$", b) for b in bases):
        wrong.append("the base is not pinned to a patch release")
    last = steps[-2:]
    if [word for word, _ in last] != ["USER", "ENTRYPOINT"] or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", last[0][1]):
        wrong.append("the last USER is not a number above 0")
    if last[-1][1] != '["python", "-m", "demjax.main"]':
        wrong.append("the entry point is not demjax.main as a process of its own")
    copied = {rest.split()[0] for rest in values["COPY"]}
    if "ADD" in values or copied != {"requirements.txt", "demjax", "configs", "launch/gke/process.sh"}:
        wrong.append("something else than the program is copied")
    installs = [rest for rest in values["RUN"] if "pip install" in rest]
    if (
        len(installs) != 1
        or "-r /app/requirements.txt" not in installs[0]
        or '"jax[${JAX_EXTRAS}]==' not in installs[0]
    ):
        wrong.append("not what requirements.txt pins")
    return wrong


def test_nothing_is_wrong():
    assert wrong_with(FILE.read_text()) == []


@pytest.mark.parametrize(
    "old, new",
    [
        ("ARG BASE=python:3.11.13-slim-bookworm", "ARG BASE=python:latest"),
        ("USER 10001:10001", "USER root"),
        ("USER 10001:10001", "USER 0:0"),
        ("COPY demjax demjax", "COPY . ."),
        ("COPY demjax demjax", "ADD https://example.org/demjax demjax"),
        ("-r /app/requirements.txt ", ""),
        ('["python", "-m", "demjax.main"]', "python -m demjax.main"),
    ],
)
def test_mutants_are_wrong(old, new):
    text = FILE.read_text()
    assert old in text and wrong_with(text.replace(old, new))


def test_only_what_is_copied_reaches_the_builder():
    lines = FILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = {rest.split()[0] for word, rest in instructions(FILE.read_text()) if word == "COPY"}
    assert rules[0] == "*" and {r[1:] for r in rules if r.startswith("!")} == copied
    assert all((ROOT / path).exists() for path in copied)


def test_the_python_is_one_that_demjax_runs_on():
    assert "python:3.11." in FILE.read_text() and 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def test_the_version_of_jax_is_found():
    """The RUN line reads it with sed: more than one line, or none, would install something else."""
    pins = re.findall(r"^jax==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.M)
    assert len(pins) == 1 and re.fullmatch(r"[\d.]+", pins[0])
