"""What users do to a card, and cards to users, on a pretended one: a sentence or a flag, and no number without it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretended.card import H100, V100, Card, environment, pretend
from visionbench import ROOT
from visionbench.command.main import main
from visionbench.comparison.comparison import Launch
from visionbench.comparison.verdict import NOT_MEASURED
from visionbench.judging import duet
from visionbench.machine import support, unseen
from visionbench.machine.environment import describe
from visionbench.models.outputs import adamw
from visionbench.record import store
from visionbench.record.metrics import measurement
from visionbench.record.record import Failure, Record
from visionbench.record.spec import SWIN, Spec
from visionbench.reports import REPORTS
from visionbench.reports.launches import _setting
from visionbench.tracing import trace

STRANGER = 4


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is started for a command that is refused, and records are written to a folder of the test's own."""
    for verb in ("run", "tables"):
        monkeypatch.setattr(f"visionbench.command.verbs.{verb}.start_early", lambda **_: None)
    monkeypatch.chdir(tmp_path)


# --- a card that others use ---


class Side:
    """One side of a duet that answers at once."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def order(self, **_: Any) -> None:
        """Nothing is done."""

    def answer(self, *_: Any) -> dict[str, Any]:
        """As from a network of a millisecond."""
        times = {"cpu": [1e-3], "wall": [1e-3], "device": [1e-3]}
        return {"seconds": 1e-3, "flags": [], "sm_clock": None, **times}


def flags_of_turns(device: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setattr(duet, "SideProcess", Side)
    side = duet.Side(label="x", spec=Spec(model="timm:resnet18"))
    row = duet.Row(name="row", baseline=side, candidate=side)
    played = duet.launch([row], duet.stage(device, None, rounds=1), random.Random(1))["row"]
    assert isinstance(played, Launch)
    return played.flags


@pytest.mark.parametrize(
    ("card", "variables", "expected"),
    [
        (H100, {}, set()),
        (replace(H100, others=(STRANGER,)), {}, {"other_gpu_processes"}),
        (H100, {"NVIDIA_TF32_OVERRIDE": "0"}, {"variables_set"}),
        (replace(H100, library="missing"), {"CUDA_LAUNCH_BLOCKING": "1"}, {"variables_set"}),
        (replace(H100, mig=True), {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, {"variables_set", "mig"}),
    ],
    ids=["alone", "shared", "override", "blocking", "slice"],
)
def test_turns_say_what_was_about_the_card(
    card: Card, variables: dict[str, str], expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, card)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert set(flags_of_turns("cuda", monkeypatch)) == expected
    assert flags_of_turns("cpu", monkeypatch) == (), "a CPU has nothing to do with it"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "resnet18", "--device", "cuda"],
        ["--gpu", "h100"],
        ["gate", "resnet18", "--vary", "precision=tf32"],
        ["effects", "resnet18"],
    ],
)
def test_a_card_that_no_program_may_use_is_refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pretend(monkeypatch, replace(H100, compute_mode=2))
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "prohibited" in said
    assert "`sudo nvidia-smi -c DEFAULT`" in said
    assert not any(file.stat().st_size for file in tmp_path.iterdir())


def test_what_was_measured_under_a_variable_is_a_row_and_a_column_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    spec = Spec(model="timm:resnet18")
    records = []
    for seconds, value in ((0.1, None), (0.2, "0"), (0.3, None)):
        if value is not None:
            monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
        timed = measurement("throughput", (seconds,))
        records.append(
            Record(spec=spec, protocol=SWIN, environment=describe("cuda"), measurements=(timed,), source="measured")
        )
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    table = REPORTS["runs"].layout(records, ())
    assert len(table.rows) == 2
    assert "NVIDIA_TF32_OVERRIDE=0" in str(table)
    plain, changed = (_setting(spec, record) for record in records[:2])
    assert plain.slug != changed.slug
    assert _setting(spec, records[2]) == plain
    assert changed.words()["variables"] == "NVIDIA_TF32_OVERRIDE=0"


# --- a card that torch does not see ---


@pytest.mark.parametrize("variable", unseen.HIDES)
@pytest.mark.parametrize("value", ["7", "GPU-0badc0de", "1,2", "MIG-1"])
def test_a_variable_that_names_no_card_is_told(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pretend(monkeypatch, replace(H100, lost_file=__file__))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name in unseen.HIDES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    assert unseen.reason(library).startswith(f"{variable}={value!r} names no GPU of this machine: unset it")


HIDDEN = {
    "empty": (H100, "", "CUDA_VISIBLE_DEVICES='' hides it: unset it"),
    "minus": (H100, "-1", "CUDA_VISIBLE_DEVICES='-1' hides it: unset it"),
    "another": (H100, "7", "CUDA_VISIBLE_DEVICES='7' names no GPU of this machine: unset it"),
    "unknown": (H100, "GPU-0badc0de", "CUDA_VISIBLE_DEVICES='GPU-0badc0de' names no GPU of this machine: unset it"),
    "driver": (replace(H100, cuda=11040), None, "the driver knows CUDA 11.4 and torch"),
    "slices": (replace(H100, sliced=True), None, "MIG is on and no slice of the card is there"),
}


@pytest.mark.parametrize(("card", "value", "why"), HIDDEN.values(), ids=HIDDEN)
def test_every_verb_says_why_torch_does_not_see_the_card(
    card: Card,
    value: str | None,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    pretend(monkeypatch, replace(card, lost_file=__file__))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name in unseen.HIDES:
        monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    for words in (
        ["run", "resnet18", "--device", "cuda"],
        ["run", "resnet18", "--device", "cuda", "--batch-size", "max"],
        ["tables", "convnext_table12", "--device", "cuda"],
        ["--gpu", "h100"],
        ["gate", "resnet18", "--vary", "precision=tf32", "--device", "cuda"],
        ["effects", "resnet18", "--device", "cuda"],
        ["selftest", "--device", "cuda"],
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert why in said, words
        assert len(said.strip().splitlines()) == 1, words
    assert not any(file.stat().st_size for file in tmp_path.iterdir())


@pytest.mark.parametrize("variable", support.UNCOMPILED)
def test_a_variable_that_turns_the_compiler_off_is_no_compiled_number(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec(model="timm:resnet18", compile_mode="default")
    monkeypatch.setenv(variable, "0")
    support.check(spec, "cpu")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(support.UnsupportedError, match=f"{variable}=1 turns torch.compile off"):
        support.check(spec, "cpu")
    support.check(replace(spec, compile_mode=None), "cpu")


@pytest.mark.parametrize("value", ["1", "0"])  # torch takes any text for yes
def test_a_failed_compilation_is_not_timed_as_a_compiled_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(model="timm:resnet18", compile_mode="default")
    monkeypatch.setenv(support.SUPPRESSED, value)
    with pytest.raises(support.UnsupportedError, match=f"{support.SUPPRESSED} lets what fails to compile run eagerly"):
        support.check(spec, "cpu")
    support.check(replace(spec, compile_mode=None), "cpu")
    monkeypatch.setenv(support.SUPPRESSED, "")
    support.check(spec, "cpu")


def test_a_card_that_is_cut_up_without_a_slice_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, replace(H100, sliced=True))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name in unseen.HIDES:
        monkeypatch.delenv(name, raising=False)
    assert main(["run", "resnet18", "--gpu", "h100"]) == 2
    assert "MIG is on and no slice of the card is there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "value", "why"),
    [(H100, "", "CUDA_VISIBLE_DEVICES='' hides it"), (replace(V100, sliced=True), None, "the driver knows CUDA 11.4")],
)
def test_a_cpu_that_is_taken_for_a_card_is_told(
    card: Card,
    value: str | None,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from visionbench.command.processes import device_or_usual

    pretend(monkeypatch, card)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    if value is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert device_or_usual(None) == "cpu"
    said = capsys.readouterr().err
    assert f"{card.name} is here, and torch does not see it: {why}" in said
    assert "The CPU is taken." in said
    assert device_or_usual("cpu") == "cpu"
    assert capsys.readouterr().err == "", "a CPU that was named is meant"


# --- a process that only looks ---


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that nobody may ask for its stream: to ask makes a context."""

    def touched(*_: Any, **__: Any) -> Any:
        pytest.fail("asked the card for its stream")

    pretend(monkeypatch)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_stream", touched)
    monkeypatch.setattr(torch.cuda, "current_stream", touched)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", touched)


