"""The walls of the house: who may import whom, what a file may not be called, and that tables never see torch.

Each rule is a function from a folder to a list of complaints, so that a test can show it a bad folder and listen.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bench", "models", "reports")

# Room -> what it may import beside the standard library and itself. The longest name that fits a module is its room.
ROOMS: dict[str, set[str]] = {
    "visionbench.record": set(),
    "models": {"torch", "timm"},
    "visionbench.tracing": {"torch", "visionbench.record", "models"},
    "visionbench.measuring": {"torch", "visionbench.record"},
    "visionbench.judging": {"numpy", "scipy", "visionbench.record"},
    "visionbench.predicting": {"numpy", "scipy", "visionbench.record", "visionbench.tracing"},
    "reports": {"pandas", "rich", "matplotlib", "visionbench.record"},
    # The composition root: the command line, its verbs and its progress bar. Everything, but heavy things late (below).
    "bench": {"torch", "timm", "rich", "models", "reports"},
}

# Single modules that may import one thing more, each for the reason that made it a module.
DOORS: dict[str, set[str]] = {
    "visionbench.measuring.workload": {"models"},  # builds the network that is measured
    "visionbench.measuring.process.side_process": {"models"},  # chooses whose `models` a side of a duet uses
    "visionbench.machine.environment": {"pynvml"},  # asks the driver what machine this is
    "visionbench.machine.nvml": {"pynvml"},  # and what it did meanwhile
    "visionbench.tracing.second_opinion": {"fvcore"},
    "visionbench.plugin.hooks": {"pytest"},  # is loaded by it
    "visionbench.judging.duet": {"visionbench.measuring"},  # measures the two sides in turns
}

# Imports by a name that is data: a user's factory; PRELOAD, which the fork server imports once for all its children.
BY_NAME = {"visionbench.models.building", "visionbench.measuring.process.fork_server"}

# What `--help` must not pay for: outside functions the composition root imports none of these. (`models` and `reports`
# are light until they are used: the subprocess tests below see to it.)
HEAVY = {
    "torch",
    "timm",
    "rich",
    "visionbench.tracing",
    "visionbench.measuring",
    "visionbench.judging",
    "visionbench.predicting",
    "visionbench.command.sides",
}

# Modules of the composition root that are heavy themselves, and so imported inside functions only.
LATE = {"visionbench.command.sides"}

NAMELESS = {"util", "utils", "common", "helper", "helpers", "base", "core", "misc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """`from a.b import c` has the name `a.b.c`. `late`: inside a function, or only for the type checker."""

    name: str
    line: int
    late: bool


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the packages under `root`, by its dotted name."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path, module: str) -> Iterator[Import]:
    """Every import of a file, wherever it stands: in functions, under conditions, and by `import_module("...")`."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    late = {id(node) for outer in ast.walk(tree) if _is_late(outer) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            literal = node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
            names = [str(node.args[0].value) if literal else "<a name that is data>"]
        for name in names:
            yield Import(name=name, line=node.lineno, late=id(node) in late)


