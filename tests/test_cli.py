"""The command line as a user meets it: each verb once for real, and every mistake as one sentence with exit code 2."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.judge.test_judge_simulation import _comparison
from visionbench import reports
from visionbench.command.ci import keeper
from visionbench.command.main import VERBS, main
from visionbench.command.requests import FORMATS
from visionbench.comparison import comparison
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.program import program_name, short_name
from visionbench.record.spec import Spec

ROOT = Path(__file__).parents[1]

SMALL = ["--image-size", "32", "--device", "cpu"]

FACTORIES = """
import torch

def tiny():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10)
    )

def number():
    return 3

def broken():
    raise RuntimeError("kaputt")

class ReadsValues(torch.nn.Module):
    def forward(self, x):
        return x if x.sum().item() > 0 else -x
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a module of user factories."""
    (tmp_path / "zoo_of_mine.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "zoo_of_mine", raising=False)
    return tmp_path


def script(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench.py"), *words], cwd=cwd, capture_output=True, text=True, timeout=300
    )


MISTAKES = {
    "report that cannot be written": (["gate", "--junit", "nowhere/tests.xml"], "cannot write nowhere/tests.xml"),
    "summary that is a folder": (["gate", "--summary", "."], "cannot write . (is a directory)"),
    "turns that cannot be kept": (["effects", "--keep", "nowhere/t.jsonl"], "cannot write nowhere/t.jsonl"),
    "unknown model": (["run", "convnext_tinny"], "timm:convnext_tiny"),
    "unknown table": (["report", "convnext_tabel1"], "convnext_table1"),
    "unknown table of run": (["run", "--table", "zzz"], "convnext_table12"),
    "unknown device": (["run", "user:zoo_of_mine:tiny", "--device", "tpu"], "cpu"),
    "unknown precision": (["run", "convnext_tiny", "--precision", "fp8"], "amp_bf16"),
    "unknown gpu": (["--gpu", "a10o"], "a100"),
    "unknown verb": (["frobnicate"], "report"),
    "unknown flag": (["--frobnicate"], "--help"),
    "nothing to run": (["run"], "list models"),
    "nothing to report": (["report"], "--all"),
    "weights asked for": (["trace", "resnet50.a1_in1k"], "timm:resnet50"),
    "size of two files": (["compare", "a.jsonl", "b.jsonl", "--image-size", "64"], "add --exact"),
    "baseline of two files": (["compare", "a.jsonl", "b.jsonl", "--baseline", "c.json"], "add --exact"),
    "new row of two files": (["compare", "a.jsonl", "b.jsonl", "--allow-new", "c"], "add --exact"),
    "size refused by the model": (["run", "timm:convnext_atto", "--image-size", "7"], "--image-size"),
    "size that is no size": (["trace", "convnext_tiny", "--image-size", "0"], "at least 1"),
    "size of three sides": (["run", "convnext_tiny", "--image-size", "8x8x8"], "800x1280"),
    "rectangle without a width": (["predict", "resnet18", "--gpu", "a100", "--image-size", "0x64"], "at least 1"),
    "rectangle for squares alone": (
        ["trace", "nest_tiny", "--image-size", "224x448"],
        "its own size is 224",
    ),
    "batch that is no batch": (["trace", "convnext_tiny", "--batch-size", "-3"], "at least 1"),
    "time that is no time": (["run", "convnext_tiny", "--budget", "3x"], "10m"),
    "factory's module is missing": (["run", "user:nowhere_at_all:f"], "nowhere_at_all"),
    "factory is missing": (["run", "user:zoo_of_mine:nix"], "nix"),
    "factory raises": (["run", "user:zoo_of_mine:broken"], "kaputt"),
    "factory returns no module": (["run", "user:zoo_of_mine:number"], "int"),
    "forward reads values": (["trace", "user:zoo_of_mine:ReadsValues"], "reads tensor values"),
    "records file is missing": (["report", "--all", "--records", "missing.jsonl"], "name another file"),
    "records file is a folder": (["report", "--all", "--records", "."], "directory"),
    "records file is not ours": (["report", "--all", "--records", "zoo_of_mine.py"], "not a visionbench records file"),
    "records folder is missing": (["--records", "missing/x.jsonl"], "--records"),
    "records cannot be written": (["run", "user:zoo_of_mine:tiny", "--records", "missing/x.jsonl"], "--records"),
    "output cannot be written": (["report", "--all", "--output", "missing/x.md"], "--output"),
    "empty list": (["list", "models", "zzz*"], "pattern"),
}


@pytest.mark.parametrize(("words", "remedy"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_with_its_remedy(
    words: list[str], remedy: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as exit_:
        code = exit_.code  # argparse's own way out
    out, err = capsys.readouterr()
    told = [line for line in err.splitlines() if line.startswith("visionbench: ")]
    assert (code, out, len(told)) == (2, "", 1), err
    assert remedy in told[0]
    assert "Traceback" not in err


def test_a_newer_schema_is_a_mistake_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "new.jsonl").write_text('{"spec":{},"schema":99,"source":"measured"}\n')
    assert main(["report", "--all", "--records", "new.jsonl"]) == 2
    assert "upgrade visionbench" in capsys.readouterr().err


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU here")
def test_a_gpu_that_is_not_here_is_said_with_what_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu", "a100"]) == 2
    told = capsys.readouterr().err
    assert "--gpu a100" in told
    assert "no CUDA GPU here" in told
    assert not (here / "visionbench.jsonl").exists()


@pytest.mark.slow
def test_run_records_resumes_and_reports(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "user:zoo_of_mine:tiny", *SMALL, "--launches", "2", "--records", "mine.jsonl"]
    assert main([*words, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["spec"]["model"] for line in lines] == ["user:zoo_of_mine:tiny"] * 2
    assert len(store.read("mine.jsonl").records) == 2

    assert main(words) == 0  # the same command again has nothing left to do
    assert "2 were recorded before" in capsys.readouterr().err
    assert len(store.read("mine.jsonl").records) == 2


@pytest.mark.slow
def test_a_model_that_fails_is_a_record_and_the_others_are_measured(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (here / "zoo_of_mine.py").open("a") as file:
        file.write(
            "\ndef dies():\n    import os, signal\n    if torch.empty(0).device.type != 'meta':\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n    return tiny()\n"
        )
    words = ["run", "user:zoo_of_mine:dies", "user:zoo_of_mine:tiny", *SMALL]
    assert main(words) == 0
    failed, measured = store.read("visionbench.jsonl").records
    assert failed.failure is not None
    assert failed.failure.kind == "crashed"  # the kernel counts what it kills for memory, and this was not one
    assert "counted no kill for lack of memory" in failed.failure.message
    assert measured.failure is None
    out, err = capsys.readouterr()
    assert "crashed" in out
    assert "1 failed" in err


def test_trace_prints_the_record_that_it_computed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "convnext_tiny", "paper:convnext_iso_small", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    counts = [{m["metric"]: m["values"][0] for m in record["measurements"]} for record in records]
    assert [count["params"] for count in counts] == [28_589_128, 22_308_712]
    assert [record["source"] for record in records] == ["computed", "computed"]


def test_trace_prints_a_card(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "deit_tiny_patch16_224", "--task", "train", "--batch-size", "2", "--depth", "1"]) == 0
    card = capsys.readouterr().out
    for word in ("5,717,416", "By kind of operator", "By stage", "blocks", "(optimizer)", "activations", "█"):
        assert word in card
    assert "Not in the MACs" in card


def test_a_second_opinion_is_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "user:zoo_of_mine:tiny", "--image-size", "32", "--second-opinion"]) == 0
    assert "the counts agree" in capsys.readouterr().out


def test_dry_run_measures_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--table", "convnext_table2", "smoke", "--batch-size", "4", "--device", "cpu", "--dry-run"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{Spec(model='timm:deit_small_patch16_224', batch_size=4)} x1"
    assert len(lines) == 6 + 5 - 2  # two of the suite are rows of the table
    assert not (here / "visionbench.jsonl").exists()


@pytest.mark.parametrize("what", ["tables", "suites", "protocols", "devices"])
def test_list_says_what_there_is(what: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(["list", what, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    if what == "tables":  # below the titles of their papers
        lines = [line for line in lines if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == [entry["name"] for entry in entries]


def test_report_writes_every_format_to_a_file(here: Path) -> None:
    for format_ in ("terminal", "markdown", "latex", "csv", "json"):
        assert main(["report", "convnext_table2", "--format", format_, "--output", f"table.{format_}"]) == 0
        assert "ConvNeXt-S" in (here / f"table.{format_}").read_text()


def test_all_tables_as_json_are_one_document(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--all", "--json"]) == 0
    names = [table["name"] for table in json.loads(capsys.readouterr().out)]
    assert names[:5] == [f"convnext_table{number}" for number in (1, 2, 3, 4, 12)]


@pytest.mark.slow
def test_a_torn_line_is_told_and_the_rest_is_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "user:zoo_of_mine:tiny", *SMALL]) == 0
    with open("visionbench.jsonl", "a") as file:
        file.write('{"spec":{"model"')
    capsys.readouterr()
    assert main(["report", "convnext_table2"]) == 0
    assert "line 2 is torn" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_works_from_anywhere(here: Path) -> None:
    ran = script("run", "user:zoo_of_mine:tiny", *SMALL, cwd=here)
    assert ran.returncode == 0, ran.stderr
    assert "img/s" in ran.stdout


def test_a_reader_that_has_read_enough_is_no_error(here: Path) -> None:
    command = f"'{sys.executable}' '{ROOT / 'bench.py'}' report --all | head -1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], cwd=here, capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "0"
    assert ran.stderr == ""


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = command.replace("bench.py", f"'{sys.executable}' '{ROOT / 'bench.py'}'")
    return subprocess.run(["bash", "-c", words], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_turns_take_no_file_of_something_else_and_lose_none_of_others(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gate that was told to keep its turns in a file of records wrote over them, and over what `effects` had kept."""
    shutil.copy(ROOT / "reports" / "records" / "cpu_2_threads.jsonl", here / "records.jsonl")
    with pytest.raises(BenchError, match="holds no comparisons"):
        keeper(here / "records.jsonl")
    gated = _comparison(np.full(9, 0.1), "gated")
    effects = replace(gated, name="effects", environment=replace(gated.environment, torch="2.6.0"))
    comparison.write(here / "kept.jsonl", [effects])
    keep = keeper(here / "kept.jsonl")
    keep([gated])
    keep([gated])
    assert comparison.read(here / "kept.jsonl") == (gated,)
    assert comparison.read(here / "kept.jsonl.1") == (effects,)
    assert capsys.readouterr().err == f"What {here / 'kept.jsonl'} held is now in {here / 'kept.jsonl.1'}.\n"
    keeper(here / "kept.jsonl")([gated])
    assert not (here / "kept.jsonl.2").exists()


