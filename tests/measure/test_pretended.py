"""The CUDA and NVML paths, line by line, against pretended cards: what a launch records, flags and says on each."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from types import CodeType, FrameType
from typing import Any

import pytest

from tests.pretended.card import A100, CAPPED, H100, HOT, MOVING, SILENT, UNKNOWN, V100, Card, pretend
from tests.pretended.nvml import NO_PERMISSION, FakeNVMLError
from visionbench.machine import device_clock, doctor, nvml, support, telemetry
from visionbench.measuring import worker
from visionbench.measuring.metrics import energy, peak_memory
from visionbench.measuring.process.side_process import LiveSide
from visionbench.record.errors import BenchError
from visionbench.record.fingerprint import differences
from visionbench.record.record import Record
from visionbench.record.spec import MEMORY, Protocol, Spec

Factories = Callable[[str], str]

ALL = Protocol(
    name="all",
    metrics=("throughput", "latency", "phases", "energy"),
    warmup_iterations=2,
    steady_within=0.2,
    blocks=3,
    block_iterations=2,
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Energy is watched for milliseconds."""
    for name in ("WINDOW_SECONDS", "SETTLE_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(energy, name, 0.02)


def measured(spec: Spec, protocol: Protocol = ALL) -> Record:
    record = worker.measure(spec, protocol, "cuda")
    assert record.failure is None, record.failure
    return record


def flags(record: Record, metric: str = "throughput") -> set[str]:
    found = record.get(metric)
    assert found is not None
    return set(found.flags)


@pytest.mark.parametrize(("task", "precision"), [("inference", "amp_fp16"), ("train", "tf32"), ("train", "amp_bf16")])
def test_a_launch_has_all_that_a_card_gives(
    task: Any, precision: Any, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    record = measured(Spec(model=factories("tiny"), task=task, precision=precision, memory_format="channels_last"))
    names = {one.metric for one in record.measurements}
    assert {"throughput", "device_time", "enqueue_time", "device_time_unhindered", "latency", "energy"} <= names
    assert {"energy_seconds", "idle_power", "sm_clock", "temperature", "power", "process_memory"} <= names
    assert {"peak_memory_allocated", "peak_memory_reserved", "first_call"} <= names
    assert "cpu_time" not in names
    assert ({"forward", "backward", "optimizer", "peak_memory_backward"} <= names) == (task == "train")
    assert record.environment.device_key == "h100-sxm5-80gb"
    assert record.environment.power_limit == 700
    assert "pretended" in (record.environment.driver or "")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (H100, set()),
        (A100, set()),
        (V100, set()),
        (UNKNOWN, {"ecc"}),  # whether its memory has room of its own for check bits, nobody knows
        (MOVING, {"clock_unsteady"}),
        (CAPPED, {"power_capped"}),
        (SILENT, {"throttle_unknown"}),
        (replace(H100, mig=True), {"mig"}),
        (replace(H100, others=(4,)), {"other_gpu_processes"}),
        (replace(H100, library="dead"), {"throttle_unknown"}),
        (replace(H100, pace=0.5), {"clocks_disagree", "host_bound"}),
        (replace(H100, lag=0.01), {"clocks_disagree", "stalled"}),
    ],
    ids=["h100", "a100", "v100", "unknown", "moving", "capped", "silent", "slice", "shared", "dead", "apart", "late"],
)
def test_what_a_card_does_is_a_flag(
    card: Card, expected: set[str], factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, card)
    protocol = replace(ALL, metrics=("throughput",), steady_within=None)
    told = {"clock_unsteady", "power_capped", "throttled", "throttle_unknown", "mig", "other_gpu_processes", "ecc"}
    told |= {"clocks_disagree", "host_bound", "stalled"} if card.pace != 1 or card.lag else set()
    assert flags(measured(Spec(model=factories("slow")), protocol)) & told == expected