@pytest.mark.usefixtures("untouched")
def test_counting_a_training_step_takes_no_hold_of_the_card() -> None:
    trace(Spec(model="timm:resnet18", task="train", image_size=32, batch_size=2), describe("meta"))


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_optimizer_of_no_gpu_asks_for_no_stream(device: str) -> None:
    weight = torch.nn.Parameter(torch.ones(2, device=device))
    weight.grad = torch.ones(2, device=device)
    adamw([weight]).step()


# --- what a command says first ---


def test_a_grid_says_what_it_takes_before_its_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from visionbench.command.verbs import effects

    pretend(monkeypatch)
    monkeypatch.setattr(effects, "_compare", lambda *_: print("turns", file=sys.stderr) or ((), True))
    main(["effects", "resnet18", "--grid", "--device", "cuda"])
    said = capsys.readouterr().err
    assert "After the turns, --grid measures 20 configurations in 3 launches each, about " in said
    assert "10 of them are compiled in each launch" in said
    assert said.index("After the turns") < said.index("\nturns") if "\nturns" in said else said.index("turns\n")
    main(["effects", "resnet18", "--grid", "--device", "cpu"])
    assert "After the turns" not in capsys.readouterr().err


# --- tests on a machine with a card ---

NO_KERNEL = (
    "test_memory_is_counted_on_a_gpu",
    "test_a_gpu_is_measured_in_a_forked_child",
    "test_a_gpu_is_described",
    "test_a_real_gpu_is_examined",
    "test_a_real_card_answers",
)
"""Of the mark `gpu` those that ask for no kernel of the device, no clock and no amount."""


