"""The registry of metrics: every measurement takes its unit, direction and assumption from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from visionbench.record.metrics import METRICS, measurement, metric
from visionbench.record.record import from_json

FOLDER = Path(__file__).parents[2] / "reports" / "records"


def test_names_are_unique_and_each_has_a_meaning_that_is_a_clause() -> None:
    assert all(name == entry.name for name, entry in METRICS.items())
    assert len({entry.meaning for entry in METRICS.values()}) == len(METRICS)
    for entry in METRICS.values():
        assert entry.meaning
        assert not entry.meaning.endswith(".")


@pytest.mark.parametrize("name", ["computed.jsonl", "computed_dense.jsonl", "cpu_2_threads.jsonl", "predicted.jsonl"])
def test_the_registry_says_what_committed_records_say(name: str) -> None:
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        for recorded in from_json(line).measurements:
            known = metric(recorded.metric)
            assert (recorded.unit, recorded.better, recorded.assume) == (known.unit, known.better, known.assume), (
                json.dumps(recorded.metric)
            )


def test_a_member_of_a_family_is_found_by_its_first_word() -> None:
    assert metric("macs.conv") is METRICS["macs"]
    assert metric("live_memory.backward") is METRICS["live_memory"]
    with pytest.raises(KeyError):
        metric("humidity")


def test_a_measurement_is_filled_from_the_registry() -> None:
    taken = measurement("step_time", (2.0,), interval=(1.0, 4.0, 0.8))
    assert (taken.unit, taken.better, taken.assume) == ("s", "lower", "nothing")
    assert (taken.low, taken.high, taken.level) == (1.0, 4.0, 0.8)
    blocks = measurement("throughput", iter((1.0, 2.0)), iterations=3, warmups=4, flags=("mig",), warnings=("a",))
    assert (blocks.values, blocks.iterations, blocks.warmups) == ((1.0, 2.0), 3, 4)
    assert (blocks.flags, blocks.warnings, blocks.level) == (("mig",), ("a",), None)