def test_a_hot_card_has_no_number_left(factories: Factories, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, HOT)
    record = measured(Spec(model=factories("tiny")), replace(ALL, metrics=("throughput",)))
    assert flags(record) >= {"throttled"}
    found = record.get("throughput")
    assert found is not None
    assert found.values == ()
    assert "4 of 4 blocks discarded" in found.warnings[-1]


def test_a_driver_that_refuses_leaves_gaps_and_no_guesses(
    factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, SILENT)
    record = measured(Spec(model=factories("tiny")))
    names = {one.metric for one in record.measurements}
    assert {"throughput", "sm_clock", "temperature"} <= names
    assert not {"energy", "idle_power", "power", "process_memory"} & names
    assert record.environment.power_limit is None


def test_a_card_nobody_knows_is_measured_under_its_own_name(
    factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, UNKNOWN)
    record = measured(Spec(model=factories("tiny")), replace(ALL, metrics=("throughput",)))
    assert (record.environment.device_key, record.environment.device) == (None, "nvidia-q1-experimental")


@pytest.mark.parametrize("precision", ["tf32", "bf16", "amp_bf16"])
def test_a_v100_refuses_what_it_has_not(precision: Any, factories: Factories, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, V100)
    failure = worker.measure(Spec(model=factories("tiny"), precision=precision), ALL, "cuda").failure
    assert failure is not None
    assert (failure.kind, failure.stage) == ("unsupported", "check")
    assert "came with 8.0" in failure.message


def test_a_wheel_without_the_cards_kernels_says_which_torch_has_them(
    factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, replace(V100, architectures=H100.architectures))
    failure = worker.measure(Spec(model=factories("tiny")), ALL, "cuda").failure
    assert failure is not None
    assert "torch<=2.10" in failure.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NVIDIA_TF32_OVERRIDE", "0"),
        *(
            pytest.param(name, value, marks=pytest.mark.slow)  # each measures three times
            for name, value in (
                ("CUDA_LAUNCH_BLOCKING", "1"),
                ("PYTORCH_CUDA_ALLOC_CONF", "backend:native"),
                ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
                ("TORCH_BLAS_PREFER_CUBLASLT", "1"),
            )
        ),
        ("PYTORCH_ALLOC_CONF", "max_split_size_mb:64"),
    ],
)
def test_variables_that_change_numbers_are_a_flag_and_kept(
    name: str, value: str, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = replace(ALL, metrics=("throughput",))
    library = pretend(monkeypatch)
    plain = measured(Spec(model=factories("tiny")), protocol)
    assert "variables_set" not in flags(plain)
    monkeypatch.setenv(name, value)
    changed = measured(Spec(model=factories("tiny")), protocol)
    assert "variables_set" in flags(changed)
    assert (plain.environment.variables, changed.environment.variables) == (None, f"{name}={value}")
    assert plain.key != changed.key, "they are no repetitions of each other"
    [difference] = differences(plain.environment, changed.environment)
    assert str(difference) == f"variables: none against {name}={value}"
    monkeypatch.setattr(library, "nvmlInit", _raises(library))  # without the driver's library, too
    assert "variables_set" in flags(measured(Spec(model=factories("tiny")), protocol))


def _raises(library: Any) -> Callable[[], None]:
    def refuse() -> None:
        raise library.NVMLError(3)

    return refuse


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "out_of_memory"),
        ("FIND was unable to find an engine to execute this computation", "out_of_memory"),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "out_of_memory"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "out_of_memory"),
        ("CUDA error: an illegal memory access was encountered", "error"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "unsupported"),
    ],
)
def test_what_did_not_fit_is_told_from_what_broke(
    refusal: str, kind: str, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, replace(H100, most_images=4, refusal=refusal))
    assert worker.measure(Spec(model=factories("tiny"), batch_size=4), ALL, "cuda").failure is None
    failure = worker.measure(Spec(model=factories("tiny"), batch_size=5), ALL, "cuda").failure
    assert failure is not None
    assert (failure.kind, failure.stage) == (kind, "first call")