def _is_late(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _room(module: str) -> str | None:
    """The room of a module; None for a folder under `bench` that has no row in the table."""
    room = max((room for room in ROOMS if _within(module, {room})), key=len)
    return (
        None
        if room == "bench" and module.count(".") > 1 and not _within(module, {"visionbench.command.verbs"})
        else room
    )


def _may_import(module: str, room: str, name: str) -> bool:
    if name.split(".")[0] in sys.stdlib_module_names:
        return True
    if name == "<a name that is data>":
        return module in BY_NAME
    return _within(name, {room} | ROOMS[room] | DOORS.get(module, set()))


def broken_walls(root: Path) -> list[str]:
    """The rule of imports: one complaint for every import that a room may not have."""
    complaints = []
    for module, path in modules(root):
        room, where = _room(module), path.relative_to(root)
        if room is None:
            complaints.append(f"{where}: no room of the table: say in ROOMS what it may import")
            continue
        for found in imports(path, module):
            if not _may_import(module, room, found.name):
                complaints.append(f"{where}:{found.line}: {room} may not import {found.name}")
            elif room == "bench" and module not in LATE and not found.late and _within(found.name, HEAVY):
                complaints.append(f"{where}:{found.line}: {found.name} is heavy: import it where it is needed")
    return complaints


def nameless(root: Path) -> list[str]:
    """Files and folders called by what they are not."""
    places = [place for folder in (*PACKAGES, "perf", "tests") for place in sorted((root / folder).rglob("*"))]
    code = [place for place in places if place.is_dir() or place.suffix == ".py"]
    return [
        f"{place.relative_to(root)}: a function with no home has not been named yet"
        for place in code
        if place.stem in NAMELESS
    ]


def dangers(root: Path) -> list[str]:
    """Code from data: unpickling, eval, exec, and torch.hub, which runs what it downloads."""
    complaints = []
    for module, path in modules(root):
        where = path.relative_to(root)
        for found in imports(path, module):
            if _within(found.name, {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "torch.hub"}):
                complaints.append(f"{where}:{found.line}: imports {found.name}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                complaints.append(f"{where}:{node.lineno}: calls {node.func.id}")
            if isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.hub", "torch.load"}:
                complaints.append(f"{where}:{node.lineno}: uses {ast.unparse(node)}")
    return complaints


# --- the rules, kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [broken_walls, nameless, dangers], ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule):
    complaints = rule(ROOT)
    assert not complaints, "\n" + "\n".join(complaints)


def test_the_rules_are_applied_to_something():
    found = dict(modules(ROOT))
    for room in ("visionbench.record", "visionbench.tracing", "visionbench.measuring", "models", "reports"):
        assert sum(_room(module) == room for module in found) >= 3, room
    seen = {entry.name.split(".")[0] for module, path in found.items() for entry in imports(path, module)}
    assert {"torch", "timm", "rich", "bench", "models", "reports"} <= seen


def test_every_row_of_the_table_of_rooms_points_at_the_record():
    ours = {room: {name for name in names if _within(name, set(PACKAGES))} for room, names in ROOMS.items()}
    assert not ours["visionbench.record"]
    assert ours["reports"] == ours["visionbench.measuring"] == {"visionbench.record"}
    assert not _within("torch", ROOMS["reports"] | ROOMS["visionbench.record"])


# --- the rules, broken: each of them can fail ------------------------------------------------------------------------


def _house(folder: Path, path: str, source: str) -> Path:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(source, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("bench/record/store.py", "import torch", ":1: visionbench.record may not import torch"),
        ("bench/record/store.py", "import os.path, numpy.linalg", "visionbench.record may not import numpy.linalg"),
        (
            "bench/record/store.py",
            "from bench import trace",
            ":1: visionbench.record may not import visionbench.tracing",
        ),
        ("bench/record/store.py", "from ..measure import timing", "may not import visionbench.measuring.timing"),
        ("bench/record/__init__.py", "from ..cli import main", "may not import visionbench.command.main.main"),
        ("bench/record/store.py", "import recordings", "may not import recordings"),
        ("reports/table.py", "def f():\n    import torch.nn", ":2: reports may not import torch.nn"),
        ("reports/table.py", "class A:\n    async def f(self):\n        from torch import nn", ":3: reports may not"),
        ("reports/table.py", "try:\n    import torch\nexcept ImportError:\n    pass", ":2: reports may not"),
        ("reports/table.py", "import importlib\nimportlib.import_module('torch')", ":2: reports may not import torch"),
        ("reports/table.py", "__import__('torch')", "reports may not import torch"),
        ("reports/table.py", "import importlib\nimportlib.import_module(name)", "may not import <a name that is data>"),
        (
            "reports/table.py",
            "from visionbench.measuring.timing import clock",
            "reports may not import visionbench.measuring.timing",
        ),
        ("reports/table.py", "from models import names", "reports may not import models.names"),
        ("reports/render/html.py", "import bench", "reports may not import bench"),
        ("reports/render/html.py", "from bench import *", "reports may not import bench.*"),
        (
            "models/roadmap.py",
            "from visionbench.record.errors import BenchError",
            "models may not import visionbench.record",
        ),
        ("bench/measuring/timing.py", "import models", "visionbench.measuring may not import models"),
        (
            "bench/measuring/sweep.py",
            "from reports import table",
            "visionbench.measuring may not import visionbench.reports.table",
        ),
        ("bench/measuring/metrics/energy.py", "import pynvml", "visionbench.measuring may not import pynvml"),
        (
            "bench/tracing/step.py",
            "from fvcore.nn import FlopCountAnalysis",
            "visionbench.tracing may not import fvcore.nn",
        ),
        (
            "bench/tracing/step.py",
            "import visionbench.measuring.workload",
            "visionbench.tracing may not import visionbench.measuring.workload",
        ),
        (
            "bench/judging/verdict.py",
            "from visionbench.measuring import launch",
            "visionbench.judging may not import visionbench.measuring",
        ),
        ("bench/predicting/roofline.py", "import torch", "visionbench.predicting may not import torch"),
        ("bench/command/main.py", "import torch", ":1: torch is heavy"),
        (
            "bench/command/verbs/run.py",
            "from visionbench.measuring.sweep import sweep",
            "visionbench.measuring.sweep.sweep is heavy",
        ),
        ("bench/command/main.py", "import flask", "bench may not import flask"),
        ("bench/attic/old.py", "", "no room of the table"),
    ],
)
def test_a_broken_wall_is_seen(tmp_path, path, source, complaint):
    [told] = broken_walls(_house(tmp_path, path, source))
    assert complaint in told


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bench/record/store.py", "import json\nfrom . import spec\nfrom visionbench.record.spec import Spec"),
        (
            "models/roadmap.py",
            "from torch import nn\nimport timm.layers\nfrom visionbench.models.residual import Residual",
        ),
        ("models/building.py", "import importlib\nimportlib.import_module(name)"),
        ("bench/measuring/workload.py", "def f():\n    import models"),
        ("bench/machine/environment.py", "def f():\n    import pynvml"),
        ("bench/tracing/second_opinion.py", "def f():\n    from fvcore.nn import FlopCountAnalysis"),
        ("bench/predicting/roofline.py", "import numpy as np\nfrom visionbench.tracing import trace"),
        ("reports/figures/bars.py", "import matplotlib.pyplot as plt\nfrom ..table import Table"),
        (
            "bench/command/main.py",
            "from bench import verbs\ndef f():\n    import torch\n    from reports import REPORTS",
        ),
        ("bench/command/progress.py", "if TYPE_CHECKING:\n    from rich.progress import Progress"),
    ],
)
def test_a_lawful_import_is_let_through(tmp_path, path, source):
    assert broken_walls(_house(tmp_path, path, source)) == []


