"""Ladders cost exactly what they say: by every operator of their traces, block by block."""

from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest
import torch

from visionbench import models
from visionbench.models import ModelError, build, expand, names, resolve
from visionbench.models.ladder import IMAGE_SIZE, KINDS, MOST_BLOCKS, parse
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run

STEM_SHARE = 0.015
"""Of the bytes that all operators move: what the stem, which computes nothing, may add to those of 20 blocks."""


@cache
def traced(kind: str, depth: int) -> Trace:
    return run(Spec(model=f"ladder:{kind}_{depth}", image_size=IMAGE_SIZE))


def counted(trace: Trace) -> Counter[object]:
    """Every operator with what it was called with, wherever it stands."""
    return Counter((op.name, op.operands, op.macs, op.bytes) for op in trace.operators)


def test_there_are_twelve_kinds():
    assert len(KINDS) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_one_more_of_twenty_is_exactly_one_block_more(kind):
    block = counted(traced(kind, 2)) - counted(traced(kind, 1))
    assert counted(traced(kind, 21)) - counted(traced(kind, 20)) == block
    assert counted(traced(kind, 20)) - counted(traced(kind, 1)) == Counter({op: 19 * n for op, n in block.items()})
    assert sum(block.values()) > 1
    assert traced(kind, 21).params * 20 == traced(kind, 20).params * 21
    assert traced(kind, 21).macs_per_image * 20 == traced(kind, 20).macs_per_image * 21


@pytest.mark.parametrize("kind", KINDS)
def test_beside_its_blocks_a_ladder_has_next_to_nothing(kind):
    one, two, twenty = (traced(kind, depth) for depth in (1, 2, 20))
    assert 0 <= twenty.bytes - 20 * (two.bytes - one.bytes) < STEM_SHARE * twenty.bytes
    assert 0 <= len(twenty.operators) - 20 * (len(two.operators) - len(one.operators)) <= 1


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small operators on many threads mostly wait for each other."""
    found = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(found)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", KINDS)
def test_sixty_blocks_keep_their_values_in_range(kind):
    torch.manual_seed(0)
    network = build(f"ladder:{kind}_60", IMAGE_SIZE).eval()
    with torch.inference_mode():
        last = network(torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE))
    assert last.isfinite().all()
    assert 1e-3 < last.std() < 1e3  # neither numbers so small that a CPU is slow, nor such that fp16 cannot hold


def test_a_ladder_resolves_and_is_no_benchmarks_subject():
    card = resolve("ladder:window_attention_20")
    assert (card.name, card.family, card.image_size) == ("ladder:window_attention_20", "ladder", IMAGE_SIZE)
    assert not any(name.startswith("ladder:") for name in names())
    assert expand("ladder:conv3x3_21") == ("ladder:conv3x3_21",)
    with pytest.raises(ModelError, match="no model matches"):
        expand("ladder:*")
    models.load("ladder:conv3x3_20")


@pytest.mark.parametrize("bare", ["", "mlp", "mlp_", "_20", "conv_20", "mlp_0", "mlp_020", "mlp_-1", "mlp_²"])
def test_what_names_no_ladder_is_told_what_does(bare):
    with pytest.raises(ModelError, match=r"ladder:KIND_DEPTH, as in ladder:conv3x3_20.*window_attention"):
        resolve(f"ladder:{bare}")


def test_a_depth_has_an_end():
    assert parse(f"mlp_{MOST_BLOCKS}") == ("mlp", MOST_BLOCKS)
    assert parse(f"mlp_{MOST_BLOCKS + 1}") is None


def test_a_size_that_windows_do_not_divide_is_refused():
    build("ladder:attention_1", 2 * IMAGE_SIZE)
    with pytest.raises(ModelError, match="ladder:attention_1 refuses image size 224"):
        build("ladder:attention_1", 224)
