"""Judgements made by hand for the tests of reports: nobody measured them, and every word, flag and name is in them."""

from __future__ import annotations

import math
from typing import Any, Literal

from visionbench.comparison.comparison import Comparison, Launch, Round, Side, log_ratios, wall_log_ratios
from visionbench.comparison.verdict import Change, Judgement, Rule, Verdict, Word
from visionbench.record.record import Environment, Failure
from visionbench.record.spec import Spec
from visionbench.record.statistics import Estimate, estimate

CPU = Environment(
    device_type="cpu",
    device_name="Fixture CPU",
    threads=1,
    torch="2.15.0",
    timm="1.0.31",
    python="3.12.3",
    started="2026-01-02T03:04:05Z",
)
BASE, HEAD = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d", "9f8e7d6c5b4a39281706f5e4d3c2b1a098765432"
NASTY = "net|a <b> & 50 %, x: *y* `z`\nand a second\tline \x1b[31m\x00"
LONG = "user:research.experimental.backbones.vision:make_hierarchical_backbone_with_gates@224 train b64 amp_bf16"


def comparison(
    name: str,
    ratio: float = 1.0,
    *,
    launches: int = 10,
    seconds: float = 0.0123,
    scatter: float = 0.003,
    flags: tuple[str, ...] = (),
    failure: Failure | None = None,
    failed: Literal["baseline", "candidate"] | None = None,
    timer: Literal["cpu", "wall", "device"] = "cpu",
    model: str = "timm:resnet50",
) -> Comparison:
    """Launches whose log ratios lie evenly around `ratio`, from -2 to +2 times `scatter`."""
    spec = Spec(model=model, image_size=64)
    made = []
    for number in range(launches):
        off = math.exp(scatter * (4 * number / max(launches - 1, 1) - 2)) if launches > 1 else 1.0
        base = seconds * (1 + 0.002 * (number % 3))
        head = base * ratio * off
        turn = Round(
            first="baseline", baseline=base, candidate=head, baseline_wall=base * 1.01, candidate_wall=head * 1.012
        )
        made.append(Launch(rounds=(turn,) * 3, cores=(1,), flags=flags))
    return Comparison(
        name=name,
        baseline=Side(label="origin/main", spec=spec, commit=BASE),
        candidate=Side(label="working tree", spec=spec, commit=HEAD, dirty=True),
        environment=CPU,
        timer=timer,
        seed=7,
        launches=tuple(made),
        failure=failure,
        failed=failed,
    )


def verdict(word: Word, name: str, ratio: float = 1.0, *, reason: str = "", looks: int = 1, **rest: Any) -> Verdict:
    """A verdict over `comparison(name, ratio, ...)`; its p-values are made up."""
    its = comparison(name, ratio, **rest)
    if not its.launches:
        return Verdict(word=word, comparison=its, reason=reason)
    slower = {"regressed": 0.000976, "ok": 0.9971, "improved": 1.0}.get(word, 0.0537)
    return Verdict(
        word=word,
        comparison=its,
        ratio=_over(log_ratios(its)),
        wall=_over(wall_log_ratios(its)),
        p_slower=slower,
        p_faster=0.000976 if word == "improved" else 0.9,
        q_slower=min(slower * 2, 1.0),
        q_faster=0.9,
        detectable=0.014 if word != "inconclusive" else 0.061,
        looks=looks,
        reason=reason,
    )


def _over(logs: tuple[float, ...]) -> Estimate:
    return estimate([math.exp(log) for log in logs])


VAGUE = "between 1.2 % faster and 5.6 % slower: the scatter of 10 launches cannot exclude 5 %"
OUT = Failure(kind="out_of_memory", stage="warm-up", message="tried to allocate 3.00 GiB\n  of 2.10 GiB free")
COMMAND = "python bench.py gate --base origin/main --suite ci --seed 7"


def judgement(*verdicts: Verdict, **rest: Any) -> Judgement:
    """A gate of base against head."""
    told = {"title": "Base against head, suite ci", "rule": Rule(), "command": COMMAND, "seconds": 318.0}
    return Judgement(**told | {"verdicts": verdicts} | rest)


def typical() -> Judgement:
    """Twelve rows with all five words, as a pull request would see them."""
    names = ("densenet121@64", "efficientnet_b0@64", "regnety_004@64", "convnext_atto@64", "deit_tiny@64", "vit_b@64")
    rows = [verdict("ok", name, 1 + 0.001 * place, seconds=0.02) for place, name in enumerate(names)]
    return judgement(
        verdict("ok", "resnet18@64", 1.002, seconds=0.0045),
        verdict("regressed", "resnet50@64", 1.051, looks=2),
        verdict("inconclusive", "mobilenetv3_large_100@64", 1.021, scatter=0.03, looks=2, reason=VAGUE,
                flags=("busy_machine", "noisy_env"), seconds=0.0061),
        verdict("improved", "convnext_tiny@64", 0.912, seconds=0.0312),
        verdict("ok", "deit_small_patch16_224@64", 0.998, flags=("clock_unsteady",), seconds=0.0222),
        verdict("not measured", "swin_tiny_patch4_window7_224@64", launches=0, failure=OUT, failed="candidate",
                reason="the candidate failed at warm-up (out of memory): " + OUT.message),
        *rows,
        suite=estimate([1.003, 1.004, 1.002, 1.006, 1.005, 1.001, 1.004, 1.003, 1.004, 1.002]),
        structures=12,
        remarks=("The machine has no noise profile yet: `python bench.py selftest` makes one.",),
    )  # fmt: skip


def nasty() -> Judgement:
    """Names and messages that mean something to Markdown, HTML, TeX, XML and a terminal; few launches; two clocks."""
    crash = Failure(kind="crashed", stage="build", message="Traceback:\n\x1b[31m<boom> & | `x` 100 %\x00 " + "y" * 900)
    return judgement(
        verdict("regressed", NASTY, 1.082, timer="device"),
        verdict("ok", LONG, 1.001),
        verdict("inconclusive", "few@64", 1.03, launches=5, reason="5 launches are too few for the test"),
        verdict("not measured", "a|b", launches=0, failure=crash),
        verdict("ok", "stopped@64", 1.0, launches=8, failure=OUT, failed="baseline", flags=("a_new_flag",)),
        title="A & B: 100 % <nasty> | _gate_",
        command="python bench.py gate --base 'a|b'",
        remarks=("A dirty tree: 3 files <changed> & 1 | new.",),
        changes=changes(),
        structures=5,
    )


def changes() -> tuple[Change, ...]:
    """Three differences in two rows, one with many layers, and a row that is missing."""
    layers = tuple(f"layer{1 + k // 3}.{k % 3}.conv2: aten.clone x1 (new)" for k in range(12))
    row = "timm:resnet50@64 inference b1 fp32"
    bigger = ("fc: Linear 2048 → 1001 (was 1000)",)
    return (
        Change(row=row, what="params", before="25,557,032", after="25,559,081", where=bigger),
        Change(row="timm:a|b@64 inference b1 fp32", what="row", before="present", after="missing"),
        Change(row=row, what="operators", before="175", after="187", where=layers),
    )


def forty() -> Judgement:
    """Forty rows, fifteen of them regressed."""
    rows = [
        verdict(
            "regressed" if k % 8 < 3 else "ok", f"model_{k:02}@64", 1.03 + k / 1000 if k % 8 < 3 else 1.0, launches=7
        )
        for k in range(40)
    ]
    return judgement(*rows)