@pytest.mark.slow
def test_a_regression_is_one_though_nobody_reads_the_table(here: Path) -> None:
    comparison.write(here / "kept.jsonl", [_comparison(np.full(20, 0.1), "slower")])
    ran = shell("bench.py gate --rejudge kept.jsonl --junit tests.xml | true; echo ${PIPESTATUS[0]}", here)
    assert (ran.stdout, ran.stderr) == ("1\n", "")
    ran = shell("GITHUB_ACTIONS=true bench.py gate --rejudge kept.jsonl --format json >/dev/full 2>/dev/full", here)
    assert ran.returncode == 2
    ran = shell("GITHUB_ACTIONS=true bench.py gate --rejudge kept.jsonl --format json 2>/dev/full", here)
    assert ran.returncode == 1
    assert json.loads(ran.stdout)
    assert "<failure" in (here / "tests.xml").read_text()


LATER = [pytest.param(words, marks=pytest.mark.slow) for words in ("report convnext_table2", "audit convnext")]


@pytest.mark.parametrize("words", ["export record.jsonl", *LATER])
def test_a_disk_that_is_full_keeps_the_older_file(here: Path, words: str) -> None:
    shutil.copy(ROOT / "reports" / "records" / "cpu_2_threads.jsonl", here / "record.jsonl")
    (here / "old.csv").write_text("older")
    ran = shell(f"ulimit -f 0; bench.py {words} --output old.csv", here)
    assert ran.returncode == 2, ran.stderr
    assert "cannot write old.csv (file too large)" in ran.stderr
    assert (here / "old.csv").read_text() == "older"


