"""The house style, as far as a machine can read it: ruff, mypy, and the length of what must be read in one sitting."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUNCTION_LINES, FILE_LINES = 60, 500
CHECKED_TORCH = (2, 14)


def _run(tool: str, *arguments: str) -> None:
    """Run a tool of the `test` extra over the project; what it prints is the failure's message."""
    if find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed (it comes with the extra `test`)")
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{tool} {' '.join(arguments)}\n{done.stdout}{done.stderr}"


def test_ruff_has_nothing_to_say():
    _run("ruff", "check", ".", "--output-format", "concise")


def test_ruff_would_lay_nothing_out_otherwise():
    _run("ruff", "format", "--check", ".")


def _needs_checked_torch() -> None:
    """The annotations of torch itself differ between versions: ours are checked against the newest."""
    if tuple(int(part) for part in version("torch").split(".")[:2]) < CHECKED_TORCH:
        pytest.skip(f"the types are checked with torch {'.'.join(map(str, CHECKED_TORCH))} and later")


@pytest.mark.slow
def test_mypy_has_nothing_to_say():
    _needs_checked_torch()
    _run("mypy")


@pytest.mark.slow
def test_mypy_has_nothing_to_say_about_the_script():
    _needs_checked_torch()
    # Beside the package of its name mypy would skip it without a word. What it imports is known from the test above.
    _run("mypy", "bench.py")


def sources(root: Path) -> Iterator[Path]:
    """The code that people read to use and to extend the project: all but the tests."""
    yield from sorted(root.glob("*.py"))
    for folder in ("bench", "models", "reports", "perf"):
        yield from sorted((root / folder).rglob("*.py"))


def too_long(root: Path) -> list[str]:
    """Files and functions that nobody reads in one sitting."""
    complaints = []
    for path in sources(root):
        text, where = path.read_text(encoding="utf-8"), path.relative_to(root)
        if (lines := len(text.splitlines())) > FILE_LINES:
            complaints.append(f"{where}: {lines} lines: more than {FILE_LINES} are a sign that two things live in it")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    complaints.append(f"{where}:{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES} are far")
    return complaints


def test_files_and_functions_are_read_in_one_sitting():
    complaints = too_long(ROOT)
    assert not complaints, "\n" + "\n".join(complaints)


def test_what_is_too_long_is_seen(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "fits.py").write_text("def f():\n" + "    x = 1\n" * 59)
    (tmp_path / "models" / "full.py").write_text("x = 1\n" * 500)
    assert too_long(tmp_path) == []
    (tmp_path / "models" / "method.py").write_text("class A:\n    async def f(self):\n" + "        x = 1\n" * 60)
    (tmp_path / "models" / "file.py").write_text("x = 1\n" * 501)
    file, function = too_long(tmp_path)
    assert "501 lines" in file
    assert "f has 61 lines" in function


SAY_NOTHING = {"one", "found", "its", "told", "made"}
"""Names that do not say what a value is: `comparison`, `record`, `row` and `trace` do."""

NOT_YET = (
    "bench/command", "bench/comparison", "bench/judging", "bench/machine", "bench/measuring", "bench/plugin",
    "bench/predicting", "bench/record", "bench/tracing", "models", "reports", "perf/prediction",
    "tests/judge", "tests/measure", "tests/models", "tests/predict", "tests/record", "tests/reports", "tests/trace",
    "tests/test_effects.py", "tests/test_gate.py", "tests/test_predict.py", "tests/test_pytest_plugin.py",
    "tests/test_readme.py", "tests/test_cli.py",
)  # fmt: skip
"""Rooms whose values are not yet called what they are. The list only gets shorter."""


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a file gives to a value of its own, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, getattr(node, "lineno", 0)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def named_nothing(root: Path, left_out: tuple[str, ...] = ()) -> list[str]:
    """Values whose name does not say what they are, as `file:line: name`; not in what is `left_out`."""
    paths = [*sources(root), *sorted((root / "tests").rglob("*.py"))]
    return [
        f"{where}:{line}: {name}"
        for path in paths
        if not (where := path.relative_to(root).as_posix()).startswith(left_out)
        for name, line in sorted(bound_names(ast.parse(path.read_text(encoding="utf-8"))), key=lambda bound: bound[1])
        if name in SAY_NOTHING
    ]


def test_a_value_is_called_what_it_is():
    complaints = named_nothing(ROOT, NOT_YET)
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "for one in (): pass",
        "x = [one for one in ()]",
        "def f(told): ...",
        "def made(): ...",
        "x = lambda its: 0",
        "with a as found: ...",
        "(found := 1)",
        "one, x = 1, 2",
        "one: int = 1",
        "from a import b as made",
        "try: ...\nexcept E as found: ...",
        "match x:\n    case [*one]: ...",
    ],
)
def test_a_value_without_a_name_is_seen(tmp_path, source):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.py").write_text(f"\n{source}\n")
    [complaint] = named_nothing(tmp_path)
    assert complaint.startswith(("models/x.py:2: ", "models/x.py:3: "))
    (tmp_path / "models" / "x.py").write_text("record = one.found\nprint(its, told=made)\nones = f(one=1)\n")
    assert named_nothing(tmp_path) == []