@pytest.mark.parametrize(
    "path",
    ["bench/record/utils.py", "reports/core/x.py", "models/base.py", "tests/helpers.py", "perf/common/__init__.py"],
)
def test_a_file_without_a_name_is_seen(tmp_path, path):
    assert len(nameless(_house(tmp_path, path, ""))) == 1
    assert nameless(_house(tmp_path / "lawful", "bench/record/basement.py", "")) == []


@pytest.mark.parametrize(
    ("source", "lawful"),
    [
        ("import pickle", "import json"),
        ("def f():\n    from pickle import loads", "import pickletools"),
        ("import marshal", ""),
        ("eval('1')", "network.eval()"),
        ("def f(x):\n    exec(x)", "cursor.exec('x')"),
        ("import torch\ntorch.hub.load('a', 'b')", "timm.models.hub"),
        ("from torch import hub", "from torch import nn"),
        ("from torch.hub import load_state_dict_from_url", ""),
        ("import torch.hub as h", ""),
        ("x = torch.load(path)", "x = json.load(path)"),
    ],
)
def test_a_danger_is_seen(tmp_path, source, lawful):
    assert len(dangers(_house(tmp_path, "models/x.py", source))) == 1
    assert dangers(_house(tmp_path / "lawful", "models/x.py", lawful)) == []