def test_memory_is_counted_over_the_third_of_three_steps(factories: Factories, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    happened: list[str] = []
    build = worker.build

    def watched(*asked: Any, **how: Any) -> Any:
        load = build(*asked, **how)
        return replace(load, step=lambda: happened.append("step") or load.step())

    monkeypatch.setattr(worker, "build", watched)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *_, name=name: happened.append(name))
    record = measured(Spec(model=factories("tiny"), task="train"), MEMORY)
    assert happened == ["step", "empty_cache", "step", "reset_peak_memory_stats", "step"]
    assert {one.metric for one in record.measurements} == {
        "peak_memory_allocated",
        "peak_memory_reserved",
        "process_memory",
        "first_call",
    }


@pytest.mark.parametrize("model", ["tiny", "missing"])
def test_a_side_gives_its_memory_back_before_the_next_row(
    model: str, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    given_back: list[str] = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: given_back.append("all"))
    side = LiveSide("cuda", None, None)
    for name in ("tiny", model):
        side.answer({"do": "prepare", "spec": asdict(Spec(model=factories(name))), "seed": 1, "cores": []})
    assert given_back == ["all"], "once, before the second row takes its place"
    side.answer({"do": "finish"})
    assert len(given_back) == (2 if model == "tiny" else 1)


def test_a_clock_is_locked_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pretend(monkeypatch)
    with telemetry.locked_clocks("cuda"):
        assert library.calls[-1][0] == "nvmlDeviceSetGpuLockedClocks"
    assert library.calls[-1][0] == "nvmlDeviceResetGpuLockedClocks"


def test_a_side_of_a_duet_takes_its_turns_by_the_cards_clock(
    factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, MOVING)
    heard = _a_side(factories)
    assert len(heard["turn"]["device"]) == 3
    assert "clock_unsteady" in heard["finish"]["flags"]
    assert heard["finish"]["sm_clock"] == 1950e6


@pytest.mark.slow
@pytest.mark.parametrize(("lag", "host_bound"), [(0.0, True), (0.01, False)])
def test_a_side_says_whether_the_host_sets_its_pace(
    lag: float, host_bound: bool, factories: Factories, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, replace(H100, lag=lag))
    lone = device_clock.lone  # a device that needs a tenth of what its turns took: the rest was waiting
    slower = partial(lone, now=perf_counter)

    def unhindered(*asked: Any, **how: Any) -> Any:
        alone = slower(*asked, **how)
        return replace(alone, unhindered=tuple(seconds / 10 for seconds in alone.unhindered))

    monkeypatch.setattr(device_clock, "lone", unhindered)
    assert ("host_bound" in _a_side(factories, "slow")["finish"]["flags"]) is host_bound


def _a_side(factories: Factories, model: str = "tiny") -> dict[str, dict[str, Any]]:
    orders: list[dict[str, Any]] = [
        {"do": "prepare", "spec": asdict(Spec(model=factories(model))), "seed": 1, "cores": []},
        {"do": "warm", "cores": []},
        *[{"do": "turn", "drop": 1, "readings": 3, "iterations": 2}] * 5,
        {"do": "finish"},
    ]
    side = LiveSide("cuda", None, None)
    answers = {order["do"]: side.answer(dict(order)) for order in orders}
    assert not [answer for answer in answers.values() if "failed" in answer]
    return answers


# --- every line ---

MODULES = (nvml, device_clock, support, peak_memory)

MOODS = (
    H100,
    V100,
    CAPPED,
    SILENT,
    replace(H100, driver="470.256.02 (pretended)"),
    replace(H100, driver="575.57.08"),
    replace(H100, driver="unheard of"),
    replace(H100, mig=True),
    replace(H100, library="missing"),
    replace(H100, library="dead"),
    replace(H100, library="blind"),
    replace(H100, lag=0.01),
    replace(H100, pace=0.5),
    replace(V100, architectures=("sm_75", "odd")),
    replace(UNKNOWN, architectures=("compute_80",)),
    replace(UNKNOWN, architectures=("sm_75",)),
)


