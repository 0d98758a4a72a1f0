"""visionbench beside other people's code: a repository with its own `bench/`, `models/` and `reports/`.

It is installed as a wheel and as an editable checkout, into an environment of its own that finds torch and the rest
where this one has them. The repository is laid out like those of ConvNeXt and Swin: a package `models` with one file a
network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
KINDS = ("wheel", "editable")

CONVNEXT = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.pwconv1, self.act, self.pwconv2 = nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1)

    def forward(self, x):
        return x + self.pwconv2(self.act(self.pwconv1(self.norm(self.dwconv(x)))))


def tiny(depth=DEPTH):
    stem = nn.Conv2d(3, 16, 4, 4)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    return nn.Sequential(stem, *(Block(16) for _ in range(depth)), *head)
"""

REPOSITORY = {
    "bench/__init__.py": "",
    "bench/run_all.py": "def run_all():\n    return 'ours'\n",
    "models/__init__.py": "from models.convnext import tiny\n",
    "models/convnext.py": CONVNEXT.replace("DEPTH", "1"),
    "reports/__init__.py": "NAME = 'ours'\n",
    "conftest.py": "from bench.run_all import run_all\n",
    "tests/test_own.py": """
        from pathlib import Path

        import bench, models, reports
        from bench.run_all import run_all

        def test_own():
            assert run_all() == reports.NAME == "ours"
            here = Path(__file__).parents[1]
            assert all(Path(package.__file__).parents[1] == here for package in (bench, models, reports))
        """,
    "bench/test_inside.py": """
        from bench.run_all import run_all

        def test_inside():
            assert run_all() == "ours"
        """,
}


def checkout(folder: Path) -> Path:
    """A copy of what git tracks here, links included."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def without_links(folder: Path) -> Path:
    """The same as a program leaves it that unpacks links as small files."""
    for link in [path for path in checkout(folder).rglob("*") if path.is_symlink()]:
        target = os.readlink(link)  # noqa: PTH115 -- as it is written, not where it leads
        link.unlink()
        link.write_text(target)
    return folder


def build(source: Path, folder: Path) -> Path:
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel"))


def environment(folder: Path, *install: str) -> Path:
    """A virtual environment with visionbench installed by those words; all else is found in this one's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    others = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    python = folder / "bin" / "python"
    words = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *install], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