# --- bench/ beside bench.py ------------------------------------------------------------------------------------------


def _python(code: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -c code` in `folder`, which it also imports from."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"} | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_package_wins_over_the_script_because_its_init_exists_and_imports_nothing():
    path = ROOT / "bench" / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [type(node) for node in tree.body] == [ast.Expr], "a docstring and nothing else"
    assert ast.get_docstring(tree)
    done = _python("import bench; print(bench.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == path.resolve()


def test_the_script_is_a_face_and_nothing_else():
    [script] = [path for path in ROOT.glob("*.py") if path.stem == "bench"]
    assert {entry.name for entry in imports(script, "bench")} == {"visionbench.command.main.main"}
    for module, path in modules(ROOT):
        if module not in {"visionbench.__main__", "visionbench.command.main"}:
            assert not any(_within(entry.name, {"visionbench.command.main"}) for entry in imports(path, module)), module


def test_every_folder_of_modules_is_in_the_distribution():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {".".join(path.parent.relative_to(ROOT).parts) for _, path in modules(ROOT)}
    assert folders <= listed, "pyproject.toml forgets them"
    assert all((ROOT / package.replace(".", "/")).is_dir() for package in listed), "pyproject.toml names no folder"


# --- what is loaded --------------------------------------------------------------------------------------------------

LOADS_TORCH = """
import runpy, sys
try:
    {code}
except SystemExit as stop:
    assert not stop.code, stop.code
print("torch" in sys.modules, file=sys.stderr)
"""


def loads_torch(code: str, folder: Path = ROOT) -> bool:
    """Whether `torch` is in `sys.modules` after one statement in a fresh interpreter. Its failure is ours."""
    done = _python(LOADS_TORCH.format(code=code), folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr.split()[-1] == "True"


def _bench(*arguments: str) -> str:
    return f"sys.argv = {['bench.py', *arguments]}; runpy.run_path('bench.py', run_name='__main__')"


@pytest.mark.parametrize(
    "code",
    [
        "import bench",
        "import visionbench.command.main",
        "import models",
        *(f"import {module}" for module, _ in modules(ROOT) if _within(module, {"reports", "visionbench.record"})),
        _bench("--help"),
        _bench("report", "--help"),
        _bench("list", "tables"),
        _bench("list", "devices"),
    ],
)
def test_tables_and_help_never_see_torch(code):
    assert not loads_torch(code)


@pytest.mark.parametrize(
    ("code", "loads"),
    [
        ("import torch", True),
        ("import card", True),
        ("import paper", False),
        ("sys.exit(0)", False),
        ("import card; sys.exit(0)", True),
        ("runpy.run_path('card.py')", True),
    ],
)
def test_torch_is_noticed_however_it_comes(tmp_path, code, loads):
    for name, source in (("torch", ""), ("card", "import torch.nn"), ("paper", "import json"), ("torchlight", "")):
        _house(tmp_path, f"{name}/__init__.py" if name == "torch" else f"{name}.py", source)
    _house(tmp_path, "torch/nn.py", "")
    assert loads_torch(code, tmp_path) is loads


def test_a_command_that_fails_proves_nothing(tmp_path):
    for code in ("import nothing_of_that_name", "sys.exit(2)"):
        with pytest.raises(AssertionError):
            loads_torch(code, tmp_path)


def test_python_bench_py_help_is_worth_its_name():
    done = subprocess.run(
        [sys.executable, "bench.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for word in ("usage:", "run", "report", "trace", "list", "--gpu", "--records"):
        assert word in done.stdout


# --- nothing of the machine on which it was written ------------------------------------------------------------------

PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org", "localhost", "127.0.0.1"}
FOLDERS = (*PACKAGES, "perf", "tests", ".ci", "docs")
SHARED_FOLDERS = {"/", "/home", "/root", "/tmp", "/var/tmp", "/opt", "/srv", "/usr/src", "/mnt", "/media", "/Users"}


def machine_words(root: Path) -> dict[str, re.Pattern[str]]:
    """What betrays the machine a checkout stands on: its path, its parent's, its neighbours, a private registry."""
    folders = {str(place) for place in (root, root.parent, Path.home())} - SHARED_FOLDERS
    words = {folder: re.compile(rf"(?<![\w.~/-]){re.escape(folder)}(?![\w-])") for folder in folders}
    private = str(root.parent) not in SHARED_FOLDERS and os.access(root.parent, os.R_OK)
    for neighbour in root.parent.iterdir() if private else ():
        if neighbour.is_dir() and not neighbour.name.startswith(".") and not (root / neighbour.name).exists():
            word = f"../{neighbour.name}"
            words[word] = re.compile(rf"(?<![\w./]){re.escape(word)}(?![\w-])")
    indices = [os.environ.get(name, "") for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL")]
    indices.append(_configured_indices())
    for host in set(re.findall(r"https?://(?:[^/@\s']*@)?([^/:\s']+)", " ".join(indices))) - PUBLIC_HOSTS:
        words[host] = re.compile(re.escape(host))
    for place in re.findall(r"file://(/[^\s']+)", " ".join(indices)):
        words[place] = re.compile(re.escape(place))
    return words


def _configured_indices() -> str:
    """What pip's own configuration says of indices; nothing where there is no pip."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    return "\n".join(line for line in listed.splitlines() if "index" in line or "find-links" in line)


def texts(root: Path) -> Iterator[tuple[Path, str]]:
    """Every text file of the project: what git tracks, or, where there is no git, the folders of the project."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False)
    if (root / ".git").exists() and listed.returncode == 0:
        paths = [root / name for name in listed.stdout.split("\0") if name]
    else:
        places = [place for place in root.iterdir() if place.is_file()]
        paths = places + [path for folder in FOLDERS for path in (root / folder).rglob("*")]
    for path in paths:
        if path.is_file() and path.suffix not in {".pyc", ".png", ".pdf"}:
            yield path, path.read_text(encoding="utf-8", errors="replace")


def betrayals(root: Path, words: dict[str, re.Pattern[str]]) -> list[str]:
    """Every line of a text under `root` that holds one of `words`."""
    return [
        f"{path.relative_to(root)}:{number}: mentions {word}"
        for path, text in texts(root)
        for word, pattern in words.items()
        if pattern.search(text)
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_file_mentions_the_machine_it_was_written_on():
    complaints = betrayals(ROOT, machine_words(ROOT))
    assert not complaints, "\n" + "\n".join(complaints)


def test_a_mention_of_the_machine_is_seen(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@wheels.example.test:8443/simple")
    (tmp_path / "desk" / "lamp").mkdir(parents=True)
    checkout = _house(tmp_path / "desk" / "house", "reports/fine.py", "# see ../lamps, desk/house and pypi.org")
    words = machine_words(checkout)
    assert betrayals(checkout, words) == []
    for number, line in enumerate(
        (
            f"open('{checkout}/x')",
            f"cd {checkout.parent}",
            "see `../lamp/x.md`",
            "--index-url https://wheels.example.test",
        )
    ):
        _house(checkout, f"docs/bad{number}.md", f"a line\n{line}\n")
        assert any(f"bad{number}.md:2" in told for told in betrayals(checkout, words)), line
