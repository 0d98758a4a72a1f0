"""The gate as a user meets it: a scratch repository, two revisions, and what a gate ends with and leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from visionbench import models
from visionbench.command.main import main
from visionbench.comparison import comparison
from visionbench.judging import worktrees

ROOT = Path(__file__).parents[1]

# `POWER` is the whole difference between a fast and a slow revision: the same operators on the same shapes, so that no
# count can see it, but torch multiplies for the square and takes logarithms for 2.5.
NET = """
import os, time
import torch
from torch import nn
from gate_zoo.powers import POWER

class Net(nn.Module):
    def __init__(self, power):
        super().__init__()
        self.conv, self.power = nn.Conv2d(3, 16, 3), power
    def forward(self, x):
        for _ in range(3):
            y = self.conv(x).abs() ** self.power
        return y

def swapped():
    return Net(POWER)

def untouched():
    return Net(2.0)

def hangs():
    with open(os.environ["GATE_PIDS"], "a") as file:
        print(os.getpid(), file=file)
    time.sleep(1000)
"""


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path, files: dict[str, str | None]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            (root / name).unlink()
        else:
            (root / name).write_text(text)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "a commit")


def repository(root: Path, base: dict[str, str | None], head: dict[str, str | None]) -> Path:
    """A repository of two commits, in `src/` layout."""
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch", "main")
    zoo: dict[str, str | None] = {
        ".gitignore": "__pycache__\n",
        "src/gate_zoo/__init__.py": "",
        "src/gate_zoo/net.py": NET,
    }
    commit(root, zoo | {"src/gate_zoo/powers.py": "POWER = 2.0\n"} | base)
    commit(root, {"NOTES": "nothing that runs\n"} | head)
    return root


def model(factory: str) -> tuple[str, str]:
    return ("--model", f"user:gate_zoo.{factory}")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this test alone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def is_clean(root: Path, temporary: Path) -> bool:
    """Whether a gate has left nothing: no work tree, no temporary folder."""
    return len(git(root, "worktree", "list").splitlines()) == 1 and not list(temporary.glob("visionbench*"))


@dataclass(frozen=True)
class Run:
    """What became of one gate."""

    code: int
    out: str
    err: str
    folder: Path


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One gate whose candidate has a slower kernel in one of two models, with everything written that can be.

    `PYTHONPATH` holds the working tree's own `src`, as an editable install would: the base must not see it.
    """
    folder = tmp_path_factory.mktemp("slower")
    root = repository(folder / "repository", {}, {"src/gate_zoo/powers.py": "POWER = 2.5\n"})
    files = [word for form in ("summary", "junit", "gab", "bmf") for word in (f"--{form}", str(folder / form))]
    (folder / "tmp").mkdir()
    (folder / "page").write_text("what an earlier step said\n")
    environ = os.environ | {
        "PYTHONPATH": str(root / "src"),
        "TMPDIR": str(folder / "tmp"),
        "GITHUB_STEP_SUMMARY": str(folder / "page"),
        "GITHUB_ACTIONS": "true",
    }
    words = ["gate", *model("net:swapped"), *model("net:untouched"), "--image-size", "64", "--base", "HEAD~1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench.py"), *words, "--launches", "7", "--rounds", "5", "--seed", "5",
         "--device", "cpu", "--keep", str(folder / "kept.jsonl"), *files],
        cwd=root, env=environ, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert is_clean(root, folder / "tmp")
    return Run(done.returncode, done.stdout, done.stderr, folder)


def rows(junit: Path, *outcomes: str) -> list[str]:
    """The factories whose test case ended so."""
    cases = ET.parse(junit).getroot().iter("testcase")
    ended_so = [case.attrib for case in cases if any(case.find(outcome) is not None for outcome in outcomes)]
    return [f"{one.get('classname')}.{one['name']}".split("net:")[1].split("@")[0] for one in ended_so]


