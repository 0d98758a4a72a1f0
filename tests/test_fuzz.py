"""Files of every kind, mutated with a seed and read by the command line: a sentence or a result, never a traceback.

Nor does what is printed hold a character that a terminal obeys, or a line that GitHub's runner obeys. The fast lane
tries some hundred files, the slow one for a minute; `VISIONBENCH_FUZZ=100000 pytest tests/test_fuzz.py -m slow` that
many of each kind.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from perf.prediction import timm_tables
from tests import fuzzing
from tests.record.test_record_files import CALIBRATION, PROFILE, SHIPPED, STRUCTURE
from tests.record.test_record_pytest_benchmark import saved
from visionbench.command import ci, progress
from visionbench.command.main import main
from visionbench.command.requests import ForCI, Output
from visionbench.comparison import structure
from visionbench.comparison.verdict import Judgement, Rule
from visionbench.judging.structure import compare
from visionbench.record.errors import BenchError
from visionbench.reports.render import FORMATS

RECORDS = SHIPPED / "reports" / "records"
CARD = """key = "my-card"
names = ["NVIDIA My Card"]
architecture = "Ada"
capability = "8.9"
multiprocessors = 60
clock = 2.4e9
fp32 = 3.7e13
fp16 = 1.5e14
memory = 1.6e10
memory_type = "GDDR6X"
bandwidth = 7.0e11
l2 = 4.8e7
power = 285
source = "the maker's data sheet"
"""
TIMM = """model,infer_img_size,infer_batch_size,infer_samples_per_sec,infer_gmacs,infer_macts,param_count
resnet18.a1_in1k,224,1024,7000.1,1.82,2.48,11.69
resnet50.a1_in1k,224,1024,2000.1,4.12,11.1,25.56
"""


def _lines(path: Path, number: int) -> str:
    return "".join(f"{line}\n" for line in path.read_text("utf-8").splitlines()[:number])


@dataclass(frozen=True)
class Kind:
    """One kind of file: a right one, how it is mutated, and the commands that read it."""

    name: str
    text: str
    ways: Callable[[str, str], list[list[str]]]
    lines: bool = False
    separator: str = ""
    share: float = 1.0

    def mutants(self, rng: random.Random) -> Iterator[bytes]:
        if self.separator:
            return fuzzing.text_files(self.text, rng, self.separator)
        return fuzzing.json_files(self.text, rng, lines=self.lines)


def _compared(file: str, form: str) -> list[list[str]]:
    return [["compare", file, file, "--format", form]]


KINDS = (
    Kind(
        "records.jsonl",
        _lines(RECORDS / "cpu_2_threads.jsonl", 3) + _lines(RECORDS / "predicted.jsonl", 1)
        + _lines(RECORDS / "computed.jsonl", 1),
        lambda file, form: [
            ["report", "convnext_table1", "--records", file, "--format", form],
            ["report", "convnext_table12", "--records", file, "--format", form],
            ["compare", file, file, "--format", form],
            ["export", file, "--format", "json"],
            ["export", file, "--format", "csv"],
            ["export", file, "--format", "otava"],
        ],
        lines=True,
    ),
    Kind(
        "comparisons.jsonl",
        _lines(sorted((RECORDS / "comparisons").glob("*.jsonl"))[0], 2),
        lambda file, form: [
            ["gate", "--rejudge", file, "--format", form, "--summary", f"{file}.md", "--junit", f"{file}.xml"],
            ["report", "effects", "--comparisons", file, "--format", form],
            ["report", "effects_grid", "--comparisons", file, "--format", form],
        ],
        lines=True,
        share=0.7,
    ),
    Kind("profile.json", PROFILE, lambda file, form: [["selftest", "--show", "--profile", file, "--format", form]]),
    Kind("benchmark.json", json.dumps(saved(data=[1.0, 2.0, 3.0])), _compared),
    Kind(
        "calibration.json",
        CALIBRATION,
        lambda file, form: [["predict", "--gpu", "v100", "--calibrations", str(Path(file).parent), "resnet18"]],
        share=0.1,
    ),
    Kind("card.toml", CARD, lambda file, form: [["predict", "--gpu", file, "resnet18"]], separator="=", share=0.5),
    Kind("structure.json", STRUCTURE, lambda file, form: [["structure", file, form]]),
    Kind(
        "benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv",
        TIMM,
        lambda file, form: [["timm", file]],
        separator=",",
    ),
)  # fmt: skip


def _run(words: list[str]) -> int:
    """The command line; and two readers that no command without a model reaches."""
    try:
        if words[0] == "timm":
            timm_tables.rows(Path(words[1]))
            return 0
        if words[0] == "structure":
            changes = compare(structure.from_text(STRUCTURE), structure.read(Path(words[1])))
            judgement = Judgement(title="x", rule=Rule(), changes=changes, structures=1)
            return ci.show(judgement, Output(format=words[2]), ForCI())
        return main(words)
    except BenchError as error:
        progress.complain(str(error))
        return 2


def _wrong(text: str) -> str:
    """What of a text a terminal or GitHub's runner would obey."""
    for character in text:
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf"):
            return f"{character!r} was printed"
    command = re.search(r"(?m)^\s*::(?!error title=|warning title=).*|.*##\[.*", text)
    return f"GitHub obeys {command[0][:80]!r}" if command else ""


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _try(kind: Kind, folder: Path, capfd: pytest.CaptureFixture[str], number: int, end: float, seed: int) -> int:
    rng = random.Random(f"{seed} {kind.name}")
    (folder / kind.name.partition(".")[0]).mkdir()
    path = folder / kind.name.partition(".")[0] / kind.name
    tried = 0
    for data in kind.mutants(rng):
        if tried >= number or time.monotonic() > end:
            return tried
        path.write_bytes(data)
        form = rng.choice(FORMATS)
        words = rng.choice(kind.ways(str(path), form))
        began = time.process_time()
        code = _run(words)
        took, (out, err) = time.process_time() - began, capfd.readouterr()
        message = f"file {tried} of seed {seed}: {' '.join(words)} ended with {code} after {took:.1f} s\n{err[-2000:]}"
        assert code in (0, 1, 2, 3, 4), message
        assert code == 2 or out or words[0] == "timm", message
        assert not (wrong := _wrong(out) or _wrong(err)), f"{wrong}; {message}"
        assert took < 20, message
        if out and "json" in words:
            json.loads(out, parse_constant=_refuse)
        tried += 1
    return tried


