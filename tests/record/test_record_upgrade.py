"""Lines of schema 1 are lifted: every committed one reads, and its key is that of a fresh record of the same spec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visionbench.record.prediction import prediction
from visionbench.record.record import SCHEMA, UPGRADES, Record, from_json, to_json
from visionbench.record.spec import Protocol, Spec

FOLDER = Path(__file__).parents[2] / "reports" / "records"
LINES = [
    line
    for path in (FOLDER / "computed.jsonl", Path(__file__).with_name("schema_1.jsonl"))
    for line in path.read_text(encoding="utf-8").splitlines()
]

OF_SCHEMA_1 = {
    "spec": {
        "model": "timm:resnet18", "task": "train", "batch_size": 32, "image_size": 224, "precision": "fp32",
        "memory_format": "contiguous", "compile_mode": None, "attention": "fused",
    },
    "protocol": None,
    "environment": {"device_type": "cuda", "device_key": "l4", "torch": "2.9"},
    "measurements": [
        {
            "metric": metric + end, "unit": "s", "better": "lower", "assume": "nothing", "values": [value],
            "iterations": 1, "warmups": 0, "warnings": [] if end else ["why"],
            "flags": ["tier:anchored", "calibration:a:b", "resolution:0.177"],
        }
        for metric in ("step_time", "process_memory")
        for end, value in (("", 2.0), (".low80", 1.0), (".high80", 4.0))
    ],
    "failure": None,
    "source": "predicted",
    "schema": 1,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: json.loads(line)["spec"]["model"])
def test_a_committed_line_of_schema_1_is_lifted_and_keeps_its_key(line: str) -> None:
    old, record = json.loads(line), from_json(line)
    assert (old["schema"], record.schema) == (1, SCHEMA)
    raw = [(m["metric"], m["unit"], tuple(m["values"]), m["iterations"]) for m in old["measurements"]]
    assert raw == [(m.metric, m.unit, m.values, m.iterations) for m in record.measurements]
    assert [tuple(m["flags"]) for m in old["measurements"]] == [m.flags for m in record.measurements]
    protocol = old["protocol"] and {name: value for name, value in old["protocol"].items() if name != "clock"}
    fresh = Record(
        spec=Spec(**old["spec"]),
        protocol=protocol and Protocol(**protocol | {"metrics": tuple(protocol["metrics"])}),
        environment=record.environment,
        source=old["source"],
    )
    assert record.key == fresh.key
    assert hash(record.key) == hash(fresh.key)
    assert from_json(to_json(record)) == record


def test_a_predictions_interval_and_basis_become_fields() -> None:
    record = from_json(json.dumps(OF_SCHEMA_1))
    step_time, memory = record.measurements
    assert (step_time.values, step_time.low, step_time.high, step_time.level) == ((2.0,), 1.0, 4.0, 0.8)
    assert (memory.values, memory.low, memory.high, memory.level) == ((2.0,), 1.0, 4.0, 0.8)
    assert step_time.flags == memory.flags == step_time.warnings == ()
    assert memory.warnings == ("why",), "memory has a reason of its own"
    found = prediction(record)
    assert found is not None
    assert (found.tier, found.calibration, found.reason, found.resolution) == ("anchored", "a:b", "why", 0.177)
    assert (found.low, found.centre, found.high) == (8.0, 16.0, 32.0)


def test_a_refused_prediction_has_no_basis() -> None:
    failure = {"kind": "unsupported", "stage": "predict", "message": "no"}
    record = from_json(json.dumps(OF_SCHEMA_1 | {"measurements": [], "failure": failure}))
    assert record.basis is None
    assert prediction(record) is None


@pytest.mark.parametrize("lost", ["tier", "calibration", "resolution"])
def test_a_prediction_that_lacks_a_fact_is_no_record(lost: str) -> None:
    line = json.dumps(OF_SCHEMA_1).replace(f"{lost}:", f"not_{lost}:")
    with pytest.raises(ValueError, match="record of schema 1 is wrong"):
        from_json(line)


def test_a_protocol_had_the_walls_clock_and_no_other() -> None:
    line = next(line for line in LINES if '"clock"' in line)
    with pytest.raises(ValueError, match="unknown field in a record: clock"):
        from_json(line.replace('"clock": "wall"', '"clock": "events"').replace('"clock":"wall"', '"clock":"events"'))


def test_shipped_predictions_are_of_this_schema() -> None:
    lines = (FOLDER / "predicted.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["schema"] for line in lines} == {SCHEMA}
    assert all(from_json(line).basis for line in lines)
    assert set(UPGRADES) == set(range(1, SCHEMA))
