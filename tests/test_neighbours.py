"""visionbench beside other people's code: a repository with its own `bench/`, `models/`, `models.py` and `reports/`.

It is installed as a wheel, as an editable checkout, or run from a checkout that nobody installed. The repository is
laid out like those of ConvNeXt (`models/` without an `__init__.py`) and Swin (with one): a file for each network, and
factories that timm's registry knows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

pytestmark = pytest.mark.slow

INSTALLED = ("wheel", "editable")
KINDS = (*INSTALLED, "checkout")
QUIET = ("python", "-W", "ignore", "-c")  # timm warns of a name that two networks have
PYTEST = ("python", "-m", "pytest", "-p", "no:cacheprovider")

CONVNEXT = """
from timm.models import register_model
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.pwconv1, self.act, self.pwconv2 = nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1)

    def forward(self, x):
        return x + self.pwconv2(self.act(self.pwconv1(self.norm(self.dwconv(x)))))


def tiny(depth=DEPTH, **kwargs):
    stem = nn.Conv2d(3, 16, 4, 4)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    return nn.Sequential(stem, *(Block(16) for _ in range(depth)), *head)


@register_model
def convnext_tiny(pretrained=False, in_22k=False, **kwargs):
    return tiny(**kwargs)
"""

PLAIN = CONVNEXT.replace("from timm.models import register_model\n", "").partition("@register_model")[0]
"""The same without timm, which takes seconds to import in each of a gate's processes."""

REPOSITORY = {
    "bench/__init__.py": "",
    "bench/run_all.py": "def run_all():\n    return 'theirs'\n",
    "models/convnext.py": CONVNEXT.replace("DEPTH", "1"),
    "models/plain.py": PLAIN.replace("DEPTH", "1"),
    "models/sizes.py": "NAME = 'theirs'\n",
    "models/net.py": "from models.plain import tiny\n\n\ndef make():\n    return tiny()\n",
    "reports/__init__.py": "NAME = 'theirs'\n",
    "main.py": "import models.convnext\nimport models.net\n",
    "tests/test_own.py": """
        import sys
        from pathlib import Path

        import bench, reports
        import models.sizes
        from bench.run_all import run_all

        def test_own():
            assert run_all() == reports.NAME == models.sizes.NAME == "theirs"
            here = Path(__file__).parents[1]
            names = [name for name in sys.modules if name.partition(".")[0] in ("bench", "models", "reports")]
            assert len(names) >= 5
            files = [sys.modules[name].__file__ for name in names if name != "models"]
            assert all(Path(file).is_relative_to(here) for file in files), files
        """,
    "bench/test_inside.py": """
        from bench.run_all import run_all

        def test_inside():
            assert run_all() == "theirs"
        """,
}