def run_tests(*words: str, **variables: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *words],
        check=False,
        cwd=ROOT,
        env=environment(H100) | {"OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    return ran.stdout


@pytest.mark.slow
def test_what_needs_no_kernel_of_the_gpu_tests_passes_on_a_pretended_card() -> None:
    files = ("worker", "launch", "environment", "doctor", "nvml")
    said = run_tests("-m", "gpu", "-k", " or ".join(NO_KERNEL), *(f"tests/measure/test_{name}.py" for name in files))
    assert f"{len(NO_KERNEL)} passed" in said
    assert "skipped" not in said


# --- a search on a card that goes ---


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Search for the largest batch on a card on which `most` images fit, and which `lost_at` so many makes go."""
    from visionbench.measuring import sweep
    from visionbench.measuring.process import launch as launching

    pretend(monkeypatch)
    here = describe("cuda")
    monkeypatch.setattr(sweep, "prepare", lambda **_: None)

    def run(most: int = 200, lost_at: int | None = None) -> int:
        answering = ["cuda"]

        def launch(spec: Spec, protocol: Any, *_: Any, **__: Any) -> Record:
            failure = None
            if spec.batch_size > most:
                failure = Failure(kind="out_of_memory", stage="first call", message="CUDA out of memory")
            if lost_at is not None and spec.batch_size >= lost_at:
                answering.clear()
                failure = Failure(kind="error", stage="first call", message="CUDA error: unspecified launch failure")
            environment = replace(here, variables=describe("cuda").variables)
            return Record(spec=spec, protocol=protocol, environment=environment, failure=failure, source="measured")

        for owner in (sweep, launching):
            monkeypatch.setattr(owner, "launch", launch)
        monkeypatch.setattr(sweep, "answers", lambda device: device in answering)
        words = ["run", "resnet18", "--batch-size", "max", "--device", "cuda", "--protocol", "swin"]
        return main([*words, "--records", str(tmp_path / "r.jsonl")])

    return run


@pytest.mark.parametrize("lost_at", [1, 2, 64, 150, 199])
def test_a_card_that_goes_during_a_search_leaves_no_largest_batch(
    lost_at: int, search: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(lost_at=lost_at) == NOT_MEASURED
    assert "stopped answering in the middle" in capsys.readouterr().err
    assert not store.read_if_there(tmp_path / "r.jsonl").records
    assert search() == 0
    said = capsys.readouterr().err
    assert "the largest batch that fits is" in said
    assert "stopped" not in said


def test_a_card_on_which_nothing_fits_is_not_measured(
    search: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(most=0) == NOT_MEASURED
    assert "out of memory" in capsys.readouterr().err


def test_what_another_program_leaves_is_no_largest_batch(
    search: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pretend(monkeypatch, replace(H100, others=(STRANGER,)))
    assert search(most=50) == 0
    assert "the largest batch that fits is 50 (another program held memory of this GPU" in capsys.readouterr().err
    largest = store.read(tmp_path / "r.jsonl").records[0].get("largest_batch")
    assert largest is not None
    assert largest.flags == ("other_gpu_processes",)
    pretend(monkeypatch)
    assert search(most=200) == 0
    said = capsys.readouterr().err
    assert "Searching" in said, "what fits is asked anew"
    assert "another program" not in said
    assert search(most=200) == 0
    assert "Searching" not in capsys.readouterr().err


def test_another_allocator_has_another_largest_batch(
    search: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(most=100) == 0
    assert "Searching" in capsys.readouterr().err
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    assert search(most=200) == 0
    assert "Searching" in capsys.readouterr().err, "what fits is asked anew"
    assert search(most=200) == 0
    assert "Searching" not in capsys.readouterr().err
