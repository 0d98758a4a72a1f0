"""The verb `figures`: files where the user asked for them, and one sentence with exit code 2 where there is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionbench.command.main import main
from visionbench.reports.figures import FIGURES


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_figure_is_a_file_of_its_name_and_stdout_says_where(here: Path, capsys) -> None:
    words = ["figures", "throughput_accuracy", "--theme", "dark", "--width", "column", "--output", "new/folder"]
    assert main(words) == 0
    assert capsys.readouterr().out == "new/folder/throughput_accuracy.svg\n"
    assert (here / "new/folder/throughput_accuracy.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_what_has_not_been_counted_is_traced(here: Path, capsys) -> None:
    words = ["figures", "memory_curve", "--model", "resnet18", "--image-size", "64", "--format", "png"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out == "memory_curve.png\n"
    assert "memory_curve: counting 1 network" in told.err
    assert (here / "memory_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_roofline_for_a_word_that_means_several_gpus_says_which(here: Path, capsys) -> None:
    words = ["figures", "roofline", "--model", "timm:resnet18", "--image-size", "64", "--gpu", "v100"]
    assert main(words) == 0
    assert "drawn for v100-sxm2-16gb" in capsys.readouterr().err
    assert "v100-sxm2-16gb, fp32" in (here / "roofline.svg").read_text()


MISTAKES = {
    "nothing named": (["figures"], "figure2"),
    "unknown figure": (["figures", "figure3"], "figure1"),
    "unknown device": (["figures", "roofline", "--gpu", "a1000"], "a100"),
    "unknown model": (["figures", "memory_curve", "--model", "resnet_18"], "resnet18"),
    "no such comparisons": (["figures", "effects", "--comparisons", "none.jsonl"], "none.jsonl"),
    "no place to write": (["figures", "throughput_accuracy", "--output", "/dev/null/x"], "--output"),
}


SLOW = {"no place to write"}  # drawn before it cannot be written


@pytest.mark.parametrize(
    ("words", "remedy"),
    [pytest.param(*case, marks=pytest.mark.slow) if name in SLOW else case for name, case in MISTAKES.items()],
    ids=MISTAKES,
)
def test_a_mistake_is_one_sentence_with_its_remedy(words: list[str], remedy: str, here: Path, capsys) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert remedy in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not list(here.iterdir())


def test_without_comparisons_there_is_no_picture_of_effects(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("visionbench.command.inputs.read_comparisons", lambda _paths=None: [])
    assert main(["figures", "effects"]) == 2
    assert "python bench.py effects" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_figures_are_listed_in_the_help(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["figures", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in FIGURES)
