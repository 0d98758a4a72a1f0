"""Comparisons and sweeps made by hand for the tests of effects and of the roadmap: nobody measured them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from visionbench.comparison.comparison import Comparison, Launch, Round, Side
from visionbench.comparison.switches import every_configuration, switched
from visionbench.record.record import Environment, Failure, Measurement, Record
from visionbench.record.spec import STEADY, Spec
from visionbench.reports.paper import roadmap

GPU = Environment(
    device_type="cuda",
    device_key="a100-sxm4-80gb",
    device_name="NVIDIA A100-SXM4-80GB",
    torch="2.15.0",
    started="2026-01-02T03:04:05Z",
)
CPU = Environment(
    device_type="cpu", device_name="Fixture CPU", threads=1, torch="2.15.0", started="2026-01-01T03:04:05Z"
)
TINY, SWIN = "timm:convnext_tiny", "timm:swin_tiny_patch4_window7_224"
NO_TF32 = Failure(kind="unsupported", stage="build", message="TF32 is made up here")


def pair(
    baseline: Spec,
    candidate: Spec,
    speed_up: float = 1.0,
    *,
    launches: int = 10,
    scatter: float = 0.003,
    seconds: float = 0.05,
    flags: tuple[str, ...] = (),
    environment: Environment = GPU,
    **rest: Any,
) -> Comparison:
    """Launches whose log ratios lie evenly around `speed_up`, from -2 to +2 times `scatter`."""
    made = []
    for number in range(launches):
        off = math.exp(scatter * (4 * number / max(launches - 1, 1) - 2)) if launches > 1 else 1.0
        turn = Round(
            first="baseline",
            baseline=seconds,
            candidate=seconds / speed_up * off,
            baseline_wall=seconds,
            candidate_wall=seconds,
        )
        made.append(Launch(rounds=(turn,) * 3, flags=flags))
    return Comparison(
        name=f"{baseline} -> {candidate}",
        baseline=Side(label="plain", spec=baseline),
        candidate=Side(label="changed", spec=candidate),
        environment=environment,
        timer="device" if environment is GPU else "cpu",
        seed=7,
        launches=tuple(made),
        **rest,
    )


def effect(model: str, switch: str, speed_up: float = 1.0, *, batch_size: int = 64, **rest: Any) -> Comparison:
    """The effect of one switch on one model's inference."""
    spec = Spec(model=model, batch_size=batch_size)
    return pair(spec, switched(spec, switch), speed_up, **rest)


def effects() -> list[Comparison]:
    """Every word that a finding can be, a failure, a doubt, too few launches."""
    return [
        effect(TINY, "compile", 1.4),
        effect(TINY, "channels_last", 1.31),
        effect(SWIN, "channels_last", 1.0),
        effect("timm:resnet50", "channels_last", 1.02, scatter=0.03),
        effect("timm:vit_base_patch16_224", "channels_last", 0.9, flags=("throttled",)),
        effect(TINY, "tf32", launches=0, failure=NO_TF32),
        effect(SWIN, "amp_bf16", 2.04, launches=3),
    ]


def steps() -> list[Comparison]:
    """Three steps of the first road: one costs, one is a tie, one failed; and one of another batch size, older."""
    found = []
    for (before, after), speed_up in zip(roadmap.steps("10")[:3], (0.93, 1.001, 1.2), strict=True):
        specs = [Spec(model=row.model, batch_size=64) for row in (before, after)]
        found.append(pair(*specs, speed_up, scatter=0.001))
    failed = Failure(kind="out_of_memory", stage="build", message="made up")
    found[2] = replace(found[2], launches=(), failure=failed)
    before, after = roadmap.steps("10")[5]
    older = replace(GPU, started="2025-01-01T00:00:00Z")
    found.append(pair(Spec(model=before.model), Spec(model=after.model), 0.5, environment=older))
    return found


def run(spec: Spec, rate: float, *, launches: int = 7, compile_seconds: float = 30.0) -> list[Record]:
    """Launches of a sweep: about `rate` images per second, and memory of a GiB or half of it."""
    gib = 2.0**30 if spec.precision == "fp32" else 2.0**29
    made = []
    for launch in range(launches):
        seconds = spec.batch_size / (rate * (1 + (launch - 3) / 1000))
        numbers = [("throughput", "s", seconds), ("peak_memory_allocated", "B", gib), ("first_call", "s", 1.0)]
        numbers += [("compile_seconds", "s", compile_seconds)] if spec.compile_mode else []
        measurements = tuple(
            Measurement(metric=name, unit=unit, better="lower", assume="nothing", values=(value,))
            for name, unit, value in numbers
        )
        made.append(Record(spec=spec, protocol=STEADY, environment=GPU, measurements=measurements, source="measured"))
    return made


def grid() -> list[Record]:
    """One model under four configurations; one fails."""
    specs = every_configuration(Spec(model="timm:resnet18", batch_size=64), ("amp_bf16", "compile"))
    rates = dict(zip(specs, (100.0, 150.0, 200.0, 0.0), strict=True))
    found = [record for spec, rate in rates.items() if rate for record in run(spec, rate)]
    [last] = run(specs[-1], 1.0, launches=1)
    failure = Failure(kind="error", stage="build", message="no compiler is made up here")
    return [*found, replace(last, measurements=(), failure=failure)]
