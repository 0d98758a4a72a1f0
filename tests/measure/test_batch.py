"""The search for the largest batch, on a card whose memory is a number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from visionbench.measuring.largest_batch import CEILING, FIT, METRIC, known, largest_batch
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import Spec

SPEC = Spec(model="timm:a", batch_size=64)
HERE = Environment(device_type="cuda", device_name="Card", torch="2.11.0")


@dataclass
class Card:
    """Fits so many images; `broken` ones end in a crash."""

    images: int
    broken: frozenset[int] = frozenset()
    tried: list[int] = field(default_factory=list)

    def try_(self, spec: Spec) -> Record:
        self.tried.append(spec.batch_size)
        failure = None
        if spec.batch_size > self.images:
            failure = Failure(kind="out_of_memory", stage="warm-up", message="CUDA out of memory")
        if spec.batch_size in self.broken:
            failure = Failure(kind="crashed", stage="warm-up", message="died of SIGSEGV")
        return Record(spec=spec, protocol=FIT, environment=HERE, failure=failure, source="measured")


@pytest.mark.parametrize("images", [1, 2, 3, 5, 31, 64, 100, 1000, 4097])
def test_it_is_found_to_within_its_precision(images: int) -> None:
    card = Card(images)
    record = largest_batch(SPEC, card.try_)
    found = record.value(METRIC)
    assert found is not None
    assert images - max(1, images // 64) < found <= images
    assert record.spec == replace(SPEC, batch_size=int(found))
    assert len(card.tried) <= 2 * 13 + 2


def test_a_small_card_is_known_exactly() -> None:
    assert largest_batch(SPEC, Card(37).try_).value(METRIC) == 37


def test_nothing_fits() -> None:
    record = largest_batch(SPEC, Card(0).try_)
    assert record.failure is not None
    assert record.failure.kind == "out_of_memory"
    assert record.value(METRIC) is None


@pytest.mark.parametrize("broken", [1, 8, 24])
def test_another_failure_is_the_answer(broken: int) -> None:
    record = largest_batch(SPEC, Card(20 if broken != 8 else 100, frozenset({broken, 17, 18, 24})).try_)
    assert record.failure is not None
    assert record.failure.kind in ("crashed", "out_of_memory")


def test_the_search_has_a_ceiling() -> None:
    assert largest_batch(SPEC, Card(10**9).try_).value(METRIC) == CEILING


def test_what_is_known_is_not_searched_again() -> None:
    record = largest_batch(SPEC, Card(37).try_)
    other = replace(record, environment=replace(HERE, torch="2.6.0"))
    assert known(SPEC, [other, record], HERE.device, "2.11.0") == record
    assert known(replace(SPEC, image_size=384), [record], HERE.device, "2.11.0") is None
    assert known(SPEC, [other], HERE.device, "2.11.0") is None
