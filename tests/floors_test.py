"""Imports only go down, rooms of one floor do not know each other, files and names stay small and plain."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "demjax"
FLOOR = dict(mesh=0, checks=0, progress=0, models=1, losses=1, search=1, metrics=1, data=2, hubness=2, tasks=3, train=4)
FLOOR |= dict(processes=1, main=5, tables=5, encode=5)
DOOR = 5  # the __main__.py of a room is a command line
NO_ROOM = {"utils", "helpers", "common", "misc", "core", "lib"}
MOST_LINES = 250


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, dotted name) of everything imported, at whatever depth."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module or ''}"
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def upward(package: Path) -> list[str]:
    """Imports that go up or sideways, and files in no room."""
    wrong = []
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        if room not in FLOOR:
            wrong.append(f"{file.name}: room {room} stands on no floor")
            continue
        floor = DOOR if file.stem == "__main__" else FLOOR[room]
        for line, name in imported(ast.parse(file.read_text())):
            parts = name.split(".")
            if parts[0] == "demjax" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room:
                if FLOOR[parts[1]] >= floor:
                    wrong.append(f"{room}/{file.name}:{line} imports {parts[1]}, floor {FLOOR[parts[1]]}")
    return wrong


def test_imports_only_go_down():
    assert upward(PACKAGE) == []


def test_the_test_can_fail(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "exact.py").write_text("from demjax.hubness import statistics\n")
    (tmp_path / "metrics.py").write_text("def f():\n    from demjax import train\n")
    (tmp_path / "tasks.py").write_text("from demjax.checks import UserError\n")
    assert [w.split(" ")[0] for w in upward(tmp_path)] == ["metrics/metrics.py:2", "search/exact.py:1"]


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_are_small_and_have_a_purpose(file):
    text = file.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert file.stem not in NO_ROOM and file.parent.name not in NO_ROOM
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a module says what it is for"


def test_only_floor_four_and_the_command_line_see_the_config():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        names = [name for _, name in imported(ast.parse(file.read_text()))]
        if FLOOR.get(room, 5) < 4:
            assert not any(n.startswith("ml_collections") for n in names), file


def test_public_functions_have_docstrings():
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node) or node.name in ("main", "get_config"), f"{file.name}: {node.name}"


def test_importing_demjax_brings_neither_tensorflow_nor_torch():
    import subprocess
    import sys

    code = (
        "import sys, demjax, demjax.train.loop, demjax.train.select, demjax.tables\n"
        "sys.exit(', '.join({'tensorflow', 'torch'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
