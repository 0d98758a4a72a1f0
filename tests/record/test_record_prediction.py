"""Predicted records read back, and the places that predictions can and cannot tell apart."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from visionbench.record.metrics import measurement
from visionbench.record.prediction import Prediction, distinguishable, prediction, ranks
from visionbench.record.record import Basis, Environment, Record, Source
from visionbench.record.spec import Spec

ONE = Prediction(low=90.0, centre=100.0, high=110.0, tier="anchored", calibration="x", reason="", resolution=0.1)


def of(*rates: float | None) -> list[Prediction | None]:
    return [None if rate is None else replace(ONE, centre=rate) for rate in rates]


BASIS = Basis(tier="data sheet", calibration="a+b", reason="why", resolution=0.2)


def record(source: Source = "predicted", basis: Basis | None = BASIS, **interval: float) -> Record:
    ends = (interval["low"], interval["high"], 0.8) if "low" in interval else None
    return Record(
        spec=Spec(model="timm:resnet18", batch_size=32),
        protocol=None,
        environment=Environment(device_type="cuda", device_key="v100-sxm2-16gb"),
        measurements=(measurement("step_time", (0.1,), interval=ends),),
        basis=basis,
        source=source,
    )


def test_a_predicted_record_is_read_back_as_images_per_second() -> None:
    found = prediction(record(low=0.08, high=0.16))
    assert found is not None
    assert (found.low, found.centre, found.high) == pytest.approx((200.0, 320.0, 400.0))
    assert (found.tier, found.calibration, found.reason, found.resolution) == ("data sheet", "a+b", "why", 0.2)


def test_nothing_else_is_a_prediction() -> None:
    assert prediction(record("measured", low=0.08, high=0.16)) is None
    assert prediction(record()) is None
    assert prediction(record(basis=None, low=0.08, high=0.16)) is None
    assert prediction(replace(record(low=0.08, high=0.16), measurements=())) is None


def test_only_what_is_told_apart_is_ordered() -> None:
    assert ranks(of(100.0, 104.0, 200.0)) == [(2, 3), (2, 3), (1, 1)]
    assert ranks(of(100.0, 108.0, 117.0)) == [(2, 3), (1, 3), (1, 2)]  # near its neighbours, the ends apart


def test_a_refusal_has_no_place_and_takes_none() -> None:
    assert ranks(of(100.0, None, 200.0)) == [(2, 2), None, (1, 1)]
    assert ranks(of(100.0, None)) == [None, None]


def test_the_wider_resolution_of_two_counts() -> None:
    coarse = replace(ONE, centre=130.0, resolution=0.5)
    assert ranks([ONE, coarse]) == [(1, 2), (1, 2)]
    assert ranks([ONE, replace(coarse, resolution=0.1)]) == [(2, 2), (1, 1)]


def test_the_resolution_is_of_the_logarithm() -> None:
    assert distinguishable(math.exp(0.11), 1.0, 0.1)
    assert not distinguishable(math.exp(-0.09), 1.0, 0.1)
