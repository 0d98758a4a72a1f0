"""What a terminal shows: help, suggestions, quiet, completions, widths, and the first journey in a screen or two."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.command import inputs, output
from visionbench.command.main import VERBS, main
from visionbench.command.requests import Output
from visionbench.command.verbs import tables
from visionbench.reports import REPORTS
from visionbench.reports.paper.lessons import learned

ROOT = Path(__file__).parents[1]


def ended(words: list[str]) -> int:
    """The exit code, also where argparse ends the process."""
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended([word]) == 0
    assert capsys.readouterr().out.startswith("visionbench ")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["rnu"], "run"),
        (["repotr"], "report"),
        (["predcit", "--gpu", "a100"], "predict"),
        (["trace", "resnet18", "--image-sise", "64"], "--image-size"),
        (["run", "--protocol", "swim", "resnet18"], "swin"),
        (["report", "--formt", "csv"], "--format"),
    ],
)
def test_a_misspelt_verb_option_or_choice_gets_the_right_one(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(words) == 2
    printed = capsys.readouterr().err
    assert printed.endswith(f"; did you mean {meant}?\n")
    assert len(printed.splitlines()) == 1


def test_a_word_like_no_other_gets_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["trace", "resnet18", "--zzzzzzzz"]) == 2
    assert "--help`." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("swin_t", "torchvision:swin_t, timm:swin_tiny_patch4_window7_224"),  # one of that very name comes first
        ("swin_tiny", "timm:swin_tiny_patch4_window7_224"),
        ("vit_base", "timm:vit_base_patch16_224"),
        ("deit_small", "timm:deit_small_patch16_224"),
        ("vit_large", "timm:vit_large_patch16_224"),
        ("resnet_18", "timm:resnet18"),
    ],
)
def test_the_usual_variant_of_a_name_is_proposed_first(
    typed: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", typed]) == 2
    assert f"did you mean {first}" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_says_what_the_verb_does_and_knows_quiet(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--quiet" in printed
    assert printed.partition("\n\n")[2].strip()[0].isupper() or "--exact" in printed


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_help_text_fits_the_terminal_and_keeps_its_lists(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    ended(["gate", "--help"])
    printed = capsys.readouterr().out
    assert "\n  0  no row regressed; some may be inconclusive\n  1  a row regressed\n" in printed
    intro = printed.partition("\n\n")[2].partition("exit codes")[0]
    assert max(map(len, intro.splitlines())) <= columns


@pytest.mark.slow
def test_quiet_prints_results_and_errors_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["figures", "roofline", "--gpu", "v100", "--model", "timm:resnet18", "--image-size", "64"]
    assert main(words) == 0
    assert "drawn for" in capsys.readouterr().err
    assert main([*words, "--quiet"]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("roofline.svg\n", "")
    assert main(["report", "no_such_table", "--quiet"]) == 2
    assert "no_such_table" in capsys.readouterr().err
    assert main(words) == 0
    assert "drawn for" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completions_know_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="it comes with the extra `completion`")
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)
    assert "--memory-format" in printed
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=printed, text=True, check=False).returncode == 0


def test_without_shtab_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err


# --- widths ---


def test_a_file_and_a_bare_pipe_get_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output.width(None) is None
    assert output.width(70) == 70


@pytest.mark.parametrize(("columns", "expected"), [("72", 72), ("0", None), ("wide", None), ("", None)])
def test_columns_of_the_environment_hold_in_a_pipe(
    columns: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert output.width(None) == expected


@pytest.mark.parametrize("shown", [64, 90])
def test_a_pipe_from_a_terminal_has_its_width(shown: int) -> None:
    import fcntl
    import struct
    import termios

    leader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, shown, 0, 0))
    code = "from visionbench.command import output; print(output.width(None))"
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=terminal, check=True
    )
    os.close(leader)
    os.close(terminal)
    assert int(done.stdout) == shown


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_wants_none_gets_no_colour(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.colour()
    monkeypatch.setenv(variable, value)
    assert not output.colour()


# --- the first journey ---


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_the_first_journey_is_short_and_ends_with_what_was_learned(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tables._print_first_look(inputs.reports_named(()), inputs.read_records(None), Output(width=columns))
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 120
    table, _, conclusion = printed.rpartition("\n\n")
    assert max(map(len, table.splitlines())) <= columns
    agreed, fastest, surely, more = conclusion.splitlines()
    assert "agree with the exact counts" in agreed
    assert "the fastest is" in fastest
    assert "interval" in surely
    assert "report convnext_table1" in more


@pytest.mark.parametrize("busy", ["busy_machine", "a factor"])
def test_a_busy_machine_names_no_fastest_network(busy: str, capsys: pytest.CaptureFixture[str]) -> None:
    records = inputs.read_records(None)
    on_a_cpu = [i for i, r in enumerate(records) if r.source == "measured" and r.environment.device_type == "cpu"]
    place = on_a_cpu[-1]
    rate = records[place].get("throughput")
    assert rate is not None
    changed = replace(rate, flags=(*rate.flags, busy)) if busy != "a factor" else replace(rate, values=(1, 1, 1, 3, 3))
    records[place] = replace(records[place], measurements=(changed,))
    sentences = list(learned(REPORTS["convnext_table1"].rows, records[place : place + 1]))
    assert "busy" in sentences[-1]
    assert "fastest is" not in " ".join(sentences)


def test_without_a_measurement_only_counts_are_learned(capsys: pytest.CaptureFixture[str]) -> None:
    records = [record for record in inputs.read_records(None) if record.source == "computed"]
    tables._print_first_look(inputs.reports_named(()), records, Output(width=100))
    printed = capsys.readouterr().out
    assert "agree with the exact counts" in printed
    assert "fastest" not in printed
