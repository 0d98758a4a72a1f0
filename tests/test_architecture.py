"""The walls of the house: which room may import which, what is never imported, what is never written down."""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("bench", "models", "reports")
LINKS = {"visionbench": "bench", "bench/models": "../models", "bench/reports": "../reports"}
LIGHT = ("visionbench.record", "visionbench.comparison", "visionbench.reports")

BY_NAME = {
    "visionbench.models.building",
    "visionbench.measuring.process.fork_server",
    "visionbench.command.main",
}
"""Modules that import by a name that is data: a user's factory; what the fork server loads once for all children; the
file of one of our own verbs.
"""

NAMELESS = {"util", "utils", "common", "helper", "helpers", "base", "core", "misc"}


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the package under `root`, by the name under which it is imported."""
    for folder in PRODUCT:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            names = ("visionbench", *parts[1:]) if folder == "bench" else ("visionbench", *parts)
            yield ".".join(names[:-1] if names[-1] == "__init__" else names), path


def modules(root: Path) -> list[str]:
    """The names of `sources`."""
    return [module for module, _ in sources(root)]


def _house(folder: Path, path: str, source: str) -> Path:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(source, encoding="utf-8")
    return folder


# --- one import name -------------------------------------------------------------------------------------------------


def test_the_links_make_a_checkout_the_package():
    for link, target in LINKS.items():
        assert (ROOT / link).is_symlink(), link
        assert (ROOT / link).readlink() == Path(target)


def bare_names(root: Path) -> list[str]:
    """Imports of a folder of ours by its own name, which may be anybody's package."""
    folders = [path for folder in (*PRODUCT, "perf", "tests") for path in sorted((root / folder).rglob("*.py"))]
    return [
        f"{path.relative_to(root)}:{line}: imports {name}"
        for path in (*sorted(root.glob("*.py")), *folders)
        if MAY_IMPORT.search(source := path.read_text(encoding="utf-8"))  # few files need to be parsed
        for line, name in imports(source)
        if name.partition(".")[0] in PRODUCT
    ]


FOLDER = "(?:bench|models|reports)"
MAY_IMPORT = re.compile(rf"(?m)(?:^|[;:])\s*(?:from|import)\s+(?:[\w.]+(?:\s+as\s+\w+)?\s*,\s*)*{FOLDER}\b")
MAY_NAME = re.compile(rf"(?m)(?:^|[;\"'n])\s*(?:from|import) +{FOLDER}\b|[\"']{FOLDER}(?:\.\w+)*[\"']")
"""What every text has in which such an import, or such a string, can be."""

OTHERS = {"tests/test_architecture.py", "tests/test_gate.py", "tests/test_neighbours.py"}
"""Tests whose strings hold other people's modules."""

IMPORT = re.compile(r"(?:^|[;\n])\s*(?:from|import) +(?:bench|models|reports)\b")
MODULE = re.compile(r"(?:bench|models|reports)(?:\.[A-Za-z_]\w*)*")
TAKE_MODULES = {"setattr", "delattr", "setitem", "delitem", "patch", "import_module", "importorskip", "__import__"}
TAKE_MODULES |= {"find_spec", "run_module", "ModuleType", "module"}


def bare_strings(root: Path) -> list[str]:
    """Programs in strings that import a folder of ours by its own name; names of modules given to a function."""
    folders = [path for folder in (*PRODUCT, "perf", "tests") for path in sorted((root / folder).rglob("*.py"))]
    return [
        f"{where}:{text.lineno}: {' '.join(str(text.value).split())[:40]}"
        for path in folders
        if (where := path.relative_to(root).as_posix()) not in OTHERS
        if MAY_NAME.search(source := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(source))
        for text in _texts(node)
        if (text is node and IMPORT.search(str(text.value))) or (text is not node and MODULE.fullmatch(str(text.value)))
    ]


def _texts(node: ast.AST) -> list[ast.Constant]:
    """The node itself, if it is a string; the strings in which a call or `sys.modules[...]` names a module."""
    inside: list[ast.expr] = []
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node]
    if isinstance(node, ast.Call) and _called(node) in TAKE_MODULES:
        inside = node.args[:2]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "sys.modules":
        inside = [node.slice]
    return [part for part in inside if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def test_no_string_of_ours_names_a_bare_module(tmp_path):
    assert bare_strings(ROOT) == []
    bad = """
        run("import models")
        run('print(1); from bench.record import store')
        patch("reports.table.Table")
        monkeypatch.setitem(sys.modules, "models", fake)
        sys.modules["bench.record"] = fake
        """
    fine = (
        'run("import visionbench.models")\nprint("models.py")\npatch("visionbench.reports.x")\nsys.modules["torch"]\n'
    )
    assert len(bare_strings(_house(tmp_path, "tests/x.py", textwrap.dedent(bad)))) == 5
    assert bare_strings(_house(tmp_path / "lawful", "tests/x.py", fine)) == []


@functools.cache
def imports(source: str) -> list[tuple[int, str]]:
    """What a program imports, each with its line."""
    statements = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt))
    return [(node.lineno, name) for node in statements for name in _imported(node)]


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


