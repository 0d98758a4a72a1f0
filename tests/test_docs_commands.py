"""What README and docs tell people to type: each line runs in a scratch repository, each example file is taken."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_readme import MINE, PAGES, ROOT
from visionbench.command.main import main
from visionbench.record import store
from visionbench.record.statistics import images_per_second
from visionbench.reports.export import COLUMNS

yaml = pytest.importorskip("yaml")

OURS = re.compile(r"(?:\.venv/bin/)?visionbench |python bench\.py ")
NOT_OURS = re.compile(
    r'pip install |python3 -m venv \.venv && \.venv/bin/pip install -e \.$|otava --config-file |eval "'
)
"""Lines of other programs. The wheel, the editable install and the completions have tests of their own."""

NET = "from torch import nn\n\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())\n"
OTHER = "\n\ndef other():\n    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten())\n"
TINY = {"convnext_tiny": "user:models.net:make", "resnet50": "user:models.net:other"}
"""What is compiled in their place: a kernel each, where whole networks take minutes."""

FEW = ["--launches", "1", "--rounds", "2", "--device", "cpu"]


def blocks(language: str) -> list[str]:
    """The blocks of that language of all pages."""
    pages = "\n".join(page.read_text() for page in PAGES)
    return [re.sub(r"(?m)^ +(?=\$)", "", text) for text in re.findall(rf"```{language}\n(.*?)```", pages, re.DOTALL)]


LINES = [
    re.split(r"\s+# ", line.removeprefix("$ "))[0].strip()
    for block in blocks("console")
    for line in block.splitlines()
    if line.startswith("$ ")
]
COMMANDS = list(dict.fromkeys(OURS.sub("", line) for line in LINES if OURS.match(line)))


def test_every_line_is_ours_or_a_known_program() -> None:
    assert len(COMMANDS) >= 8
    assert [line for line in LINES if not OURS.match(line) and not NOT_OURS.match(line)] == []


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's repository with one model, the branches main and origin/main, and a commit after them."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.py").write_text(NET + OTHER)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (
        ["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "one"],
        ["update-ref", "refs/remotes/origin/main", "HEAD"], ["checkout", "-qb", "topic"],
        ["commit", "-qm", "two", "--allow-empty"],
    ):  # fmt: skip
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def prepared(words: list[str], folder: Path) -> list[str]:
    """The words with what makes them quick, in a folder that has the files that they read."""
    (folder / "theirs.tex").write_text(r"Model & Params (M) & FLOPs (G) \\ Swin-T & 28 & 4.5 \\")
    if words[0] != "table":
        (folder / "mine.toml").write_text(MINE)
    if words[0] == "effects":
        words = [TINY.get(word, word) for word in words]
    if words[0] in ("gate", "effects"):
        size = (
            [] if "--image-size" in words or any(word.startswith("user:") for word in words) else ["--image-size", "32"]
        )
        return [*words, *FEW, *size]
    if words[0] == "run":
        if any(word.startswith("user:") for word in words):
            return ["1" if word == "7" else word for word in words] + ["--device", "cpu"]
        return [*words, "--dry-run"]
    if words[-1] == "records":  # a folder of them
        (folder / "records").mkdir()
        shutil.copy(ROOT / "reports" / "records" / "cpu_2_threads.jsonl", folder / "records" / "job-0.jsonl")
    if words[0] == "export":
        (folder / "history").mkdir()
        shutil.copy(ROOT / "reports" / "records" / "cpu_2_threads.jsonl", folder / "history" / "night.jsonl")
        return [file for word in words for file in (map(str, Path().glob(word)) if "*" in word else [word])]
    if words[0] == "calibrate":
        return [str(ROOT / word) if word.startswith("reports/") else word for word in words]
    if words[:2] == ["compare", "--exact"] and "--update" not in words:
        (folder / "perf").mkdir()
        assert main([*words, "--update"]) == 0
    return words


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_runs(command: str, repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    undecided = (3,) if "--strict" in command else ()  # one short launch decides nothing
    assert main(prepared(shlex.split(command), repository)) in (0, *undecided), capsys.readouterr().err
    printed = capsys.readouterr()
    assert printed.out or "--output" in command or "--update" in command


@pytest.mark.parametrize("text", [block for block in blocks("yaml") if "jobs:" in block])
def test_a_workflow_to_copy_gives_the_action_what_it_takes(text: str) -> None:
    workflow: dict[Any, Any] = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert len(text.splitlines()) <= 15
    (ours,) = (step for step in steps if "visionbench" in step.get("uses", ""))
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert set(ours["with"]) <= set(inputs)
    assert {name for name, entry in inputs.items() if entry.get("required")} <= set(ours["with"])
    assert steps[0]["with"] == {"fetch-depth": 0}


def test_the_first_workflow_has_ten_lines() -> None:
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", PAGES[0].read_text(), re.DOTALL))
    assert len(text.splitlines()) == 10


@pytest.mark.slow
@pytest.mark.parametrize("text", [block for block in blocks("python") if "mark.visionbench" in block])
def test_the_plugin_s_example_passes_once_its_baseline_is_written(text: str, repository: Path) -> None:
    name = re.findall(r'"user:([\w.]+):(\w+)"', text)[0]
    path = repository / (name[0].replace(".", "/") + ".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(NET.replace("make", name[1]))
    (repository / "test_it.py").write_text(text)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "visionbench.plugin.hooks", "-p", "no:cacheprovider"]
    environ = {"PYTHONPATH": f"{ROOT}:{repository}", "PATH": str(Path(shutil.which("git") or "").parent)}
    for more, expected in ((["--visionbench-update"], 0), ([], 0)):
        done = subprocess.run(
            [*words, *more], cwd=repository, env=environ, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == expected, done.stdout + done.stderr


def test_every_exported_column_is_explained() -> None:
    """Each by its name, or between the two ends of a range."""
    page = (ROOT / "docs" / "measuring.md").read_text()
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [names for cell in cells if (names := re.findall(r"`(\w+)`", cell))]
    explained = {name for names in named for name in names}
    first, last = COLUMNS.index("device"), COLUMNS.index("started")
    assert set(COLUMNS) <= explained | set(COLUMNS[first : last + 1])
    assert "| `device` to `started` |" in page


def test_the_recipe_for_pandas_shows_images_per_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = (block for block in blocks("python") if "import pandas" in block)
    monkeypatch.chdir(tmp_path)
    records = ROOT / "reports" / "records" / "cpu_2_threads.jsonl"
    others = records.with_name("h100.jsonl")  # other sizes, tasks and cards of the same networks
    assert main(["export", str(records), str(others), "--output", "records.csv"]) == 0
    exec(compile(text, "measuring.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "timm:deit_small_patch16_224" in printed
    deit = [record for record in store.read(records).records if "deit_small" in record.spec.model]
    rates = [rate for record in deit if (rate := images_per_second(record)) is not None]
    assert f"{max(rates):.6f}" in printed  # images per second of the fastest launch
    keys = {record.key for path in (records, others) for record in store.read(path).records if record.failure is None}
    assert len(printed.splitlines()) >= 2 + len(keys) * 0.8, "settings are kept apart"
    assert "..." not in printed
