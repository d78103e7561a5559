"""Imports only go down, rooms of one floor do not know each other, files and names stay small and plain."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "demjax"
FLOOR = dict(mesh=0, checks=0, progress=0, user_code=1, models=1, losses=1, search=1, metrics=1, distributed=1)
FLOOR |= dict(hubness=2, data=3, protocols=4, tasks=5, train=6, cli=7, main=8, tables=8, encode=8, __main__=8)
TRAIN = dict(config=0, data_cache=1, engine=1, run_folder=1, embedder=1, evaluate=2, parts=3, report=3, user_task=3)
TRAIN |= dict(plots=4, experiment=4, summary=5, epochs=5, restore=5, fit=6, sweep=7)
COMMAND = 8  # the __main__.py of a room is a command line
NO_ROOM = {"utils", "helpers", "common", "misc", "core", "lib"}
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 250, 60


def imported(file: Path, package: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything imported, at whatever depth; relative imports by their full names."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = ["demjax", *file.relative_to(package).parts[:-1]]
            base = here[: len(here) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            names += [(node.lineno, ".".join([*base, alias.name])) for alias in node.names]
    return names


def upward(package: Path, floors: dict[str, int], within: tuple[str, ...] = ()) -> list[str]:
    """Imports among the children of a folder that go up or sideways, and children on no floor."""
    wrong, folder = [], package.joinpath(*within)
    for file in sorted(folder.rglob("*.py")):
        child = file.relative_to(folder).parts[0].removesuffix(".py")
        if child == "__init__":
            continue
        if child not in floors:
            wrong.append(f"{child}/{file.name}: {child} stands on no floor")
            continue
        floor = COMMAND if file.stem == "__main__" else floors[child]
        for line, name in imported(file, package):
            parts = name.split(".")
            target = (
                parts[1 + len(within)]
                if parts[: 1 + len(within)] == ["demjax", *within] and len(parts) > 1 + len(within)
                else None
            )
            if target in floors and target != child and floors[target] >= floor:
                wrong.append(f"{child}/{file.name}:{line} imports {target}, floor {floors[target]}")
    return wrong


def circle(package: Path, folder: Path) -> list[str]:
    """Children of a folder that import each other in a loop; [] if there is an order among them."""
    within = folder.relative_to(package).parts
    children = {p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {"__init__"}
    uses: dict[str, set[str]] = {child: set() for child in children}
    for child in children:
        files = folder.joinpath(child).rglob("*.py") if (folder / child).is_dir() else [folder / f"{child}.py"]
        for file in (f for f in files if f.stem != "__main__"):
            for _, name in imported(file, package):
                parts = name.split(".")
                if parts[: 1 + len(within)] == ["demjax", *within] and len(parts) > 1 + len(within):
                    uses[child] |= {parts[1 + len(within)]} & children - {child}
    while free := {child for child, used in uses.items() if not used & uses.keys()}:
        uses = {child: used for child, used in uses.items() if child not in free}
    return sorted(uses)


def test_imports_only_go_down():
    assert upward(PACKAGE, FLOOR) == []


def test_rooms_inside_train_have_floors_too():
    assert upward(PACKAGE, TRAIN, ("train",)) == []


@pytest.mark.parametrize(
    "folder",
    [PACKAGE, *sorted(p.parent for p in PACKAGE.rglob("*/__init__.py"))],
    ids=lambda f: str(f.relative_to(PACKAGE)),
)
def test_no_folder_has_a_circle(folder):
    assert circle(PACKAGE, folder) == []


def test_the_tests_can_fail(tmp_path):
    files = {
        "search/exact.py": "from demjax.hubness import statistics\n",
        "metrics.py": "def f():\n    from demjax import train\n",
        "tasks.py": "from demjax.checks import UserError\n",
        "train/__init__.py": "",
        "train/engine/__init__.py": "",
        "train/engine/epoch.py": "from ..fit import run\n",
        "train/fit.py": "from .engine import epoch\n",
        "train/other.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [w.split(" ")[0] for w in upward(tmp_path, FLOOR)] == ["metrics/metrics.py:2", "search/exact.py:1"]
    wrong = upward(tmp_path, TRAIN, ("train",))
    assert wrong == ["engine/epoch.py:1 imports fit, floor 6", "other/other.py: other stands on no floor"]
    assert circle(tmp_path, tmp_path / "train") == ["engine", "fit"]
    assert circle(tmp_path, tmp_path / "train" / "engine") == []


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_are_small_and_have_a_purpose(file):
    text = file.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert file.stem not in NO_ROOM and file.parent.name not in NO_ROOM
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a module says what it is for"


def test_only_train_and_the_command_line_see_the_config():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        names = [name for _, name in imported(file, PACKAGE)]
        if FLOOR.get(room, 8) < FLOOR["train"]:
            assert not any(n.startswith("ml_collections") for n in names), file


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_functions_are_short(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MOST_LINES_OF_A_FUNCTION, node.name


FAMILIES = ("zsl/", "gzsl", "hubness/n1", "text_to_image", "image_to_text", "top1", "harmonic", "ausuc")


@pytest.mark.parametrize("room", ["train", "cli"])
def test_no_metric_is_named_above_the_protocols(room):
    """Report, tables, pictures, selection and suites read columns and objectives."""
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert len(files) > 5
    for file in files:
        docs = {ast.get_docstring(n, clean=False) for n in ast.walk(ast.parse(file.read_text())) if isinstance(
            n, ast.Module | ast.FunctionDef | ast.ClassDef)}  # fmt: skip
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs:
                assert not any(name in node.value for name in FAMILIES), f"{file.name}:{node.lineno}: {node.value!r}"


def test_public_functions_have_docstrings():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node) or node.name in ("main", "get_config"), f"{file.name}: {node.name}"


def test_importing_demjax_brings_neither_tensorflow_nor_torch():
    import subprocess
    import sys

    code = (
        "import sys, demjax, demjax.train.fit, demjax.train.sweep.select, demjax.tables\n"
        "sys.exit(', '.join({'tensorflow', 'torch'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