@pytest.fixture(scope="session")
def environments(source: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of programs of an environment for each way of installing."""
    folder = tmp_path_factory.mktemp("environments")
    return {
        "wheel": environment(folder / "wheel", str(wheel)),
        "editable": environment(folder / "editable", "--no-build-isolation", "--editable", str(source)),
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    for name, text in REPOSITORY.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


@pytest.fixture
def run(environments: dict[str, Path], repository: Path) -> Callable[..., str]:
    """`run(kind, "visionbench", "trace", ...)` in the repository: what it printed, or a failure."""

    def run_program(kind: str, program: str, *words: str, expected: int = 0, **variables: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
        done = subprocess.run(
            [str(environments[kind] / program), *words],
            cwd=repository, env=kept | variables, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run_program


# --- what is installed -----------------------------------------------------------------------------------------------

DATA = (
    "visionbench/record/devices.csv", "visionbench/predicting/calibrations/", "visionbench/reports/published/",
    "visionbench/reports/records/", "visionbench/reports/render/html/page.js", "visionbench/py.typed",
)  # fmt: skip


def test_the_wheel_brings_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"visionbench"}
    assert not [name for name in names if "/tests/" in name or "/perf/" in name]
    for start in DATA:
        assert any(name.startswith(start) for name in names), start


def test_an_archive_without_links_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    other = build(without_links(tmp_path / "unpacked"), tmp_path)
    contents = [
        {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist() if "dist-info" not in name}
        for path in (wheel, other)
    ]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_copy_that_was_installed(
    kind: str, run: Callable[..., str], environments: dict[str, Path], source: Path
) -> None:
    place = Path(run(kind, "python", "-c", "import visionbench; print(visionbench.__file__)").strip())
    assert place.is_relative_to(environments["wheel"].parent if kind == "wheel" else source)
    assert run(kind, "python", "-c", "import visionbench.models as m; print(m.resolve('resnet18').name)")


# --- their own suite, which never heard of visionbench ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "words",
    [
        ("python", "-m", "pytest"),
        ("python", "-m", "pytest", "tests"),
        ("python", "-m", "pytest", "--import-mode=importlib"),
        ("python", "-m", "pytest", "bench", "--import-mode=importlib"),
    ],
    ids=" ".join,
)
def test_their_suite_runs_as_without_it(kind: str, words: tuple[str, ...], run: Callable[..., str]) -> None:
    printed = run(kind, *words, "-p", "no:cacheprovider", PYTHONPATH=".")
    assert re.search(r"[12] passed", printed)


@pytest.mark.parametrize("kind", KINDS)
def test_their_script_called_bench_py_is_not_run(kind: str, run: Callable[..., str], repository: Path) -> None:
    shutil.rmtree(repository / "bench")
    (repository / "conftest.py").unlink()
    (repository / "bench.py").write_text("raise SystemExit('somebody ran me')\n")
    (repository / "tests" / "test_own.py").write_text("def test_own(): pass\n")
    assert "1 passed" in run(kind, "python", "-m", "pytest", "-p", "no:cacheprovider")
    assert "visionbench" in run(kind, "python", "-m", "visionbench", "--version")


@pytest.mark.parametrize("kind", KINDS)
def test_their_installed_packages_stay_theirs(
    kind: str, run: Callable[..., str], repository: Path, environments: dict[str, Path]
) -> None:
    """`src/models` of an editable project of theirs, found through a line in the environment."""
    (repository / "src").mkdir()
    (repository / "models").rename(repository / "src" / "models")
    (packages,) = (environments[kind].parent / "lib").glob("python*/site-packages")
    (packages / "theirs.pth").write_text(str(repository / "src"))
    try:
        place = run(kind, "python", "-c", "import models.convnext as m; print(m.__file__)")
    finally:
        (packages / "theirs.pth").unlink()
    assert place.strip() == str(repository / "src" / "models" / "convnext.py")


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_starts_among_their_packages(kind: str, run: Callable[..., str]) -> None:
    for words in (("visionbench",), ("python", "-m", "visionbench")):
        assert "visionbench" in run(kind, *words, "--version", PYTHONPATH=".")


# --- their own models ------------------------------------------------------------------------------------------------

SMALL = ("--image-size", "32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_theirs_is_counted(kind: str, run: Callable[..., str]) -> None:
    printed = run(kind, "visionbench", "trace", "user:models.convnext:tiny", *SMALL)
    assert "user:models.convnext:tiny@32" in printed
    assert re.search(r"params +.* 3,", printed)


def test_a_model_of_a_module_called_models_is_counted(run: Callable[..., str], repository: Path) -> None:
    shutil.rmtree(repository / "models")
    (repository / "models.py").write_text(REPOSITORY["models/convnext.py"])
    assert "user:models:tiny@32" in run("wheel", "visionbench", "trace", "user:models:tiny", *SMALL)


def test_a_checkout_that_nobody_installed_counts_it_too(run: Callable[..., str], source: Path) -> None:
    printed = run("wheel", "python", str(source / "bench.py"), "trace", "user:models.convnext:tiny", *SMALL)
    assert "user:models.convnext:tiny@32" in printed


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_theirs_is_measured(kind: str, run: Callable[..., str], repository: Path) -> None:
    words = ("--device", "cpu", "--threads", "1", "--protocol", "smoke", "--launches", "1", *SMALL)
    assert "1 launch measured" in run(kind, "visionbench", "run", "user:models.convnext:tiny", *words)
    assert (repository / "visionbench.jsonl").read_text().count("\n") == 1


def commit(repository: Path, text: str) -> None:
    for words in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", text]):
        subprocess.run(["git", *words], cwd=repository, check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_theirs_is_gated_between_two_commits(kind: str, run: Callable[..., str], repository: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    commit(repository, "one block")
    (repository / "models" / "convnext.py").write_text(CONVNEXT.replace("DEPTH", "6"))
    commit(repository, "six blocks")
    words = ("--base", "HEAD~1", "--head", "HEAD", "--device", "cpu", "--launches", "7", "--rounds", "5", "--seed", "1")
    printed = run(
        kind, "visionbench", "gate", "--model", "user:models.convnext:tiny", *SMALL, *words, expected=1
    )  # fmt: skip
    assert "regressed" in printed
    assert not list(repository.glob("visionbench-*worktree*"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_plugin_takes_a_model_of_theirs(kind: str, run: Callable[..., str], repository: Path) -> None:
    (repository / "tests" / "test_model.py").write_text(
        "import pytest\n\n\n@pytest.mark.visionbench(image_size=32)\n"
        "def test_model(visionbench):\n    visionbench('user:models.convnext:tiny')\n"
    )
    words = ("-m", "pytest", "-p", "no:cacheprovider", "tests/test_model.py")
    run(kind, "python", *words, "--visionbench-update")
    assert "1 passed" in run(kind, "python", *words)
    (repository / "models" / "convnext.py").write_text(CONVNEXT.replace("DEPTH", "2"))
    assert re.search(r"models.convnext:tiny.* native_group_norm", run(kind, "python", *words, expected=1), re.DOTALL)
