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
import shutil
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
from visionbench.cluster.site import read_site
from visionbench.command import ci, counting, progress
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
PAPER = """title = "Mine"
cite = "arXiv 0000.00000"
flops = "macs"

[[table]]
name = "mine_table1"
title = "Mine beside others"
gpu = "V100"
protocol = "batch 64"
gap = "pairs"
remarks = ["mine"]
columns = [
  "size", "params", "flops", "img/s", "top1", { column = "exact", metric = "activations", group = "M", rank = 3 },
]

[[table.row]]
model = "swin_tiny_patch4_window7_224"
label = "Swin-T"
section = "Transformers"
size = 224
params = 28.30
flops = 4.5
"img/s" = 755.2
top1 = 81.30

[[table.row]]
model = "user:models.net:make"
label = "Mine"
params = 12
own = true
"""
PAPER_OF_CSV = PAPER.partition("[[table.row]]")[0].replace("flops =", 'rows = "rows.csv"\nflops =')
ROWS = """section,label,model,size,params,flops,img/s,top1
A,Swin-T,swin_tiny_patch4_window7_224,224,28.30,4.5,755.2,81.30
A,Swin-S,swin_small_patch4_window7_224,224,50,8.7,,
"""
CONVNEXT = f"""cite = "arXiv 2201.03545v2"
rows = "{SHIPPED}/reports/published/rows.csv"
numbers = "{SHIPPED}/reports/published/numbers.csv"
protocols = "{SHIPPED}/reports/published/protocols.csv"

[[table]]
name = "my_table1"
title = "Classification"
printed = "1"
others = true
gap = "rivals"
remarks = ["mine"]
columns = [
  "model",
  {{ column = "counts", metric = "params" }},
  {{ column = "exact", metric = "macs", group = "G", rank = 7 }},
  {{ column = "printed", metric = "top1", group = "top-1", head = "%", unit = "%", rank = 2 }},
  {{ column = "printed_rate", gpu = "V100", protocol = "throughput-v100", table = "12" }},
  {{ column = "predicted_rates", gpus = ["V100", "A100"] }},
  {{ column = "printed_gains", gpu = "A100", protocol = "fps-a100" }},
]
"""
CONVNEXT_OF_CSV = CONVNEXT.replace(f"{SHIPPED}/reports/published/numbers.csv", "numbers.csv")
NUMBERS = """table,row,metric,value,unit,gpu,protocol,source,note,remark
1,1,params,84,M,,,"arXiv 2201.03545v2, Table 1",,
1,1,macs,16.0,G,,flops,"arXiv 2201.03545v2, Table 1",,
1,1,throughput,334.7,img/s,V100,throughput-v100,"arXiv 2201.03545v2, Table 1",,
12,1,throughput,760.2,img/s,A100,throughput-a100,"arXiv 2201.03545v2, Table 12",,
"""
LATEX = r"""\begin{table}\caption{Theirs}\begin{tabular}{lccc}
Model & Params (M) & FLOPs (G) & Top-1 \\
\midrule
\textbf{Swin-T} & \num{28} & 4.5 & 81.3$^\dagger$ \\
\multirow{2}{*}{\shortstack{ConvNeXt\\T}} & 28.6M & 4,5 & \makecell{82.1\\$\pm$0.1} \\
\end{tabular}\end{table}
"""
MARKDOWN = """| Model | Params (M) | FLOPs (G) | Top-1 |
|---|---|---|---|
| **Swin-T** | 28 | `4.5` | [81.3](x) |
| ConvNeXt-T | 28.6 | 4.5 | 82.1 |
"""
SITE = """[v100]
constraint = "volta32gb"
python = "/shared/envs/torch-2.10/bin/python"
[a100]
gres = "gpu:tesla_a100:1"
sbatch = "--account=vision"
"""
COUNTS = """model,size,variant,torch,timm,family,own_size,error,params,macs,activations
timm:resnet18,224,,2.14.1,1.0.31,timm.models.resnet,224,,11689512,1814073344,2483688
timm:resnet50,800x1280,fused,2.14.1,1.0.31,timm.models.resnet,224,it failed,,,
"""


def _lines(path: Path, number: int) -> str:
    return "".join(f"{line}\n" for line in path.read_text("utf-8").splitlines()[:number])


