"""What has the right types and cannot be true is no record, and a file of another kind is called by its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Record, to_json
from visionbench.record.spec import SMOKE, Spec

RECORD = Record(
    spec=Spec(model="timm:resnet18"),
    protocol=SMOKE,
    environment=Environment(device_type="cpu", cores=2, threads=1),
    measurements=(measurement("throughput", (0.5, 0.6)), measurement("temperature", (-3.0,))),
    source="measured",
)


def _first(**fields: Any) -> Callable[[Any], None]:
    return lambda data: data["measurements"][0].update(fields)


def _part(name: str, **fields: Any) -> Callable[[Any], None]:
    return lambda data: data[name].update(fields)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_first(values=[-1.0, 2.0]), "throughput is negative"),
        (_first(unit="ms"), "throughput is in s, and not in 'ms'"),
        (_first(better="higher"), "of throughput lower is better, and not higher"),
        (_first(iterations=0), "spans no iterations"),
        (_first(metric="macs.conv", unit="G"), "macs.conv is in count, and not in 'G'"),
        (lambda data: data["measurements"].append(data["measurements"][0]), "a metric stands twice in a record"),
        (_part("environment", threads=0), "its environment has threads = 0"),
        (_part("environment", cores=-4), "its environment has cores = -4"),
        (_part("environment", device_memory=-1), "its environment has device_memory = -1"),
        (_part("protocol", blocks=-1), "its protocol has blocks = -1"),
        (_part("protocol", max_seconds=-1.0), "its protocol has max_seconds = -1.0"),
    ],
)
def test_what_cannot_be_true_is_left_out_with_its_reason(
    change: Callable[[Any], None], reason: str, tmp_path: Path
) -> None:
    data = json.loads(to_json(RECORD))
    change(data)
    (tmp_path / "r.jsonl").write_text(f"{to_json(RECORD)}\n{json.dumps(data)}\n")
    log = store.read(tmp_path / "r.jsonl")
    assert log.records == (RECORD,)
    assert len(log.problems) == 1
    assert "line 2 is torn or no record, skipped" in log.problems[0]
    assert reason in log.problems[0]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"name":"x","baseline":{},"candidate":{}}\n', "it holds comparisons; `gate --rejudge` judges them"),
        (f"[{to_json(RECORD)}]", "a record is an object on one line"),
        (json.dumps(json.loads(to_json(RECORD)), indent=1), "a record is an object on one line"),
        ('{"machine_info": {}, "benchmarks": []}', "it is pytest-benchmark's; `compare` reads two of them"),
        ('{"schema": 1, "profiles": []}', "it is a noise profile; `selftest --show --profile` prints it"),
        ("hello\n", "its only line is not a record; line 1 "),
        ("hello\nworld\n", "none of its 2 lines is a record; line 1 "),
    ],
)
def test_a_file_of_another_kind_is_called_by_it(text: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(text)
    with pytest.raises(BenchError) as error:
        store.read(tmp_path / "r.jsonl")
    assert kind in str(error.value)