@pytest.fixture(autouse=True)
def _as_in_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_file_ends_in_a_traceback(kind, tmp_path, capfd):
    tried = _try(kind, tmp_path, capfd, round(40 * kind.share), time.monotonic() + 60, seed=1)
    assert tried == round(40 * kind.share)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_file_of_thousands_ends_in_a_traceback(kind, tmp_path, capfd):
    asked = int(os.environ.get("VISIONBENCH_FUZZ", 0))
    end = time.monotonic() + (1e9 if asked else 60 / len(KINDS))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tried = _try(kind, tmp_path, capfd, asked or 100_000, end, seed=int(os.environ.get("VISIONBENCH_FUZZ_SEED", 2)))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    print(f"{kind.name}: {tried} files, {grown} MiB more")
    assert tried
    assert kind.name.startswith(("calibration", "card", "benchmark-infer")) or grown <= 300  # these import torch


def test_the_hand_that_mutates_finds_what_it_should():
    """The checks above can fail."""
    assert "printed" in _wrong("a\x1b[31m")
    assert "printed" in _wrong("a\u202eb")
    assert "obeys" in _wrong("x\n  ::error::y")
    assert "obeys" in _wrong("x ##[error]y")
    assert not _wrong("::error title=a::b\nfile.py::test\n")
    assert len({next(KINDS[0].mutants(random.Random(seed))) for seed in range(20)}) > 15
