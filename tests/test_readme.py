"""README and docs are executed: their commands run, their tables are what the tool prints, the test command is CI's."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from perf.prediction.__main__ import main as workshop
from tests import anchors
from tests.cards import TOML
from visionbench.command.main import main
from visionbench.record import store
from visionbench.reports import render
from visionbench.reports.render.terminal import SUPERSCRIPTS
from visionbench.reports.results import runs

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

BLOCK = re.compile(r"<!-- generated: (?P<words>.*?)(?: \| (?P<part>\w+))? -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
MADE_WITH = (2, 14)
"""The torch whose traces the README shows; another release may dispatch a few operators more or less."""

PREDICTIONS = ROOT / "docs" / "predictions.md"
PREDICTED_WITH = {"torch": ("2.14", "2.15"), "timm": ("1.0.31",)}
"""What that page was made with: it traces three hundred networks, and any release may change one of them."""

DRAWN_WITH = "3.11.2"
"""The matplotlib of the README's picture."""

MINE = """
title = "Mine"
cite = "mine"
[[table]]
name = "mine"
title = "Mine"
[[table.row]]
model = "swin_tiny_patch4_window7_224"
params = 28
flops = 4.5
"img/s" = 755.2
gpu = "V100"
"""
"""A table of one's own."""

PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))


def shell_lines(*pages: Path) -> list[str]:
    text = "\n".join(page.read_text() for page in pages or (README,))
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split(" # ")[0].strip() for block in blocks for line in block.splitlines()]


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    command = next(line for line in shell_lines() if line.endswith("-m pytest"))
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert script[-1] == command
    assert all(not line.startswith((".venv", "python", "pip")) for line in script[:-1])


def test_the_readme_is_read_in_one_visit() -> None:
    text = README.read_text()
    assert len(text.encode()) <= 14_000
    assert text.count("\n") <= 200
    assert max(len(line) for line in text.splitlines() if line.startswith("|")) <= 100


def test_every_link_of_a_page_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_first_command_is_the_default_journey() -> None:
    first = shell_lines()[0]
    assert first.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert first.endswith(".venv/bin/python bench.py")


LINES = dict.fromkeys(shell_lines(*PAGES))
COMMANDS = [line.removeprefix("python bench.py ") for line in LINES if line.startswith("python bench.py ")]


NETS = """
import torch
from torch import nn

def make_net():
    return nn.Conv2d(3, 8, 16, 16)

class Of(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.images, self.words, self.forward_of = nn.Conv2d(3, 8, 16, 16), nn.Embedding(49408, 8), forward

    def forward(self, *args, **kwargs):
        return self.forward_of(self, *args, **kwargs)

def change():
    return Of(lambda self, before, after: (self.images(after) - self.images(before)).mean((2, 3)))

def guided():
    return Of(lambda self, image, mask: (self.images(image * mask)).mean((2, 3)))

def clip():
    return Of(lambda self, image, ids: (self.images(image)).mean((2, 3)) @ self.words(ids).mean(1).T)
"""
"""What the pages call a network of one's own."""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_command_of_the_readme_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "models.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    words = shlex.split(command)
    if "my_card.toml" in words:
        (tmp_path / "my_card.toml").write_text(TOML)
    (tmp_path / "theirs.tex").write_text(r"Model & Params (M) & FLOPs (G) \\ Swin-T & 28 & 4.5 \\")
    if words[0] != "table":
        (tmp_path / "mine.toml").write_text(MINE)
    if words[0] in ("calibrate", "export"):
        anchors.write(tmp_path / "visionbench.jsonl")
    words += ["--dry-run"] if words[0] == "run" else []
    if words[:2] == ["compare", "--exact"] and "--update" not in words:
        assert main([*words, "--update"]) == 0
    # `predict` takes any GPU; whoever measures insists on it.
    insists = "--gpu" in words and words[0] != "predict"
    expected = 2 if insists and not _gpu_is_here(words[words.index("--gpu") + 1]) else 0
    # What doctor finds is this machine's state: other tests may want its cores just now.
    assert main(words) in ({0, 4} if words == ["doctor"] else {expected})
    assert capsys.readouterr().out or expected or "--output" in words


