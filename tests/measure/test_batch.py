"""The search for the largest batch, on a card whose memory is a number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from visionbench.measuring.largest_batch import CEILING, FIT, METRIC, known, largest_batch
from visionbench.measuring.metrics.peak_memory import ALLOCATED
from visionbench.record.metrics import measurement
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


@dataclass
class CardWithCounters(Card):
    """Its memory is known, and a step says how much it took: `fixed` bytes, and some more an image."""

    memory: float = 80e9
    fixed: float = 1e9
    curve: float = 1.0

    def try_(self, spec: Spec) -> Record:
        record = super().try_(spec)
        an_image = (self.memory - self.fixed) / max(1, self.images) ** self.curve
        taken = measurement(ALLOCATED, (self.fixed + an_image * spec.batch_size**self.curve,))
        here = replace(record.environment, device_memory=int(self.memory))
        return replace(record, environment=here, measurements=() if record.failure else (taken,))


@pytest.mark.parametrize("curve", [1.0, 0.97, 1.03, 0.8])
@pytest.mark.parametrize("fixed", [0.0, 1e9, 60e9])
@pytest.mark.parametrize("images", [1, 2, 5, 64, 1297, 20000])
def test_where_memory_is_known_it_is_found_in_fewer_tries(images: int, fixed: float, curve: float) -> None:
    card, doubling = CardWithCounters(images, fixed=fixed, curve=curve), Card(images)
    size = largest_batch(SPEC, card.try_).value(METRIC)
    largest_batch(SPEC, doubling.try_)
    assert size is not None
    assert images - max(1, images // 64) < size <= images
    assert len(card.tried) == len(set(card.tried))
    most = len(doubling.tried) if fixed > 1e9 or images < 64 else 0.66 * len(doubling.tried)
    assert len(card.tried) <= most


def test_a_resnet_50_on_an_h100_takes_eight_tries_instead_of_eighteen() -> None:
    """On the card doubling needed eleven sizes up to 2,048 and would have needed six more (2026-11-27)."""
    card = CardWithCounters(1297, memory=85e9, fixed=0.6e9)
    doubling = Card(1297)
    largest_batch(SPEC, card.try_)
    largest_batch(SPEC, doubling.try_)
    assert (len(card.tried), len(doubling.tried)) == (8, 18)


def test_counters_that_stand_still_are_not_believed() -> None:
    card = CardWithCounters(500, fixed=80e9)
    assert largest_batch(SPEC, card.try_).value(METRIC) in range(493, 501)


def test_a_small_card_is_known_exactly() -> None:
    assert largest_batch(SPEC, Card(37).try_).value(METRIC) == 37


def test_nothing_fits() -> None:
    record = largest_batch(SPEC, Card(0).try_)
    assert record.failure is not None
    assert record.failure.kind == "out_of_memory"
    assert record.value(METRIC) is None


def test_a_network_that_cannot_run_at_all_is_the_answer() -> None:
    card = Card(20, frozenset({1, 2}))
    record = largest_batch(SPEC, card.try_)
    assert record.failure is not None
    assert (record.failure.kind, record.spec.batch_size, card.tried) == ("crashed", 1, [1, 2])


@pytest.mark.parametrize("images", [2, 3, 37, 700])
def test_a_network_that_needs_two_images_has_a_largest_batch(images: int) -> None:
    found = largest_batch(SPEC, Card(images, frozenset({1})).try_).value(METRIC)
    assert found is not None
    assert images - images // 64 <= found <= images


@pytest.mark.parametrize(
    ("images", "broken", "found"), [(100, 8, 7), (10**9, 1024, 1023), (20, 18, 17), (700, 512, 511)]
)
def test_what_ran_is_kept_when_something_else_than_memory_stops_the_next(images: int, broken: int, found: int) -> None:
    record = largest_batch(SPEC, Card(images, frozenset(range(broken, 10**4))).try_)
    size = record.get(METRIC)
    assert record.failure is None
    assert size is not None
    assert found - found // 64 <= size.values[0] <= found
    assert "something else than memory: died of SIGSEGV" in size.warnings[0]


def test_memory_leaves_no_warning() -> None:
    size = largest_batch(SPEC, Card(700).try_).get(METRIC)
    assert size is not None
    assert size.warnings == ()


def test_the_search_has_a_ceiling() -> None:
    assert largest_batch(SPEC, Card(10**9).try_).value(METRIC) == CEILING


def test_what_is_known_is_not_searched_again() -> None:
    record = largest_batch(SPEC, Card(37).try_)
    other = replace(record, environment=replace(HERE, torch="2.6.0"))
    assert known(SPEC, [other, record], HERE.device, "2.11.0") == record
    assert known(replace(SPEC, image_size=384), [record], HERE.device, "2.11.0") is None
    assert known(SPEC, [other], HERE.device, "2.11.0") is None


@pytest.mark.parametrize(("seconds", "size"), [(1.0, 1), (7.0, 4), (70.0, 32)])
def test_a_search_that_would_last_too_long_ends_with_what_fitted(
    seconds: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, heard, card = [0.0], [], Card(10**9)
    monkeypatch.setattr("visionbench.measuring.largest_batch.time.monotonic", lambda: now[0])

    def slow(spec: Spec) -> Record:
        now[0] += spec.batch_size  # a second an image
        return card.try_(spec)

    record = largest_batch(SPEC, slow, seconds, heard.append).get(METRIC)
    assert record is not None
    assert record.values == (float(size),)
    assert record.warnings == (f"the search ended after {2 * size - 1} s: a batch of {2 * size} may fit as well",)
    assert now[0] <= seconds
    assert heard == [f"a batch of {2**n} fits ({2**n}.0 s)" for n in range(1, size.bit_length())]
