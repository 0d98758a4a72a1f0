"""Whole commands on pretended cards: what a day on a GPU would print, without one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.pretended.card import CAPPED, H100, MOVING, SILENT, UNKNOWN, V100, Card, environment, pretend
from visionbench import ROOT
from visionbench.command import expected
from visionbench.command.main import main
from visionbench.command.requests import HowLong, Output, Where
from visionbench.command.selection import Defaults
from visionbench.command.verbs import run, tables
from visionbench.comparison import comparison
from visionbench.comparison.verdict import NOT_MEASURED
from visionbench.judging import duet
from visionbench.measuring.process import launch as launching
from visionbench.record import store
from visionbench.record.devices import find
from visionbench.record.record import Failure, Record
from visionbench.record.spec import MEMORY, STEADY, SWIN, Spec

FACTORY = """
import torch

def tiny():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 10)
    )

def other():
    return tiny()

def third():
    return tiny()
"""
TINY, OTHER, THIRD = (f"user:net_of_the_day:{name}" for name in ("tiny", "other", "third"))
SMALL = ("--image-size", "32", "--batch-size", "2")

Command = Callable[..., SimpleNamespace]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run a command in a process of its own, in an empty folder, on a pretended card."""
    (tmp_path / "net_of_the_day.py").write_text(FACTORY)

    def run(*words: str, card: Card = H100) -> SimpleNamespace:
        ran = subprocess.run(
            [sys.executable, str(ROOT / "bench.py"), *words],
            check=False,
            cwd=tmp_path,
            env=environment(card) | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return SimpleNamespace(code=ran.returncode, out=ran.stdout, err=ran.stderr, folder=tmp_path)

    return run


@pytest.mark.slow
def test_a_row_is_measured_as_on_a_card(command: Command) -> None:
    ran = command("run", TINY, *SMALL, "--protocol", "swin", card=CAPPED)
    assert ran.code == 0, ran.err
    [record] = store.read(ran.folder / "visionbench.jsonl").records
    assert record.environment.device_key == "h100-sxm5-80gb"
    assert record.get("throughput").flags[-1:] == ("power_capped",)  # type: ignore[union-attr]
    assert "ran at its power limit" in ran.out
    assert "This will take about" in ran.err
    assert ran.err.index("This will take about") < ran.err.index("[1/1]")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refusal", "warned"),
    [("CUDA out of memory. Tried to allocate 2.00 GiB", False), ("CUDA error: an illegal memory access", True)],
)
def test_the_largest_batch_is_searched_for(refusal: str, warned: bool, command: Command) -> None:
    card = replace(H100, most_images=5, refusal=refusal)
    ran = command(
        "run", TINY, "--image-size", "32", "--batch-size", "max", "--task", "train", "--protocol", "memory", card=card
    )
    assert ran.code == 0, ran.err
    assert "the largest batch that fits is 5" in ran.err
    searched, measured = store.read(ran.folder / "visionbench.jsonl").records
    assert measured.spec.batch_size == 5
    assert measured.value("peak_memory_allocated")
    warnings = searched.get("largest_batch").warnings  # type: ignore[union-attr]
    assert bool(warnings) == warned


