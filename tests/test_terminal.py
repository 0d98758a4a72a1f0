"""What a terminal shows: help, suggestions, quiet, completions, widths, and the first journey in a screen or two."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.command import inputs, output
from visionbench.command.main import VERBS, command_line, main
from visionbench.command.requests import HowLong, HowToRun, Output, Selection, Where
from visionbench.command.verbs import run, tables, trace
from visionbench.record.errors import BenchError
from visionbench.record.program import program_name
from visionbench.record.record import Environment
from visionbench.record.spec import Spec
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
        (["trace", "resnet18", "--precision", "half"], "fp16"),
        (["trace", "resnet18", "--memory-format=nhwc"], "channels_last"),
        (["report", "--format", "md"], "markdown"),
        (["list", "modles"], "models"),
        (["--versoin"], "--version"),
        (["-v"], "-V"),
        (["table", "impor", "x.tex"], "import"),
        (["completion", "fsh"], "zsh"),
    ],
)
def test_a_misspelt_verb_option_or_choice_gets_the_right_one(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(words) == 2
    printed = capsys.readouterr().err
    assert printed.endswith(f": did you mean {meant}?\n")
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["doctor", "--gpu", "a100"], "there is no option --gpu: see `{} doctor --help`."),
        (["doctor", "extra"], "'extra' is one word too many: see `{} doctor --help`."),
        (["trace", "resnet18", "--json", "--format", "csv"], "there is no option --format: see `{} trace --help`."),
        (["trace"], "trace needs MODEL: see `{} trace --help`."),
        (["predict", "resnet18"], "predict needs --gpu: see `{} predict --help`."),
        (["run", "--launches"], "--launches needs a value: see `{} run --help`."),
        (["trace", "a", "--image-size", "9x"], "--image-size: an image size is 224, or height x width as in 800x1280, "
         "and not '9x'."),
        (["run", "a", "--effort", "full"], "there is no effort 'full': choose one of quick, standard, rigorous."),
        (["--help-me"], "there is no option --help-me: did you mean --help?"),
        (["help", "trice"], "there is no command 'trice': did you mean trace?"),
        (["run", "convnext_tabel1"], "no model, table or suite 'convnext_tabel1': did you mean convnext_table1"),
        (["run", "smok"], "there is no model, table or suite 'smok': did you mean smoke?"),
        (["report", "tabel1"], "there is no table 'tabel1': did you mean convnext_table1"),
        (["report", "table2"], "there is no table 'table2': did you mean convnext_table2"),
        (["report", "timm:resnet50"], "'timm:resnet50' is a model and no table: `{} trace timm:resnet50` counts it"),
        (["figures", "figur1", "--all"], "there is no figure 'figur1': did you mean figure1"),
        (["predict", "--gpu", "a101", "resnet18"], "did you mean a10 or a100, or a file that describes your card"),
        (["predict", "--gpu", "zzz", "resnet18"], "or name a file that describes your card (my_card.toml)."),
        (["list", "models", "swn_tiny*"], "no models match 'swn_tiny*': did you mean"),
        (["predict", "--gpus", "a100", "resnet18"], "there is no option --gpus: did you mean --gpu?"),
        (["trace", "--task=train", "--imagesize=64"], "there is no option --imagesize: did you mean --image-size?"),
        (["list"], "list needs a word more: models or tables or suites or protocols or devices."),
        (["report", "--all=1"], "--all takes no value: leave what follows it away."),
        (["run", "resnet18", "--dry-run=yes"], "--dry-run takes no value: leave what follows it away."),
        (["table"], "table needs a word more: new or import."),
        (["table", "import"], "table needs FILE: see `{} table --help`."),
        (["table", "my", "é.toml"], "there is no `table my`: choose one of new, import."),
        (["completion", "powershell"], "there is no `completion powershell`: choose one of bash, zsh, tcsh."),
        (["report", "mine.tom"], "'mine.tom' is no .toml file, as a table of your own is: `{} table new` begins one."),
        (["report", "."], "'.' is no .toml file"),
        (["report", "my nets/paper.tex"], "'my nets/paper.tex' is no .toml file"),
        (["report", "1"], "there is no table '1': did you mean convnext_table1"),
        (["figures", "2"], "there is no figure '2': did you mean figure2?"),
        (["report", "user:my.nets:make"], "'user:my.nets:make' is a model and no table: `{} trace user:my.nets:make`"),
        (["report", "torchvision:resnet18"], "'torchvision:resnet18' is a model and no table"),
        (["report", "convnext_table1", "--columns", " "], "--columns: words between commas are needed, not ' '."),
        (["figures", "figure1", "--panels", ","], "--panels: words between commas are needed, not ','."),
        (["figures", "figure1", "--panels", "h100"], "--panels takes parts of these names: 'trained on ImageNet-1K'"),
        (["compare", "--exact", "--base", "main"], "there is no option --base: did you mean --baseline?"),
        (["run", "resnet18", "--batch", "8"], "there is no option --batch: did you mean --batch-size?"),
        (["gate", "--seed", "x"], "--seed: a whole number is needed, not 'x'."),
        (["run", "--image-size", "0x9"], "--image-size: an image has at least 1 pixel a side, and not '0x9'."),
        (["run", "--batch-size", "many"], "a whole number of at least 1, or max, is needed, not 'many'."),
        (["trace", "a", "--batch-size", "max"], "--batch-size: a whole number of at least 1 is needed, not 'max'."),
        (["export"], "nothing is measured in this folder yet: `{} run MODEL` writes visionbench.jsonl, or name files"),
        (["report", "--all", "--output", "a.pdf"], "a.pdf: tables are not written as .pdf: end the name with one of"),
        (["report", "--all", "--output", "no/a.html"], "cannot write no/a.html (no such file or directory): name"),
        (["report", "--all", "--format", "html", "--output", "."], "cannot write . (is a directory): name another"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_its_cause_and_its_remedy(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ended(words) == 2
    printed = capsys.readouterr().err
    assert said.format(program_name()) in printed
    assert len(printed.splitlines()) == 1
    assert "argument" not in printed


def test_counting_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [Spec(model=f"timm:resnet{number}") for number in (18, 34, 50)]
    monkeypatch.setattr(trace, "_environment", lambda: Environment(device_type="meta"))
    monkeypatch.setattr(trace, "_count", lambda spec, where: trace._failed(spec, where, BenchError("no.")))
    monkeypatch.setattr(trace, "SILENCE", -1.0)
    assert len(trace.count_missing(specs, [], tmp_path / "records.jsonl")) == len(specs)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("counted")][:2] == ["counted 1 of 3", "counted 2 of 3"]


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_a_card_breaks_no_line_in_the_middle_of_a_word(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["trace", "ladder:mlp_1"]) == 0
    last = capsys.readouterr().out.rpartition("\n\n")[2].partition("Not in the MACs")[2]
    assert last
    assert max(map(len, last.splitlines())) <= columns


@pytest.mark.parametrize(
    ("words", "budget", "refused"),
    [(("*",), None, True), (("timm:*", "resnet18"), None, True), (("*",), 3600.0, False), (("resnet18",), None, False)],
)
def test_wildcards_do_not_start_a_day_of_measuring_unasked(
    words: tuple[str, ...], budget: float | None, refused: bool
) -> None:
    chosen = Selection(words=words)
    request = run.Request(selection=chosen, how=HowToRun(), where=Where(), how_long=HowLong(budget=budget))
    specs = [Spec(model=f"timm:net{number}") for number in range(run.EVERYTHING + 1)]
    with pytest.raises(BenchError, match="means 201 rows") if refused else nullcontext():
        run._refuse_everything(specs, request)
    run._refuse_everything(specs[1:], request)


def test_doctor_says_whether_the_gates_errors_are_known_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("visionbench.machine.doctor.examine", lambda _device: ())
    assert main(["doctor", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "noise profile  none of this machine" in printed
    assert printed.count("min how often the gate errs here") == 1
    assert printed.endswith("Fit to measure.\n"), "it makes no number worse"


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["help"]) == ended(["help", "trace"]) == 0
    assert "usage: " in capsys.readouterr().out


def test_a_part_of_a_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "devices", "3090"]) == 0
    assert capsys.readouterr().out.startswith("rtx-3090 ")
    assert main(["list", "tables", "Table10"]) == 0
    assert "convnext_table10" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_prints_json_for_programs(verb: str) -> None:
    parser = command_line(verb).verb
    assert parser is not None
    assert {"--json", "--quiet", "-q"} <= set(parser.option_names())


@pytest.mark.slow
def test_files_that_are_written_are_listed_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figures", "figure2", "effects", "--json", "--quiet"]) == 0
    drawn = json.loads(capsys.readouterr().out)
    assert drawn == [{"figure": name, "file": f"{name}.svg"} for name in ("figure2", "effects")]
    assert main(["table", "new", "mine.toml", "user:a.b:c", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": "mine.toml"}
    assert main(["completion", "bash", "--json"]) == 0
    assert "--image-size" in json.loads(capsys.readouterr().out)["trace"]


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