def test_no_file_of_ours_imports_a_bare_name(tmp_path):
    assert bare_names(ROOT) == []
    bad = "import models\nfrom bench.record import store\nimport reports.table as t\n"
    fine = "import benchmark\nfrom visionbench import models, reports\nimport modelspace\n"
    assert len(bare_names(_house(tmp_path, "models/x.py", bad))) == 3
    assert bare_names(_house(tmp_path / "lawful", "models/x.py", fine)) == []


def test_the_folder_is_not_importable_by_its_own_name():
    done = _python("import bench")
    assert done.returncode == 1
    assert "say `import visionbench`" in done.stderr


def test_the_package_costs_nothing_until_it_is_used():
    heavy = "sorted(name for name in sys.modules if name.startswith('visionbench.'))"
    assert _python(f"import sys, visionbench; print({heavy})").stdout.strip() == "[]"


def test_every_folder_of_modules_is_in_the_distribution():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {module for module, path in sources(ROOT) if path.name == "__init__.py"}
    assert folders == set(setup["packages"]) - {"visionbench.reports.published"}
    assert setup["package-dir"] == {"visionbench": "bench", **{f"visionbench.{name}": name for name in PRODUCT[1:]}}


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


# --- the walls (import-linter and ruff, set up in pyproject.toml) -----------------------------------------------------


def lint_imports(root: Path) -> str:
    """What import-linter says of the package under `root`."""
    if find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed (it comes with the extra `test`)")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = _python(code, root)
    return done.stdout + done.stderr if done.returncode else ""


def ruff(root: Path) -> list[str]:
    """What ruff says of imports and of code from data under `root`."""
    if find_spec("ruff") is None:
        pytest.skip("ruff is not installed (it comes with the extra `test`)")
    rules = "TID,S102,S301,S307"
    words = [sys.executable, "-m", "ruff", "check", "--select", rules, "--output-format", "concise", "--no-cache", "."]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, check=False).stdout.splitlines()


PLANTED = {
    "bench/record/store.py": ("import numpy.linalg", "visionbench.record.store -> numpy"),
    "bench/record/units.py": ("def f():\n    from visionbench import tracing", "record.units -> visionbench.tracing"),
    "bench/record/spec.py": ("def f():\n    import psutil", "visionbench.record.spec -> psutil"),
    "bench/machine/linux.py": ("def f():\n    import pytest", "visionbench.machine.linux -> pytest"),
    "bench/machine/doctor.py": (
        "def f():\n    from visionbench.measuring import sweep",
        "machine.doctor -> visionbench.measuring",
    ),
    "bench/command/output.py": (
        "def f():\n    import visionbench.plugin.check",
        "command.output -> visionbench.plugin.check",
    ),
    "bench/predicting/targets.py": (
        "from visionbench.reports import table",
        "predicting.targets -> visionbench.reports",
    ),
    "bench/comparison/verdict.py": ("import pandas", "visionbench.comparison.verdict -> pandas"),
    "bench/record/errors.py": (
        "def f():\n    from visionbench.command.main import main",
        "visionbench.record.errors -> visionbench.command.main",
    ),
    "reports/table.py": ("def f():\n    import torch.nn", "visionbench.reports.table -> torch"),
    "reports/cells.py": (
        "def f():\n    from visionbench.measuring.timing import clock",
        "visionbench.reports.cells -> visionbench.measuring.timing",
    ),
    "reports/fold.py": ("from visionbench.models import names", "visionbench.reports.fold -> visionbench.models"),
    "models/roadmap.py": (
        "from visionbench.record.errors import BenchError",
        "visionbench.models.roadmap -> visionbench.record.errors",
    ),
    "bench/measuring/sweep.py": (
        "from visionbench.reports import table",
        "measuring.sweep -> visionbench.reports.table",
    ),
    "bench/measuring/timing.py": ("import pynvml", "visionbench.measuring.timing -> pynvml"),
    "bench/tracing/step.py": ("from fvcore.nn import FlopCountAnalysis", "visionbench.tracing.step -> fvcore"),
    "bench/tracing/formulas.py": (
        "import visionbench.measuring.workload",
        "tracing.formulas -> visionbench.measuring.workload",
    ),
    "bench/judging/verdict.py": (
        "from visionbench.measuring import timing",
        "judging.verdict -> visionbench.measuring",
    ),
    "bench/predicting/features.py": ("import torch", "visionbench.predicting.features -> torch"),
    "bench/attic/__init__.py": ("", "attic"),
}
"""Broken walls: a file, a line that is added to it, and what import-linter must say of it."""


