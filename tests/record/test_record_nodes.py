"""Over nodes: what an interval holds when equal cards differ by more than launches of one card do."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import median

import pytest

from visionbench.record.record import Environment, Measurement, Record
from visionbench.record.spec import SMOKE, Spec
from visionbench.record.statistics import estimate, images_per_second, over_nodes, ratio_over_nodes, throughput

TRUE_RATE = 1000.0
BETWEEN_CARDS, WITHIN_A_CARD = 0.025, 0.005
"""Standard deviations of a rate's logarithm: equal cards (Sinha et al., SC 2022), launches of one card."""


def launched(node: str | None, rate: float, uuid: str | None = None, model: str = "timm:resnet18") -> Record:
    blocks = Measurement(metric="throughput", unit="s", better="lower", assume="nothing", values=(1 / rate,))
    return Record(
        spec=Spec(model=model),
        protocol=SMOKE,
        environment=Environment(device_type="cuda", device_key="a100-sxm4-40gb", node=node, gpu_uuid=uuid),
        measurements=(blocks,),
        source="measured",
    )


def campaign(nodes: int, launches: int, chance: random.Random) -> list[tuple[str | None, float]]:
    values: list[tuple[str | None, float]] = []
    for node in range(nodes):
        card = TRUE_RATE * math.exp(chance.gauss(0, BETWEEN_CARDS))
        values += [(f"n{node}", card * math.exp(chance.gauss(0, WITHIN_A_CARD))) for _ in range(launches)]
    return values


@pytest.mark.parametrize(("nodes", "launches"), [(7, 1), (7, 3), (10, 1), (10, 2), (16, 4)])
def test_the_interval_holds_the_card_types_value(nodes, launches):
    chance, times = random.Random(19), 3000
    made = [over_nodes(campaign(nodes, launches, chance)) for _ in range(times)]
    held = sum((each.low or 0) <= TRUE_RATE <= (each.high or 0) for each in made)
    assert 0.93 <= held / times <= 0.97
    assert {each.nodes for each in made} == {nodes}


@pytest.mark.parametrize(("nodes", "launches"), [(2, 5), (4, 3), (7, 3)])
def test_an_interval_over_all_launches_would_not_hold_it(nodes, launches):
    chance, times = random.Random(19), 1000
    held = 0
    for _ in range(times):
        every = estimate([value for _, value in campaign(nodes, launches, chance)])
        held += (every.low or 0) <= TRUE_RATE <= (every.high or 0)
    assert held / times < 0.85


def test_a_nodes_value_is_the_median_of_its_launches():
    chance = random.Random(1)
    values = campaign(8, 3, chance)
    medians = [median(value for node, value in values if node == f"n{k}") for k in range(8)]
    expected = replace(estimate(medians), launches=24, nodes=8)
    assert over_nodes(values) == expected


def test_fewer_than_seven_nodes_have_a_centre_and_a_range():
    made = over_nodes([("a", 90.0), ("a", 110.0), ("a", 100.0), ("b", 120.0), ("c", 110.0)])
    assert (made.low, made.high, made.least, made.most) == (None, None, 100.0, 120.0)
    assert (made.nodes, made.launches) == (3, 5)
    assert made.centre == pytest.approx(110, rel=0.01)


def test_many_launches_on_few_nodes_get_no_interval():
    made = over_nodes([(f"n{k % 2}", 100.0 + k) for k in range(40)])
    assert made.low is None
    assert made.nodes == 2


def test_launches_of_one_node_are_about_that_card_and_those_of_none_about_this_machine():
    rates = [100.0 + k for k in range(9)]
    assert over_nodes([(None, rate) for rate in rates]) == estimate(rates)
    assert over_nodes([("a", rate) for rate in rates]) == replace(estimate(rates), nodes=1)


def test_records_are_taken_over_nodes():
    records = [launched(f"n{k}", 100.0 + k) for k in range(7)]
    found = throughput(records)
    assert found is not None
    assert (found.nodes, found.launches) == (7, 7)
    assert found.low is not None


def test_a_ratio_of_rows_is_taken_per_card_where_what_sets_the_card_apart_cancels():
    chance = random.Random(3)
    cards = [(f"n{k}", math.exp(chance.gauss(0, 0.2))) for k in range(8)]
    above = [launched(node, 100 * speed) for node, speed in cards]
    below = [launched(node, 80 * speed, model="timm:resnet50") for node, speed in cards]
    found = ratio_over_nodes(above, below, images_per_second)
    assert found is not None
    assert found.centre == pytest.approx(1.25)
    assert found.low == pytest.approx(1.25)
    assert found.high == pytest.approx(1.25)


def test_two_cards_of_one_node_are_compared_each_with_itself():
    above = [launched("a", 100, "x"), launched("a", 200, "y"), launched("b", 50, "z")]
    below = [launched("a", 50, "x"), launched("a", 100, "y"), launched("b", 25, "z")]
    found = ratio_over_nodes(above, below, images_per_second)
    assert found is not None
    assert (found.least, found.most, found.nodes) == (pytest.approx(2), pytest.approx(2), 2)


@pytest.mark.parametrize("nodes", [(None, None), ("a", "a"), ("a", "b")])
def test_no_ratio_over_nodes_where_fewer_than_two_have_both_rows(nodes):
    above, below = [launched(nodes[0], 100.0)], [launched(nodes[1], 50.0)]
    assert ratio_over_nodes(above, below, images_per_second) is None