class Run(Protocol):
    """`run(kind, "visionbench", "trace", ...)` in the repository: what it printed, or a failure."""

    def __call__(self, kind: str, program: str, *words: str, expected: int = 0, **variables: str) -> str: ...


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Their repository: `models/` as ConvNeXt has it, without an `__init__.py`."""
    folder = tmp_path / "repository"
    for name, text in REPOSITORY.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


@pytest.fixture
def run(environments: dict[str, Path], source: Path, repository: Path) -> Run:
    """Runs a program of one of the environments; `visionbench` is the installed one, or the checkout's `bench.py`."""

    def run_program(kind: str, program: str, *words: str, expected: int = 0, **variables: str) -> str:
        python = environments[kind]
        command = [str(python.parent / program)]
        if kind == "checkout" and program == "visionbench":
            command = [str(python), str(source / "bench.py")]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
        done = subprocess.run(
            [*command, *words],
            cwd=repository, env=kept | variables, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run_program


def make_package(repository: Path) -> None:
    """Make their `models/` a package, as Swin's is."""
    (repository / "models" / "__init__.py").write_text("from models.plain import tiny\n")


def make_module(repository: Path) -> None:
    """Put their networks into one file, `models.py`."""
    shutil.rmtree(repository / "models")
    (repository / "models.py").write_text(REPOSITORY["models/plain.py"])


def commit(repository: Path, text: str) -> None:
    if not (repository / ".git").exists():
        subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    for words in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", text]):
        subprocess.run(["git", *words], cwd=repository, check=True)


# --- the copy that was installed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", INSTALLED)
def test_it_is_the_copy_that_was_installed(
    kind: str, run: Run, environments: dict[str, Path], source: Path, repository: Path
) -> None:
    make_package(repository)
    place = Path(run(kind, "python", "-c", "import visionbench; print(visionbench.__file__)").strip())
    assert place.is_relative_to(environments["wheel"].parents[1] if kind == "wheel" else source)
    code = "import visionbench.models as ours, models as theirs; print(ours.resolve('resnet18').name, theirs.__file__)"
    assert run(kind, *QUIET, code).split() == ["timm:resnet18", str(repository / "models" / "__init__.py")]


@pytest.mark.parametrize("kind", INSTALLED)
def test_the_program_starts_among_their_packages(kind: str, run: Run, repository: Path) -> None:
    make_package(repository)
    for words in (("visionbench",), ("python", "-m", "visionbench")):
        assert "visionbench" in run(kind, *words, "--version", PYTHONPATH=".")
        assert "visionbench" in run(kind, *words, "--version")


# --- their own suite, which never heard of visionbench ---------------------------------------------------------------

SUITES = {
    "python -m pytest": PYTEST,
    "python -m pytest tests": (*PYTEST, "tests"),
    "python -m pytest --import-mode=importlib": (*PYTEST, "--import-mode=importlib"),
    "tests inside bench": (*PYTEST, "bench", "--import-mode=importlib"),
}


@pytest.mark.parametrize("kind", INSTALLED)
@pytest.mark.parametrize("words", SUITES.values(), ids=SUITES)
def test_their_suite_runs_as_without_it(kind: str, words: tuple[str, ...], run: Run) -> None:
    assert re.search(r"\b[12] passed", run(kind, *words))


@pytest.mark.parametrize("kind", INSTALLED)
def test_their_suite_with_a_conftest_at_the_root_runs(kind: str, run: Run, repository: Path) -> None:
    """`pytest tests`, which does not look into the current directory: the conftest's folder is what is found."""
    (repository / "conftest.py").write_text("from bench.run_all import run_all\n")
    assert "1 passed" in run(kind, "python", "-P", *PYTEST[1:], "tests")
    assert "1 passed" in run(kind, *PYTEST, "tests", PYTHONPATH=".")


@pytest.mark.parametrize("kind", INSTALLED)
@pytest.mark.parametrize("make", [make_package, make_module])
def test_their_suite_imports_their_models(kind: str, make: Callable[[Path], None], run: Run, repository: Path) -> None:
    make(repository)
    (repository / "tests" / "test_own.py").write_text(
        "import models\n\ndef test_own():\n    assert len(models.tiny()) == 5 and '/repository/' in models.__file__\n"
    )
    assert "1 passed" in run(kind, *PYTEST, "tests")


@pytest.mark.parametrize("kind", INSTALLED)
def test_their_script_called_bench_py_is_not_run(kind: str, run: Run, repository: Path) -> None:
    shutil.rmtree(repository / "bench")
    (repository / "bench.py").write_text("raise SystemExit('somebody ran me')\n")
    (repository / "tests" / "test_own.py").write_text("def test_own(): pass\n")
    assert "1 passed" in run(kind, *PYTEST)
    assert "visionbench" in run(kind, "python", "-m", "visionbench", "--version")
    assert "user:models.net:make@32" in run(kind, "visionbench", "trace", "user:models.net:make", *SMALL)


@pytest.mark.parametrize("kind", INSTALLED)
def test_their_installed_packages_stay_theirs(
    kind: str, run: Run, repository: Path, environments: dict[str, Path]
) -> None:
    """`src/models` of an editable project of theirs, which a line in the environment finds."""
    (repository / "src").mkdir()
    (repository / "models").rename(repository / "src" / "models")
    (packages,) = (environments[kind].parents[1] / "lib").glob("python*/site-packages")
    (packages / "theirs.pth").write_text(str(repository / "src"))
    try:
        place = run(kind, *QUIET, "import models.convnext as m; print(m.__file__)")
        counted = run(kind, "visionbench", "trace", "user:models.convnext:tiny", *SMALL)
    finally:
        (packages / "theirs.pth").unlink()
    assert place.strip() == str(repository / "src" / "models" / "convnext.py")
    assert "user:models.convnext:tiny@32" in counted


# --- their own models ------------------------------------------------------------------------------------------------

SMALL = ("--image-size", "32")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["models.convnext:tiny", "models.convnext:convnext_tiny", "models.net:make"])
def test_a_model_of_theirs_is_counted(kind: str, model: str, run: Run) -> None:
    printed = run(kind, "visionbench", "trace", f"user:{model}", *SMALL)
    assert f"user:{model}@32" in printed
    assert re.search(r"params +.* 3,", printed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("make", "model"), [(make_package, "models:tiny"), (make_module, "models:tiny")])