def _copy(folder: Path) -> Path:
    for name in PRODUCT:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "visionbench").symlink_to("bench")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_walls_stand():
    assert lint_imports(ROOT) == ""
    assert ruff(ROOT) == ["All checks passed!"]


def test_broken_walls_are_seen(tmp_path):
    copy = _copy(tmp_path)
    for name, (source, _) in PLANTED.items():
        path = copy / name
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + f"\n\n{source}\n")
    complaints = " ".join(lint_imports(copy).split())
    for name, (_, complaint) in PLANTED.items():
        assert complaint in complaints, name


def test_the_root_may_load_everything_late(tmp_path):
    copy = _copy(tmp_path)
    root = copy / "bench" / "__init__.py"
    root.write_text(f"{root.read_text()}\n\ndef f():\n    from visionbench.command import main\n")
    assert lint_imports(copy) == ""


def test_every_foreign_package_is_behind_a_wall():
    """A new dependency must be allowed or refused to the data, which need none but msgspec."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (data,) = [contract for contract in contracts if "visionbench.record" in contract.get("source_modules", ())]
    foreign = {
        name.partition(".")[0] for _, path in sources(ROOT) for _, name in imports(path.read_text(encoding="utf-8"))
    } - {"", "visionbench", "msgspec", *sys.stdlib_module_names}
    assert len(foreign) >= 8
    assert foreign <= set(data["forbidden_modules"])


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("bench/command/main.py", "import torch", "TID253"),
        ("bench/command/verbs/run.py", "from visionbench.measuring.sweep import sweep", "TID253"),
        ("bench/plugin/hooks.py", "import numpy as np", "TID253"),
        ("reports/table.py", "import pandas", "TID253"),
        ("bench/record/store.py", "from . import spec", "TID252"),
        ("models/x.py", "import pickle", "TID251"),
        ("models/x.py", "def f():\n    from pickle import loads", "TID251"),
        ("models/x.py", "import marshal", "TID251"),
        ("models/x.py", "from torch import hub", "TID251"),
        ("models/x.py", "import torch\ntorch.hub.load('a', 'b')", "TID251"),
        ("models/x.py", "import torch\nx = torch.load('a')", "TID251"),
        ("models/x.py", "from torch.hub import load_state_dict_from_url", "TID251"),
        ("models/x.py", "eval('1')", "S307"),
        ("models/x.py", "def f(x):\n    exec(x)", "S102"),
    ],
)
def test_a_heavy_import_and_code_from_data_are_seen(tmp_path, path, source, rule):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert any(f" {rule} " in line for line in ruff(_house(tmp_path, path, source)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("bench/command/main.py", "def f():\n    import torch"),
        ("bench/measuring/timing.py", "import torch"),
        ("reports/figures/bars.py", "def f():\n    import matplotlib.pyplot as plt"),
        ("models/x.py", "network.eval()\nimport pickletools\nfrom torch import nn\ntimm.models.hub"),
        (
            "bench/command/progress.py",
            "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from rich.progress import Progress",
        ),
    ],
)
def test_a_lawful_line_is_let_through(tmp_path, path, source):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert not any(":" in line for line in ruff(_house(tmp_path, path, source)))


def imports_by_name(root: Path) -> list[str]:
    """Imports of a name that is data, or that no linter sees, outside of the modules that may have them."""
    return [
        f"{path.relative_to(root)}:{node.lineno}: imports by name"
        for module, path in sources(root)
        if module not in BY_NAME
        if re.search("import_module|__import__", source := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and _called(node) in {"import_module", "__import__"}
        and not (isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("visionbench."))
    ]


def test_nothing_is_imported_by_a_name_that_is_data(tmp_path):
    assert imports_by_name(ROOT) == []
    bad = "import importlib\nimportlib.import_module(name)\n__import__('torch')\nimportlib.import_module('torch')\n"
    assert len(imports_by_name(_house(tmp_path, "reports/table.py", bad))) == 3
    assert imports_by_name(_house(tmp_path / "lawful", "models/building.py", bad)) == []


def undeclared(root: Path) -> list[str]:
    """Imports of packages that nobody installs with this one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [word for words in project["optional-dependencies"].values() for word in words]
    declared = {re.split(r"[><=\[]", word)[0].lower() for word in (*project["dependencies"], *extras)}
    declared = declared - {"nvidia-ml-py"} | {"pynvml", "visionbench"}
    return [
        f"{path.relative_to(root)}:{line}: {name} is not declared"
        for _, path in sources(root)
        for line, name in imports(path.read_text(encoding="utf-8"))
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names and top.lower() not in declared
    ]


def test_every_package_that_is_imported_is_declared(tmp_path):
    assert undeclared(ROOT) == []
    assert len(undeclared(_house(tmp_path, "models/x.py", "import flask, json\nfrom torch import nn"))) == 1