@pytest.mark.slow
def test_every_line_of_a_cards_modules_runs(factories: Factories, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {module.__file__: _lines(module.__file__) for module in MODULES}
    ran = {name: set[int]() for name in wanted}
    monkeypatch.setattr(doctor, "examine_host", list)  # it watches the host for a second, and has tests of its own
    protocol = replace(ALL, metrics=("throughput", "energy"), steady_within=None)
    with _traced(ran):
        worker.measure(Spec(model=factories("tiny"), precision="tf32"), protocol, "cpu")
        worker.measure(Spec(model=factories("tiny")), protocol, "cpu")
        for variable in ("TORCH_COMPILE_DISABLE", support.SUPPRESSED):
            with monkeypatch.context() as context:
                context.setenv(variable, "1")
                worker.measure(Spec(model=factories("tiny"), compile_mode="default"), protocol, "cpu")
        # Whether this process stalls is chance: the two doubts are asked for with given times.
        alone, flags = {"enqueue": (1.0, 1.0), "unhindered": (1.0, 1.0)}, device_clock.flags
        assert flags([2.0], [], device_clock.Lone(done=(9.0, 9.0), **alone), iterations=1) == ("stalled",)
        assert flags([2.0], [], device_clock.Lone(done=(1.0, 1.0), **alone), iterations=1) == ("host_bound",)
        for card in MOODS:
            with monkeypatch.context() as context:
                library = pretend(context, card)
                doctor.render(doctor.examine("cuda"))
                for device, precision, task in (
                    ("cuda", "fp32", "inference"),
                    ("cuda", "bf16", "inference"),
                    ("cuda", "fp16", "train"),
                    ("cuda:1", "fp32", "inference"),
                    ("meta", "fp32", "inference"),
                ):
                    spec = Spec(model=factories("tiny"), precision=precision, task=task)  # type: ignore[arg-type]
                    worker.measure(spec, protocol, device)
                _lock_clocks(library)
                assert nvml.answers("cuda") == (card.library == "there")
                assert nvml.compute_mode("cuda") is None
                if library is not None:
                    assert (nvml.driver_cuda(library) is None) == (card.library == "dead")
                    library.answers["nvmlDeviceGetComputeMode"] = nvml.PROHIBITED
                    assert nvml.compute_mode("cuda") == ("prohibited" if card.library == "there" else None)
    missing = {Path(name).name: sorted(lines - ran[name]) for name, lines in wanted.items() if lines - ran[name]}
    assert missing == {}


def _lock_clocks(library: Any) -> None:
    for refused in ("nothing", "nvmlDeviceResetGpuLockedClocks", "nvmlDeviceSetGpuLockedClocks"):
        if library is not None:
            library.answers[refused] = FakeNVMLError(NO_PERMISSION)
        with suppress(BenchError), telemetry.locked_clocks("cuda"):
            pass


def _lines(file: str) -> set[int]:
    """The lines of that file's functions."""

    def of(code: CodeType) -> Iterator[int]:
        inner = [part for part in code.co_consts if isinstance(part, CodeType)]
        for part in inner:
            if part.co_flags & inspect.CO_NEWLOCALS and part.co_flags & inspect.CO_OPTIMIZED:
                yield from {line for _, _, line in part.co_lines() if line and line != part.co_firstlineno}
            yield from of(part)

    return set(of(compile(Path(file).read_text(encoding="utf-8"), file, "exec")))


@contextmanager
def _traced(ran: dict[str, set[int]]) -> Iterator[None]:
    def each(frame: FrameType, event: str, _: Any) -> Any:
        lines = ran.get(frame.f_code.co_filename)
        if lines is None:
            return None
        lines.add(frame.f_lineno)
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        yield
    finally:
        sys.settrace(before)