def test_a_model_of_a_package_or_a_module_called_models_is_counted(
    kind: str, make: Callable[[Path], None], model: str, run: Run, repository: Path
) -> None:
    make(repository)
    assert f"user:{model}@32" in run(kind, "visionbench", "trace", f"user:{model}", *SMALL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_theirs_is_measured(kind: str, run: Run, repository: Path) -> None:
    words = ("--device", "cpu", "--threads", "1", "--protocol", "smoke", "--launches", "1", *SMALL)
    assert "1 launch measured" in run(kind, "visionbench", "run", "user:models.convnext:tiny", *words)
    assert (repository / "visionbench.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_theirs_is_gated_between_two_commits(kind: str, run: Run, repository: Path) -> None:
    if kind == "editable":
        make_package(repository)
    commit(repository, "one block")
    name, text = ("convnext", CONVNEXT) if kind == "wheel" else ("plain", PLAIN)
    (repository / "models" / f"{name}.py").write_text(text.replace("DEPTH", "6"))
    commit(repository, "six blocks")
    words = ("--base", "HEAD~1", "--head", "HEAD", "--device", "cpu", "--launches", "7", "--rounds", "5", "--seed", "1")
    printed = run(kind, "visionbench", "gate", f"user:models.{name}:tiny", *SMALL, *words, expected=1)
    assert "regressed" in printed
    listed = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True)
    assert listed.stdout.count("\n") == 1, "no work tree is left behind"


@pytest.mark.parametrize("kind", INSTALLED)
def test_the_plugin_takes_a_model_of_theirs(kind: str, run: Run, repository: Path) -> None:
    (repository / "tests" / "test_model.py").write_text(
        "import pytest\n\n\n@pytest.mark.visionbench(image_size=32)\n"
        "def test_model(visionbench):\n    visionbench('user:models.net:make')\n"
    )
    words = (*PYTEST[1:], "tests/test_model.py")
    run(kind, "python", *words, "--visionbench-update")
    assert "1 passed" in run(kind, "python", *words)
    (repository / "models" / "plain.py").write_text(PLAIN.replace("DEPTH", "2"))
    assert re.search(r"models.net:make.* native_group_norm", run(kind, "python", *words, expected=1), re.DOTALL)


def test_the_plugin_times_a_model_of_theirs(run: Run, repository: Path) -> None:
    (repository / "tests" / "test_model.py").write_text(
        "import pytest\n\n\n@pytest.mark.visionbench(image_size=32)\n"
        "def test_model(visionbench):\n    visionbench('user:models.net:make')\n"
    )
    words = (*PYTEST, "tests/test_model.py")
    run("wheel", *words, "--visionbench-update")
    commit(repository, "one block")
    (repository / "models" / "plain.py").write_text(PLAIN.replace("DEPTH", "6"))
    run("wheel", *words, "--visionbench-update")
    how = ("--visionbench-base", "HEAD", "--visionbench-budget", "15s", "--visionbench-strict", "--junitxml", "r.xml")
    run("wheel", *words, *how, expected=1)  # regressed; on a slow machine too few launches to say so
    report = (repository / "r.xml").read_text()
    said = dict(re.findall(r'name="visionbench\.(\w+)" value="([^"]*)"', report))
    assert said["base"] == "HEAD"
    assert int(said["launches"]) >= 1
    assert float(said["ratio"]) > 1.1, "each side ran its own models/"