def nameless(root: Path) -> list[str]:
    """Files and folders called by what they are not."""
    places = [place for folder in (*PRODUCT, "perf", "tests") for place in sorted((root / folder).rglob("*"))]
    code = [place for place in places if place.is_dir() or place.suffix == ".py"]
    return [
        f"{place.relative_to(root)}: a function with no home has not been named yet"
        for place in code
        if place.stem in NAMELESS
    ]


def test_every_file_has_a_name():
    assert nameless(ROOT) == []


@pytest.mark.parametrize(
    "path",
    ["bench/record/utils.py", "reports/core/x.py", "models/base.py", "tests/helpers.py", "perf/common/__init__.py"],
)
def test_a_file_without_a_name_is_seen(tmp_path, path):
    assert len(nameless(_house(tmp_path, path, ""))) == 1
    assert nameless(_house(tmp_path / "lawful", "bench/record/basement.py", "")) == []


def test_only_the_faces_call_main():
    done = subprocess.run(
        ["git", "grep", "-l", "from visionbench.command.main import main", "--", "bench", "models", "reports", "*.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    callers = {name for name in done.stdout.split() if not name.startswith(("tests/", "perf/"))}
    assert callers <= {"bench/__main__.py"}


@pytest.mark.parametrize(
    "module", ["visionbench.command.main", "visionbench.record.errors", "visionbench.command.verbs.report"]
)
@pytest.mark.parametrize(
    "start", ["runpy.run_path('bench.py', run_name='__main__')", "runpy.run_module('visionbench', run_name='__main__')"]
)
def test_a_ctrl_c_while_the_program_starts_ends_it_without_a_traceback(module, start):
    code = f"""import os, runpy, signal, sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
sys.argv = ["bench.py", "report", "convnext_table1"]
{start}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


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
        "import visionbench",
        "import visionbench.command.main",
        "import visionbench.models",
        _bench("--help"),
        _bench("report", "--help"),
        _bench("list", "tables"),
        _bench("list", "devices"),
    ],
)
def test_tables_and_help_never_see_torch(code):
    assert not loads_torch(code)


def first_that_loads_torch(names: Iterable[str], folder: Path = ROOT) -> str:
    """The first of the modules after whose import, one after the other in a fresh interpreter, torch is loaded."""
    names = list(names)
    done = _python(
        f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n        print(name)\n        break\n",
        folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_no_module_of_the_tables_loads_torch():
    light = [module for module in modules(ROOT) if module.startswith(LIGHT)]
    assert len(light) > 30
    assert first_that_loads_torch(light) == ""


def test_a_module_that_loads_torch_is_named(tmp_path):
    for name, text in (("light", "import json"), ("heavy", "import torch"), ("late", "import heavy")):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "torch.py").write_text("")
    assert first_that_loads_torch(["light", "heavy", "late"], tmp_path) == "heavy"
    assert first_that_loads_torch(["light"], tmp_path) == ""


HEAVY = {"torch", "timm", "numpy", "scipy", "pandas", "matplotlib", "rich", "pytest", "psutil", "fvcore", "pynvml"}
"""What nobody who asks for help waits for."""

LOADED = "import runpy, sys\ntry:\n    {code}\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"


def heavy_loaded(code: str) -> set[str]:
    """Which heavy packages are loaded after one statement in a fresh interpreter."""
    done = _python(LOADED.format(code=code) + "print(*sys.modules, file=sys.stderr)")
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("gate", "--help"),
        ("report", "--help"),
        ("report", "convnext_table1", "--format", "csv"),
        ("report", "convnext_table1", "--format", "markdown"),
        ("report", "convnext_table1", "--format", "latex"),
        ("report", "convnext_table1", "--format", "json"),
    ],
    ids=" ".join,
)
def test_help_and_reports_load_nothing_heavy(words):
    assert heavy_loaded(_bench(*words)) == set()


def test_what_is_heavy_is_noticed():
    assert heavy_loaded("import psutil" if find_spec("psutil") else "import rich")
    assert heavy_loaded("import json") == set()


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
FOLDERS = (*PRODUCT, "perf", "tests", ".ci", "docs")
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


@pytest.mark.slow
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
        assert any(f"bad{number}.md:2" in mention for mention in betrayals(checkout, words)), line


def test_the_end_of_a_command_collects_no_garbage():
    """Torch's objects take a second, at which a user who pressed Ctrl-C looks."""
    code = (
        "from visionbench.command.main import main\nclass Speaks:\n    def __del__(self): print('collected')\n"
        "speaks = Speaks(); speaks.itself = speaks\n{}"
    )
    for call, collected in (("", True), ("main(['list', 'protocols'])", False)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(call)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.endswith("collected\n") == collected