@pytest.mark.slow
def test_effects_and_a_gate_take_turns_on_a_card(command: Command) -> None:
    turns = (*SMALL, "--launches", "2", "--rounds", "2")
    ran = command("effects", TINY, *turns, "--switches", "channels_last,tf32", card=MOVING)
    assert ran.code == 0, ran.err
    kept = comparison.read(ran.folder / "visionbench-effects.jsonl")
    assert [len(row.launches) for row in kept] == [2, 2]
    assert {row.timer for row in kept} == {"device"}
    assert "clock_unsteady" in kept[0].launches[0].flags
    ran = command("gate", TINY, *turns, "--vary", "memory_format=channels_last", card=V100)
    assert ran.code in (0, 1), ran.err
    assert "tiny" in ran.out


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        (H100, "580.159.04 (pretended), for CUDA 13.0"),
        (SILENT, "this driver does not tell whether it slows the card down"),
        (replace(V100, architectures=("sm_75",)), "torch<=2.10"),
        (replace(H100, cuda=12020), "too old: update the driver, or install torch for an older CUDA"),
        (replace(H100, compute_mode=3), "gate and effects need two processes on one card"),
        (replace(H100, mig=True), "a slice is no whole card"),
        (replace(H100, library="missing"), "pip install nvidia-ml-py"),
    ],
    ids=["h100", "silent", "kernels", "driver", "exclusive", "slice", "no-library"],
)
def test_doctor_explains_a_card(
    card: Card, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    pretend(monkeypatch, card)
    main(["doctor"])
    assert sentence in capsys.readouterr().out


# --- the journey ---


@pytest.fixture
def journey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Spec, str]]:
    """Every launch of a journey is noted and not made: its spec, and its protocol's name."""
    launches: list[tuple[Spec, str]] = []

    def launch(spec: Spec, protocol: Any, *_: Any, **__: Any) -> Record:
        launches.append((spec, protocol.name))
        failure = Failure(kind="timeout", stage="time", message="not made")
        return Record(spec=spec, protocol=protocol, environment=here, failure=failure, source="measured")

    from visionbench.machine.environment import describe
    from visionbench.measuring import sweep

    pretend(monkeypatch)
    here = describe("cuda")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "launch", launch)
    for owner in (sweep, launching):
        monkeypatch.setattr(owner, "prepare", lambda **_: None)
    monkeypatch.setattr(tables, "count_missing", lambda *_: [])
    monkeypatch.setattr(expected, "PATIENCE", 0.0)  # what is committed is enough for an order
    return launches


def ask(**how_long: Any) -> tables.Request:
    return tables.Request(
        tables=(), where=Where(gpu="h100"), how_long=HowLong(**how_long), records=Path("r.jsonl"), output=Output()
    )