def test_a_terminal_without_unicode_gets_plain_signs(here: Path) -> None:
    ran = shell("PYTHONIOENCODING=ascii bench.py report convnext_table2", here)
    assert ran.returncode == 0
    assert re.fullmatch(r"convnext_table2: nothing measured here yet .*\.\n", ran.stderr)
    assert "?" not in ran.stdout + ran.stderr
    assert "=====" in ran.stdout.splitlines()[1]
    assert "ConvNeXt-S (iso.)" in ran.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&- <&-", ">&- 2>&- <&-"])
@pytest.mark.slow
def test_closed_streams_are_no_trouble(closed: str, here: Path) -> None:
    ran = shell(f"bench.py run user:zoo_of_mine:tiny --image-size 32 --launches 1 {closed}", here)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert len(store.read(here / "visionbench.jsonl").records) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_does_not_fit_is_told(here: Path) -> None:
    ran = shell("bench.py report --all >/dev/full", here)
    assert ran.returncode == 2
    assert ran.stderr == "bench.py: cannot write the results (no space left on device): free some space.\n"


def test_help_is_worth_reading(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    told = capsys.readouterr().out
    examples = [line for line in told.splitlines() if line.startswith("  visionbench")]
    assert len(examples) >= 7
    assert all(len(line) <= 120 for line in told.splitlines())
    assert "exit codes:" in told


@pytest.mark.parametrize(
    ("typed", "program", "short"),
    [
        ("bench.py", "python bench.py", "bench.py"),
        ("/somewhere/bin/visionbench", "visionbench", "visionbench"),
        ("/somewhere/visionbench/__main__.py", "python -m visionbench", "visionbench"),
        ("/somewhere/pytest/__main__.py", "visionbench", "visionbench"),
    ],
)
def test_messages_name_the_program_that_was_typed(
    typed: str, program: str, short: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [typed])
    assert (program_name(), short_name()) == (program, short)
    assert main(["report"]) == 2
    assert capsys.readouterr().err.startswith(f"{short}: ")
    with pytest.raises(SystemExit):
        main(["run", "--frobnicate"])
    assert f"see `{program} run --help`" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([verb, "--help"])
    assert exit_.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 5


OLD_WORDS = [
    ["run", "resnet18", "--max-time", "9"], ["predict", "--gpu", "v100", "--lines"], ["trend", "x.jsonl"],
    ["figures", "roofline", "--device", "a100"],
]  # fmt: skip


@pytest.mark.parametrize("words", OLD_WORDS, ids=lambda words: words[0])
def test_old_spellings_are_gone(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_formats_are_those_of_the_tables() -> None:
    assert sorted(FORMATS) == sorted(reports.FORMATS)


@pytest.mark.parametrize("models", [[], ["resnet18"]], ids=["the suite", "a model"])
@pytest.mark.parametrize("text", ["{", '{"schema": 99}', "<<<<<<< HEAD\n{}\n"])
def test_a_baseline_that_cannot_be_read_is_never_overwritten(models, text, tmp_path, capsys):
    path = tmp_path / "structure.json"
    path.write_text(text)
    assert main(["compare", "--exact", "--update", "--baseline", str(path), *models]) == 2
    assert "remove it and write it anew" in capsys.readouterr().err
    assert path.read_text() == text