def _gpu_is_here(word: str) -> bool:
    import torch

    return torch.cuda.is_available() and word in torch.cuda.get_device_name().lower()


def generated(words: str, part: str | None, run: Callable[[str], str]) -> str:
    """What a generated block must hold: all of it, its `table` with the footnotes, or the section that begins so."""
    printed = run(words)
    if part is None:
        return f"\n{printed}\n"
    if part == "table":
        lines = printed.splitlines()
        _, end, *_ = (number for number, line in enumerate(lines) if line.startswith("━"))  # of the first one
        section = "\n".join([*lines[: end + 1], *(line for line in lines[end:] if line[:1] in FOOTNOTES)])
    else:
        (section,) = (text for text in printed.split("\n\n") if text.startswith(part))
    section = re.sub(r"\btorch \d\S+|\btimm [\d.]+\d", lambda match: match[0].split()[0], section)  # of any release
    return f"```text\n{section}\n```\n"


FOOTNOTES = set("abcdefgh".translate(SUPERSCRIPTS))


def recorded(name: str) -> str:
    """What `run` prints of a committed file of records."""
    return render(runs.layout(store.read_if_there(ROOT / name).records), "terminal", 110)


GENERATED = [page for page in PAGES if "<!-- generated:" in page.read_text()]


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.stem)
@pytest.mark.slow
def test_the_generated_blocks_are_what_the_tool_prints(
    page: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _needs_what_it_was_made_with(page)
    monkeypatch.chdir(tmp_path)  # no records of this machine's own
    monkeypatch.setenv("COLUMNS", "112")
    monkeypatch.setattr("sys.argv", ["bench.py"])  # the pages call the program so
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")

    def run(words: str) -> str:
        program, *rest = shlex.split(words)
        if program == "recorded":
            return recorded(*rest)
        assert (workshop(rest) if program == "perf.prediction" else main([program, *rest])) == 0
        return capsys.readouterr().out

    text = page.read_text()
    fresh = BLOCK.sub(lambda found: _block(found, generated(found["words"], found["part"], run)), text)
    if request.config.getoption("--update-golden"):
        page.write_text(fresh)
    assert page.read_text() == fresh, "run pytest tests/test_readme.py --update-golden and read the diff"


def _needs_what_it_was_made_with(page: Path) -> None:
    if tuple(map(int, version("torch").split(".")[:2])) < MADE_WITH:
        pytest.skip(f"the README shows traces of torch {'.'.join(map(str, MADE_WITH))}")
    if page == PREDICTIONS and any(not version(name).startswith(made) for name, made in PREDICTED_WITH.items()):
        pytest.skip(f"the page was made with {PREDICTED_WITH}")


def test_the_page_says_what_it_was_made_with() -> None:
    text = PREDICTIONS.read_text()
    assert all(f"{name} {made[-1]}" in text for name, made in PREDICTED_WITH.items())


@pytest.mark.parametrize("name", ["figure1", "throughput_accuracy"])
def test_the_pictures_are_what_the_tool_draws(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = (ROOT / "docs" / f"{name}.svg").read_text()
    assert any(f"{name}.svg" in page.read_text() for page in PAGES)
    if version("matplotlib") != DRAWN_WITH:
        pytest.skip("the picture was drawn by another matplotlib, which sets text a little differently")
    monkeypatch.chdir(tmp_path)  # no records of this machine's own
    assert main(["figures", name, "--output", "."]) == 0
    drawn = (tmp_path / f"{name}.svg").read_text()
    assert drawn == committed, f"draw it again: bench.py figures {name} --output docs"


def _block(found: re.Match[str], text: str) -> str:
    part = f" | {found['part']}" if found["part"] else ""
    return f"<!-- generated: {found['words']}{part} -->\n{text}<!-- end -->"