def _many_launches(path: Path) -> str:
    """A comparison of as many launches as a second look has, and a second one."""
    rows = [json.loads(line) for line in _lines(path, 2).splitlines()]
    rows[0]["launches"] *= 3
    return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass(frozen=True)
class Kind:
    """One kind of file: a right one, how it is mutated, and the commands that read it."""

    name: str
    text: str
    ways: Callable[[str, str], list[list[str]]]
    lines: bool = False
    separator: str = ""
    share: float = 1.0
    beside: tuple[str, str] = ("", "")

    def mutants(self, rng: random.Random) -> Iterator[bytes]:
        if self.separator:
            return fuzzing.text_files(self.text, rng, self.separator)
        return fuzzing.json_files(self.text, rng, lines=self.lines)


def _compared(file: str, form: str) -> list[list[str]]:
    return [["compare", file, file, "--format", form]]


def _reported(file: str, form: str) -> list[list[str]]:
    """The paper's file itself, or the one beside its rows."""
    path = Path(file)
    paper = file if path.suffix == ".toml" else str(path.with_name("paper.toml"))
    return [["report", paper, "--format", form]]


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
        _many_launches(RECORDS / "comparisons" / "roadmap_t_cpu_1_thread.jsonl"),
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
    Kind("paper.toml", PAPER, _reported, separator="=,"),
    Kind("rows.csv", ROWS, _reported, separator=",", beside=("paper.toml", PAPER_OF_CSV)),
    Kind("columns.toml", CONVNEXT, _reported, separator="=,", share=0.5),
    Kind("numbers.csv", NUMBERS, _reported, separator=",", beside=("paper.toml", CONVNEXT_OF_CSV), share=0.1),
    *(
        Kind(f"table.{form}", text, lambda file, _: [["table", "import", file, "--output", f"{file}.toml", "--force"]],
             separator=separator, share=0.5)
        for form, text, separator in (("tex", LATEX, "&{"), ("md", MARKDOWN, "|"), ("csv", ROWS, ","))
    ),
    Kind("cluster.toml", SITE, lambda file, _: [["site", file]], separator="="),
    Kind("counts.csv", COUNTS, lambda file, _: [["counts", file]], separator=","),
    Kind(
        "benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv",
        TIMM,
        lambda file, form: [["timm", file]],
        separator=",",
    ),
)  # fmt: skip


SILENT = ("timm", "site", "counts", "table")
"""They print nothing where all is well."""


def _run(words: list[str]) -> int:
    """The command line; and readers that no command without a model reaches."""
    try:
        if words[0] == "timm":
            timm_tables.rows(Path(words[1]))
            return 0
        if words[0] == "site":
            read_site(Path(words[1]))
            return 0
        if words[0] == "counts":
            shutil.copy(words[1], counting.cache_file())
            counting.known()
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
    if kind.beside[0]:
        path.with_name(kind.beside[0]).write_text(kind.beside[1])
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
        assert code == 2 or out or words[0] in SILENT, message
        assert not (wrong := _wrong(out) or _wrong(err)), f"{wrong}; {message}"
        assert took < 20, message
        if out and "json" in words:
            json.loads(out, parse_constant=_refuse)
        tried += 1
    return tried


@pytest.fixture(autouse=True)
def _as_in_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    counting.cache_file().parent.mkdir()
    monkeypatch.setattr(counting, "versions", lambda: ("", ""))  # what a file names is not built
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


FAST = 20
"""Files of each kind in the fast lane."""


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.name != "calibration.json"], ids=lambda kind: kind.name
)
def test_what_is_mutated_is_right(kind, tmp_path, capfd):
    """Or its mutants would all be refused for one and the same reason."""
    path = tmp_path / kind.name
    path.write_text(kind.text)
    if kind.beside[0]:
        path.with_name(kind.beside[0]).write_text(kind.beside[1])
    for words in kind.ways(str(path), "csv"):
        code, (_, err) = _run(words), capfd.readouterr()
        assert code == 0 or (code == 1 and words[0] == "gate"), err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_file_ends_in_a_traceback(kind, tmp_path, capfd):
    tried = _try(kind, tmp_path, capfd, round(FAST * kind.share), time.monotonic() + 60, seed=1)
    assert tried == round(FAST * kind.share)


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