def test_the_journey_says_first_how_long_it_takes_and_measures_the_telling_rows_first(
    journey: list[tuple[Spec, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    tables.run(ask())
    sentence = capsys.readouterr().err
    assert sentence.index("This will take about") < sentence.index("Measuring")
    assert "First convnext_table12 and convnext_table2, about" in sentence
    assert len(journey) == len(set(journey)) > 100
    assert [name for _, name in journey[:32]] == ["swin"] * 20 + ["memory"] * 12
    assert {spec.task for spec, name in journey if name == "memory"} == {"train"}
    speeds = [spec.image_size for spec, _ in journey[:20]]
    assert speeds[0] == 224
    assert speeds[-1] == 384


def test_a_journey_whose_card_goes_keeps_what_was_measured_and_says_so(
    journey: list[tuple[Spec, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionbench.measuring import sweep

    answering, note = ["cuda"], sweep.launch

    def launch(spec: Spec, protocol: Any, *rest: Any, **named: Any) -> Record:
        if len(journey) < 3:
            return note(spec, protocol, *rest, **named)
        answering.clear()
        failure = Failure(kind="error", stage="first call", message="CUDA error: unspecified launch failure")
        here = store.read(Path("r.jsonl")).records[0].environment
        return Record(spec=spec, protocol=protocol, environment=here, failure=failure, source="measured")

    monkeypatch.setattr(sweep, "launch", launch)
    monkeypatch.setattr(sweep, "answers", lambda device: device in answering)
    assert tables.run(ask()) == NOT_MEASURED
    assert capsys.readouterr().err.count("stopped answering in the middle") == 1
    assert [record.spec for record in store.read(Path("r.jsonl")).records] == [spec for spec, _ in journey]
    assert len(journey) == 3


def test_a_journey_ends_with_its_budget_and_says_nothing_of_what_is_made(
    journey: list[tuple[Spec, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    tables.run(ask(budget=1e-9))
    assert journey == []
    assert "are left: the same command goes on from here" in capsys.readouterr().err
    tables.run(ask())
    capsys.readouterr()
    tables.run(ask())
    assert "This will take" not in capsys.readouterr().err
    assert len(journey) == len(set(journey)) > 100


def test_a_card_without_a_data_sheet_promises_nothing(
    journey: list[tuple[Spec, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, UNKNOWN)
    tables.run(replace(ask(), where=Where()))
    assert "is not known: this card has no data sheet here; --budget 10m would end it" in capsys.readouterr().err
    assert len(journey) > 100


H100_DAY = {"convnext_table12": 180.0, "convnext_table2": 30.0}
"""Seconds that the launches of these tables took on an H100 on 2026-11-27, from the first start to the next table's."""


@pytest.mark.parametrize("name", H100_DAY)
def test_what_is_expected_is_what_a_real_day_took(name: str) -> None:
    from visionbench.command.selection import Defaults
    from visionbench.reports import REPORTS

    defaults = Defaults(precision="tf32", memory_format="channels_last", batch_size=64)
    place = run.Place(devices=("cuda",), threads=None, protocol=SWIN, defaults=defaults)
    specs = tables._default_specs([REPORTS[name]], place)
    card = find("h100-sxm5-80gb")
    assert card is not None
    seconds = sum(expected.by_launch(specs, SWIN, card, []).values())
    assert H100_DAY[name] / 1.5 < seconds < H100_DAY[name] * 1.8


def test_a_card_that_its_cudnn_refuses_is_described_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from visionbench.machine.environment import describe

    def refuse() -> int:
        raise RuntimeError("cuDNN version 92400 is not compatible with devices with SM < 7.5.")

    pretend(monkeypatch, V100)
    monkeypatch.setattr(torch.backends.cudnn, "version", refuse)
    here = describe("cuda")
    assert (here.device_key, here.cudnn) == ("v100-sxm2-16gb", None)


def test_memory_takes_a_launch_and_steady_a_minute() -> None:
    spec = Spec(model="timm:resnet50", task="train")
    assert expected.launch_seconds(spec, MEMORY, 0.1) == pytest.approx(expected.LAUNCH_SECONDS, abs=1)
    assert 15 < expected.launch_seconds(spec, STEADY, 0.01) < 40
    compiled = expected.launch_seconds(replace(spec, compile_mode="default"), STEADY, 0.01)
    assert compiled > expected.launch_seconds(spec, STEADY, 0.01) + 30


# --- what a launch must not do ---


def test_a_size_is_tried_eagerly_and_without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Spec] = []

    def launch(spec: Spec, protocol: Any, *_: Any) -> Record:
        tried.append(spec)
        return Record(spec=spec, protocol=protocol, environment=describe("meta"), source="measured")

    from visionbench.machine.environment import describe

    monkeypatch.setattr(launching, "launch", launch)
    where = run.Place(devices=("cuda",), threads=None, protocol=SWIN, defaults=Defaults())
    specs = [Spec(model="timm:resnet18", task="train", compile_mode=mode) for mode in (None, "max-autotune")]
    run._try_ahead(specs, where, size_asked=True)
    assert tried == [Spec(model="timm:resnet18")]


@pytest.mark.parametrize(("device", "together"), [("cpu", True), ("cuda", False), ("cuda:1", False)])
def test_on_a_card_no_side_builds_while_the_other_does(
    device: str, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[str, str]] = []

    class Side:
        def __init__(self, source: Any, *_: Any) -> None:
            self.name = source.python

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def order(self, **order: Any) -> None:
            self.last = order["do"]
            log.append((self.name, f"asked to {order['do']}"))

        def answer(self, stage: str, seconds: float) -> dict[str, Any]:
            log.append((self.name, "answered"))
            times = {"cpu": [1e-3], "wall": [1e-3], "device": [1e-3]}
            return {"seconds": 1e-3, "flags": [], "sm_clock": None, **times}

    monkeypatch.setattr(duet, "SideProcess", Side)
    monkeypatch.setattr("visionbench.machine.accelerator.is_there", lambda _device: True)
    sources = (duet.Source(python="a"), duet.Source(python="b"))
    stage = duet.stage(device, None, sources=sources, rounds=1)
    side = duet.Side(label="x", spec=Spec(model="timm:resnet18"))
    import random

    duet.launch([duet.Row(name="row", baseline=side, candidate=side)], stage, random.Random(1))
    building = log[2:6]  # both have said that they are there
    one_by_one = [("a", "asked to prepare"), ("a", "answered"), ("b", "asked to prepare"), ("b", "answered")]
    both = [("a", "asked to prepare"), ("b", "asked to prepare"), ("a", "answered"), ("b", "answered")]
    assert building == (both if together else one_by_one)


# --- rows that fill the card ---


@pytest.mark.parametrize(("device", "size", "batch"), [("cpu", 64, 1), ("cuda", 224, 64), ("cuda:1", 224, 64)])
def test_a_gates_own_rows_fill_the_device(device: str, size: int, batch: int) -> None:
    from visionbench.command.requests import HowToRun, Selection
    from visionbench.command.selection import specs_to_gate

    specs = specs_to_gate(Selection(), HowToRun(), device)
    assert {(spec.image_size, spec.batch_size) for spec in specs} == {(size, batch)}
    asked = specs_to_gate(Selection(words=("resnet18",), image_size=96), HowToRun(batch_size=3), device)
    assert [(spec.image_size, spec.batch_size) for spec in asked] == [(96, 3)]
    named = specs_to_gate(Selection(suites=("ci",)), HowToRun(), device)
    assert {spec.image_size for spec in named} == {64}


def test_a_largest_batch_that_does_not_run_is_made_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionbench.command.requests import HowToRun, Selection
    from visionbench.machine.environment import describe
    from visionbench.measuring import sweep

    pretend(monkeypatch)
    here = describe("cuda")
    tried: list[tuple[str, int]] = []

    def launch(spec: Spec, protocol: Any, *_: Any, **__: Any) -> Record:
        """One image more fits in three steps than in a whole measurement; 200 at most."""
        tried.append((protocol.name, spec.batch_size))
        fits = spec.batch_size <= (200 if protocol.name == "fit" else 197)
        failure = None if fits else Failure(kind="out_of_memory", stage="warm-up", message="CUDA out of memory")
        return Record(spec=spec, protocol=protocol, environment=here, failure=failure, source="measured")

    monkeypatch.setattr(sweep, "launch", launch)
    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(sweep, "prepare", lambda **_: None)
    request = run.Request(
        selection=Selection(words=("resnet18",)),
        how=HowToRun(batch_size="max"),
        where=Where(device="cuda"),
        how_long=HowLong(protocol="swin"),
        records=tmp_path / "r.jsonl",
    )
    [spec], outcome = run.measure(request)
    assert spec.batch_size <= 197
    assert (outcome.measured, outcome.failed) == (1, 0)
    assert len(outcome.records) == len([name for name, _ in tried if name == "swin"])
    assert "ran out of memory" in capsys.readouterr().err
    before = len(tried)
    assert run.measure(request)[0] == (spec,)
    assert len(tried) == before, "all of it is known the next time"


def test_clocks_are_held_while_sides_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visionbench.judging import gate as judging

    library = pretend(monkeypatch)
    monkeypatch.chdir(tmp_path)
    held: list[bool] = []

    def locked() -> bool:
        names = [name for name, _ in library.calls]
        return names.count("nvmlDeviceSetGpuLockedClocks") > names.count("nvmlDeviceResetGpuLockedClocks")

    def gate(*_: Any, **__: Any) -> Any:
        held.append(locked())
        return judging.Outcome(comparisons=(), verdicts=(), rule=judging.Rule(), cut_short=False)

    monkeypatch.setattr(judging, "gate", gate)
    words = ["resnet18", "--image-size", "32", "--device", "cuda"]
    main(["gate", *words, "--vary", "memory_format=channels_last"])
    main(["gate", *words, "--vary", "memory_format=channels_last", "--lock-clocks"])
    main(["effects", *words, "--switches", "channels_last", "--lock-clocks"])
    assert held == [False, True, True]
    assert not locked()


@pytest.mark.slow
def test_a_card_that_falls_off_the_bus_keeps_what_was_measured(command: Command, tmp_path: Path) -> None:
    card = replace(H100, lost_at="other", lost_file=str(tmp_path / "lost"))
    ran = command("run", TINY, OTHER, THIRD, *SMALL, "--protocol", "swin", card=card)
    assert ran.code == 4
    assert "cuda stopped answering in the middle" in ran.err
    assert "2 are left: the same command goes on from here" in ran.err
    assert [record.spec.model for record in store.read(ran.folder / "visionbench.jsonl").records] == [TINY]
    (tmp_path / "lost").unlink()
    ran = command("run", TINY, OTHER, THIRD, *SMALL, "--protocol", "swin", card=replace(card, lost_at=""))
    assert ran.code == 0, ran.err
    assert len(store.read(ran.folder / "visionbench.jsonl").records) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["gate", "--vary", "memory_format=channels_last"], ["effects", "--switches", "bf16"]]
)
def test_two_sides_keep_what_was_measured_before_the_card_was_lost(
    command: Command, tmp_path: Path, words: list[str]
) -> None:
    card = replace(H100, lost_at="other", lost_file=str(tmp_path / "lost"))
    turns = ("--launches", "7", "--rounds", "2", "--seed", "1")
    ran = command(words[0], TINY, OTHER, *words[1:], *SMALL, *turns, card=card)
    assert ran.code == 4
    said = ran.out + ran.err
    assert "stopped answering in the middle (see `nvidia-smi` and `dmesg`" in " ".join(said.split())
    assert "unspecified launch failure" not in said


@pytest.mark.parametrize("mode", [1, 3])
@pytest.mark.parametrize("words", [["gate", "--vary", "precision=tf32"], ["effects"]])
def test_two_sides_refuse_a_card_for_one_process(
    mode: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, replace(H100, compute_mode=mode))
    monkeypatch.chdir(tmp_path)
    assert main([*words[:1], "resnet18", "--device", "cuda", *words[1:]]) == 2
    assert "`sudo nvidia-smi -c DEFAULT` lets them share it" in capsys.readouterr().err


def test_a_card_that_is_gone_is_not_blamed_on_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from visionbench.machine.environment import describe
    from visionbench.measuring import sweep
    from visionbench.record.errors import BenchError

    def launch(spec: Spec, protocol: Any, *_: Any) -> Record:
        answering.clear()
        failure = Failure(kind="error", stage="first call", message="CUDA error: unspecified launch failure")
        return Record(spec=spec, protocol=protocol, environment=describe("meta"), failure=failure, source="measured")

    answering = ["cuda"]
    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(sweep, "answers", lambda device: device in answering)
    where = run.Place(devices=("cuda",), threads=None, protocol=SWIN, defaults=Defaults())
    with pytest.raises(BenchError, match="cuda stopped answering"):
        run._try_ahead([Spec(model="timm:resnet18")], where, size_asked=True)


def test_a_card_of_two_names_is_measured_by_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert run._devices("cuda,cuda:0") == ("cuda",)
    assert run._devices("cuda:0, cuda") == ("cuda:0",)
    assert run._devices("cpu,cpu:0") == ("cpu",)


def test_a_row_that_cannot_be_built_is_no_reason_not_to_say_how_long_the_others_take() -> None:
    card = find("h100-sxm5-80gb")
    assert card is not None
    specs = [Spec(model=model, image_size=230, batch_size=64) for model in ("timm:nest_tiny", "timm:resnet18")]
    seconds = expected.step_seconds(specs, card, [])
    assert seconds[specs[0]] == seconds[specs[1]] > 0


def test_memory_needs_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    card = find("h100-sxm5-80gb")
    assert card is not None
    monkeypatch.setattr(expected, "step_seconds", lambda *_: pytest.fail("nothing is timed"))
    assert list(expected.by_launch([Spec(model="timm:resnet18")], MEMORY, card, []))
