"""Records made by hand for the tests of reports: exact counts from a small file, measurements that nobody measured."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from visionbench.record.memory_protocol import PAPER_2022
from visionbench.record.record import Environment, Failure, FailureKind, Measurement, Record
from visionbench.record.spec import SMOKE, STEADY, Protocol, Spec
from visionbench.reports.paper import training_memory
from visionbench.reports.paper.counts import TRAIN_BATCH, count_spec
from visionbench.reports.printed import rows

COUNTS = Path(__file__).parent / "counts.csv"
"""Params and MACs of one image: conv + linear + both attention products, by torch's `FlopCounterMode` (halved) on the
meta device with unfused attention. A fixture: the project's own counts are pinned by the tests of the trace."""

META = Environment(device_type="meta")
FIXTURE_GPU = Environment(
    device_type="cuda",
    device_key="a100-sxm4-80gb",
    device_name="NVIDIA A100-SXM4-80GB",
    torch="2.15.0",
    cuda="13.0",
    started="2026-01-02T03:04:05Z",
)
FIXTURE_CPU = Environment(
    device_type="cpu", device_name="Fixture CPU", threads=2, torch="2.15.0", started="2026-01-01T00:00:00Z"
)

Counted = Callable[..., Record]
Launches = Callable[..., list[Record]]


@pytest.fixture(autouse=True, scope="module")
def _called_as_in_the_readme() -> Iterator[None]:
    """Messages name the program as it was called; the golden files hold `python bench.py`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["bench.py"])
        yield


def _count(metric: str, value: float, unit: str = "count") -> Measurement:
    return Measurement(metric=metric, unit=unit, better="lower", assume="exact", values=(value,))


def _counted(model: str, image_size: int = 224, *, params: float = 1e6, macs: float = 1e9) -> Record:
    measurements = (_count("params", params), _count("macs", macs))
    spec = count_spec(model, image_size)
    return Record(spec=spec, protocol=None, environment=META, measurements=measurements, source="computed")


@pytest.fixture
def counted() -> Counted:
    """A computed record of one network with the counts that the test names."""
    return _counted


@pytest.fixture(scope="session")
def counts() -> list[Record]:
    """A computed record of every network of the paper's tables, and made-up training peaks for Tables 2, 10 and 11."""
    with COUNTS.open(encoding="utf-8") as file:
        known = [
            _counted(line["model"], int(line["image_size"]), params=int(line["params"]), macs=int(line["macs"]))
            for line in csv.DictReader(file)
        ]
    peaks = {row.network: (row.number, training_memory.specs_of(row)) for row in rows("2")}
    peaks |= {
        row.network: (row.number, (PAPER_2022.spec(*row.network, TRAIN_BATCH),))
        for table in ("10", "11")
        for row in rows(table)
    }
    return [*known, *(_train_peak(spec, number) for number, specs in peaks.values() for spec in specs)]


def _train_peak(spec: Spec, number: int) -> Record:
    """Not true peaks: round numbers, so that nobody takes them for one. Autocast halves, kept gradients add a tenth."""
    peak = number * 2.0**30 / (1 if spec.precision == "fp32" else 2)
    sizes = {"peak_memory_live": peak, "peak_memory_kept_gradients": 1.1 * peak, "param_bytes": 2.0**28}
    measurements = tuple(_count(name, value, "B") for name, value in {**sizes, "buffer_bytes": 2.0**20}.items())
    return Record(spec=spec, protocol=None, environment=META, measurements=measurements, source="computed")


def _launches(
    model: str,
    *,
    image_size: int = 224,
    rate: float = 100.0,
    number: int = 7,
    environment: Environment = FIXTURE_GPU,
    protocol: Protocol = STEADY,
    flags: tuple[str, ...] = (),
    failure: FailureKind | None = None,
    **spec: object,
) -> list[Record]:
    """`number` launches of about `rate` images per second: the k-th is k - (number - 1) / 2 per mille off."""
    what = Spec(model=model, image_size=image_size, **{"batch_size": 64, **spec})  # type: ignore[arg-type]
    made = []
    for launch in range(number):
        off = 1 + (launch - (number - 1) / 2) / 1000
        seconds = what.batch_size * 10 / (rate * off)
        throughput = Measurement(
            metric="throughput",
            unit="s",
            better="lower",
            assume="nothing",
            values=(seconds,),
            iterations=10,
            flags=flags,
        )
        made.append(
            Record(
                spec=what,
                protocol=protocol,
                environment=environment,
                measurements=() if failure else (throughput,),
                failure=Failure(kind=failure, stage="warm-up", message="made up") if failure else None,
                source="measured",
            )
        )
    return made


@pytest.fixture
def launches() -> Launches:
    """Measured records of one spec that nobody measured."""
    return _launches


@pytest.fixture(scope="session")
def measured(counts: list[Record]) -> list[Record]:
    """The counts, one small CPU group without intervals, and a GPU group with them, a failure and a flag."""
    names = dict.fromkeys(row.network for table in ("1", "2", "12") for row in rows(table))
    made = [record for model, _ in list(names)[3:6] for record in _cpu(model)]
    for place, (model, size) in enumerate(names):
        failed = model == "timm:resnetv2_152x4_bit"
        made += _launches(
            model,
            image_size=size,
            rate=1000.0 + 10 * place,
            number=1 if failed else 7,
            failure="out_of_memory" if failed else None,
            flags=("throttled",) if model == "timm:vit_large_patch16_384" else (),
            precision="tf32",
            memory_format="channels_last",
        )
    return [*counts, *made]


def _cpu(model: str) -> list[Record]:
    return _launches(model, rate=4.56, number=1, environment=FIXTURE_CPU, protocol=SMOKE, batch_size=1)