@pytest.mark.slow
def test_a_slower_kernel_that_no_count_can_see_is_a_regression(slower: Run) -> None:
    assert slower.code == 1, slower.err
    swapped, untouched = comparison.read(slower.folder / "kept.jsonl")
    assert min(comparison.log_ratios(swapped)) > 0.1
    assert "1 of 2 rows regressed" in " ".join(slower.out.split())
    assert rows(slower.folder / "junit", "failure") == ["swapped"]
    assert all(len(one.launches) == 7 and one.failure is None for one in (swapped, untouched))


@pytest.mark.slow
def test_what_was_not_touched_is_not_regressed(slower: Run) -> None:
    assert "untouched" not in rows(slower.folder / "junit", "failure", "error")


@pytest.mark.slow
def test_a_title_names_both_sides_with_their_commits(slower: Run) -> None:
    root = slower.folder / "repository"
    base, head = (git(root, "rev-parse", "--short=10", name) for name in ("HEAD~1", "HEAD"))
    assert f"HEAD~1 ({base}) against working tree ({head})" in slower.out


@pytest.mark.slow
def test_raw_turns_are_kept_with_where_they_are_from(slower: Run) -> None:
    root, (swapped, _) = slower.folder / "repository", comparison.read(slower.folder / "kept.jsonl")
    assert swapped.baseline.commit == git(root, "rev-parse", "HEAD~1")
    assert swapped.candidate.commit == git(root, "rev-parse", "HEAD")
    assert not swapped.candidate.dirty
    assert (swapped.timer, swapped.seed) == ("cpu", 5)
    assert {len(launch.rounds) for launch in swapped.launches} == {5}
    assert all(len(launch.cores) == 1 for launch in swapped.launches)
    assert {one.first for launch in swapped.launches for one in launch.rounds} == {"baseline", "candidate"}


@pytest.mark.slow
def test_progress_is_told_and_the_results_are_alone_on_stdout(slower: Run) -> None:
    assert slower.err.count("launch ") == 7
    assert "launch 7/7 of 2 rows" in slower.err
    assert "Traceback" not in slower.err
    assert "launch 1/7" not in slower.out


@pytest.mark.slow
def test_every_form_is_written(slower: Run) -> None:
    page = (slower.folder / "page").read_text()
    assert page.startswith("what an earlier step said\n")
    assert page.endswith((slower.folder / "summary").read_text())
    assert "net:swapped" in page
    assert len(list(ET.parse(slower.folder / "junit").getroot().iter("testcase"))) == 2
    for form in ("gab", "bmf"):
        assert "net:swapped" in json.dumps(json.loads((slower.folder / form).read_text()))
    assert "::error" in slower.out  # an annotation


@pytest.mark.slow
def test_what_was_kept_is_judged_again_without_measuring(
    slower: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no repository, and none is needed
    kept = comparison.read(slower.folder / "kept.jsonl")
    more = [
        replace(one, launches=(*one.launches, one.launches[0])) for one in kept
    ]  # enough for the error of two looks
    comparison.write(Path("kept.jsonl"), more)
    assert main(["gate", "--rejudge", "kept.jsonl"]) == 1
    assert "judged again from kept.jsonl: 1 of 2 rows regressed" in capsys.readouterr().out


@pytest.fixture
def same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which nothing that runs has changed, as the current directory."""
    root = repository(tmp_path / "repository", {}, {})
    monkeypatch.chdir(root)
    return root


SHORT = ("--image-size", "32", "--launches", "1", "--rounds", "1", "--device", "cpu")


@pytest.mark.slow
def test_a_commit_against_itself_is_never_regressed(
    same: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", *model("net:untouched"), *SHORT]) == 0
    out, _ = capsys.readouterr()
    assert "Both sides are commit" in out
    assert "inconclusive" in out  # one launch shows nothing, and says so
    assert main(["gate", "--rejudge", "visionbench-gate.jsonl", "--strict"]) == 3
    assert is_clean(same, temporary)
    assert not worktrees.here(same).dirty  # the turns that it kept are no change


@pytest.mark.slow
def test_two_settings_of_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vary_zoo.py").write_text("from torch import nn\ndef net():\n    return nn.Conv2d(3, 8, 3)\n")
    monkeypatch.chdir(tmp_path)  # no repository, and none is needed
    words = ["gate", "user:vary_zoo:net", "--vary", "memory_format=channels_last", "--vary", "precision=bf16", *SHORT]
    assert main([*words, "--keep", "kept.jsonl"]) == 0
    assert "memory_format=channels_last, precision=bf16 against the default" in capsys.readouterr().out
    (row,) = comparison.read(Path("kept.jsonl"))
    assert (row.baseline.spec.memory_format, row.candidate.spec.memory_format) == ("contiguous", "channels_last")
    assert row.candidate.spec.precision == "bf16"
    assert row.baseline.commit is None


@pytest.mark.slow
def test_every_side_that_cannot_is_told_by_name(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = repository(
        tmp_path / "repository",
        {"src/gate_zoo/mended.py": "import a_module_that_is_nowhere\n"},
        {
            "src/gate_zoo/mended.py": "from gate_zoo.net import untouched\n",
            "src/gate_zoo/new.py": "from gate_zoo.net import untouched\n",
            "src/gate_zoo/net.py": NET + "\ndef added():\n    return untouched()\n",
        },
    )
    (root / "src" / "gate_zoo" / "uncommitted.py").write_text("x = 1\n")
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root / "src"))  # as after `pip install -e .`
    rows = ("net:untouched", "net:added", "new:untouched", "mended:untouched")
    words = ["gate", *(word for row in rows for word in model(row)), *SHORT, "--junit", "junit.xml"]
    assert main([*words, "--base", "HEAD~1"]) == 4
    out, _ = capsys.readouterr()
    assert "uncommitted changes" in out
    found = {one.name.split("@")[0]: one for one in comparison.read(Path("visionbench-gate.jsonl"))}
    measured = found.pop("user:gate_zoo.net:untouched")
    assert (len(measured.launches), measured.failure) == (1, None)
    assert {one.failed for one in found.values()} == {"baseline"}
    said = {name.partition(".")[2]: one.failure.message for name, one in found.items() if one.failure}
    assert "has no factory 'added'" in said["net:added"]
    assert "No module named 'gate_zoo.new'" in said["new:untouched"]
    assert "No module named 'a_module_that_is_nowhere'" in said["mended:untouched"]
    assert len(list(ET.parse("junit.xml").getroot().iter("error"))) == 3
    assert is_clean(root, temporary)

    new = ["gate", *model("new:untouched"), *model("net:added"), *SHORT, "--base", "HEAD~1", "--allow-new"]
    assert main([*new, "user:gate_zoo.new:untouched"]) == 4  # the other one is not allowed
    capsys.readouterr()
    assert main([*new, "user:gate_zoo.new:untouched", "--allow-new", "user:gate_zoo.net:added"]) == 0
    assert "new, the baseline cannot build it, so nothing was compared" in " ".join(capsys.readouterr().out.split())
    swapped = ["gate", *model("old:net"), *SHORT, "--base", "HEAD", "--allow-new", "user:gate_zoo.old:net"]
    assert main(swapped) == 4  # neither side has it: that is no new model


MISTAKES = {
    "unknown revision": (["--base", "origin/nowhere"], "fetch"),
    "empty revision": (["--base", ""], "there is no revision ''"),
    "empty head": (["--head", ""], "there is no revision ''"),
    "option as revision": (["--base=--upload-pack=x"], "there is no revision"),
    "no setting": (["--vary", "channels_last"], "memory_format=channels_last"),
    "unknown setting": (["--vary", "memory=channels_last"], "memory_format"),
    "unknown value": (["--vary", "precision=fp3"], "fp32"),
    "setting that changes nothing": (["--vary", "compile=eager"], "changes nothing"),
    "setting and revision": (["--vary", "precision=bf16", "--base", "HEAD"], "leave --base and --head away"),
    "setting and no revision": (["--vary", "precision=bf16", "--base", ""], "leave --base and --head away"),
    "unknown model": (["no_such_model_at_all"], "list models"),
    "model of neither side": (["resnet18", "--base", "HEAD"], "--model user:"),
    "file that is no gate's": (["--rejudge", "NOTES"], "holds no comparisons"),
    "file that is not there": (["--rejudge", "nowhere.jsonl"], "no such file"),
    "launches of a file": (["--rejudge", "kept.jsonl", "--launches", "3"], "leave --launches out"),
    "revision of a file": (["--base", "HEAD", "--rejudge", "kept.jsonl"], "leave --base out"),
    "model of a file": (["resnet18", "--rejudge", "kept.jsonl"], "leave resnet18 out"),
    "no launches": (["--launches", "0"], "at least 1"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_with_its_remedy(
    words: list[str], remedy: str, same: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["gate", *(() if "--rejudge" in words else model("net:untouched")), *words])
    except SystemExit as exit_:
        code = exit_.code  # type: ignore[assignment]  # argparse's own way out
    out, err = capsys.readouterr()
    told = [line for line in err.splitlines() if line.startswith("visionbench: ")]
    assert (code, out, len(told)) == (2, "", 1), err
    assert remedy in told[0]
    assert is_clean(same, temporary)


def test_no_repository_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["gate", *model("net:untouched")]) == 2
    assert "no git checkout" in capsys.readouterr().err


def test_a_folder_may_be_called_like_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "blocks.py").write_text("def net(): ...\n")
    (tmp_path / "uses_models.py").write_text("import models.blocks\n")
    (tmp_path / "uses_a_name.py").write_text("from models import blocks\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("models.blocks", "uses_models", "uses_a_name"):
        models.load(f"user:{name}:net")
        loaded = Path(str(sys.modules["models.blocks"].__file__))
        assert loaded == tmp_path / "models" / "blocks.py"
        for module in ("models", "models.blocks"):
            monkeypatch.delitem(sys.modules, module)


def ended(pid: int) -> bool:
    """Wait until the process is gone, or has been waited for by nobody yet; False after a generous while."""
    for _ in range(400):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def hanging(
    same: Path, tmp_path: Path, temporary: Path
) -> Iterator[Callable[[], tuple[subprocess.Popen[str], list[int]]]]:
    """Starts a gate both of whose sides hang; the answer is its process and theirs."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], list[int]]:
        pids = tmp_path / "pids"
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "bench.py"), "gate", *model("net:hangs"), "--device", "cpu"],
            cwd=same,
            env=os.environ | {"GATE_PIDS": str(pids), "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        while not pids.exists() or len(pids.read_text().split()) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        return process, [int(word) for word in pids.read_text().split()]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
@pytest.mark.slow
def test_an_interrupted_gate_leaves_nothing(
    how: str, same: Path, temporary: Path, hanging: Callable[[], tuple[subprocess.Popen[str], list[int]]]
) -> None:
    process, pids = hanging()
    assert not is_clean(same, temporary)
    if how == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
    else:
        process.terminate()  # as a CI runner does that cancels a job
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert all(ended(pid) for pid in pids)
    assert is_clean(same, temporary)


@pytest.mark.slow
def test_what_a_killed_gate_leaves_the_next_one_removes(
    same: Path, temporary: Path, hanging: Callable[[], tuple[subprocess.Popen[str], list[int]]]
) -> None:
    process, pids = hanging()
    process.kill()
    process.communicate()
    assert all(ended(pid) for pid in pids)
    assert not is_clean(same, temporary)
    worktrees.sweep_up(same)
    assert is_clean(same, temporary)
