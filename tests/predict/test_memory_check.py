"""Predicted training memory beside what GPUs measured: the rows, what is counted for each, how near they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perf.prediction.memory_check import (
    ENOUGH,
    MemoryCheck,
    PrintedMemory,
    check_memory,
    interval,
    predicted,
    printed_memory,
)
from visionbench.predicting.memory import ALLOCATED, bounds, of_allocated, workspaces
from visionbench.record.spec import Spec
from visionbench.tracing import Trace, run

NEAR = 0.05
ROWS = printed_memory()
PEAKS = tuple(row for row in ROWS if row.fit and row.counter == "allocated")
SMALL = Spec(model="timm:vit_tiny_patch16_224", task="train", batch_size=4, precision="amp_fp16", attention="math")


@pytest.fixture(scope="module")
def peaks() -> tuple[MemoryCheck, ...]:
    return check_memory(rows=PEAKS)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return run(SMALL)


def printed_row(**changes: object) -> PrintedMemory:
    row = PrintedMemory(
        spec=SMALL,
        torch="1.12",
        as_before_torch_1_11=False,
        states=2,
        kept_gradients=False,
        copies=0,
        counter="allocated",
        printed=1e9,
        fit=True,
        source="nowhere",
        note="",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


# --- the rows ---


def test_every_row_says_where_it_was_read_and_what_was_taken_for_granted():
    assert len(ROWS) >= 30
    assert all(row.source and row.note and row.torch and row.printed > 1e8 for row in ROWS)
    assert all(row.spec.task == "train" for row in ROWS)
    steps = {(row.spec, row.as_before_torch_1_11, row.counter, row.printed, row.source) for row in ROWS}
    assert len(steps) == len(ROWS)


def test_there_are_enough_rows_of_known_configuration():
    assert len(PEAKS) >= ENOUGH
    assert len({row.spec.model for row in PEAKS}) >= 10


def test_a_guessed_configuration_is_kept_apart():
    guessed = [row for row in ROWS if not row.fit]
    assert guessed
    assert not any(row in PEAKS for row in guessed)
    assert all("inferred" in row.note for row in guessed)


def test_attention_of_an_old_torch_has_steps():
    assert all(row.spec.attention == "math" for row in ROWS if row.torch[0] == "1")


# --- how near ---


@pytest.mark.slow
def test_every_known_peak_is_within_five_percent(peaks):
    off = {(check.model, check.batch_size): check.ratio for check in peaks if abs(check.ratio - 1) > NEAR}
    assert not off
    assert len({check.model for check in peaks}) >= 10


@pytest.mark.slow
def test_no_known_peak_is_below_what_is_predicted_but_for_a_workspace(peaks):
    assert min(check.ratio for check in peaks) > 0.998
    assert all(check.printed > check.predicted - workspaces((8, 0)) for check in peaks)


@pytest.mark.slow
def test_the_interval_in_use_is_the_rows_interval_rounded_outwards(peaks):
    low, high = interval(peaks)
    assert 0 <= low - ALLOCATED[0] < 0.002
    assert 0 <= ALLOCATED[1] - high < 0.002
    assert sum(check.inside for check in peaks) >= 0.8 * len(peaks)


@pytest.mark.slow
def test_few_rows_make_no_interval(peaks):
    assert interval(peaks[: ENOUGH - 1]) is None
    assert interval([replace(check, fit=False) for check in peaks]) is None
    assert interval([replace(check, counter="reserved") for check in peaks]) is None


def test_a_wrong_configuration_shows():
    row = next(row for row in PEAKS if row.spec.model == "timm:deit_tiny_patch16_224")
    (newer,) = check_memory(rows=[replace(row, as_before_torch_1_11=False)])
    (fused,) = check_memory(rows=[replace(row, as_before_torch_1_11=False, spec=replace(row.spec, attention="fused"))])
    assert newer.ratio > 1.2
    assert fused.ratio > 1.5
    assert not newer.inside
    assert not fused.inside


# --- what is counted ---


def test_what_is_not_in_memory_is_not_counted(trace):
    peak = trace.curve.peak
    assert predicted(printed_row(), trace) == peak
    assert predicted(printed_row(copies=2), trace) == peak + 2 * trace.param_bytes
    assert predicted(printed_row(kept_gradients=True), trace) == trace.curve.peak_kept_gradients
    kept = printed_row(kept_gradients=True, states=0)
    assert predicted(kept, trace) == trace.curve.peak_kept_gradients - trace.curve.split["optimizer"]
    assert peak - predicted(printed_row(states=0), trace) >= trace.curve.split["optimizer"]


def test_cublas_takes_its_workspaces_out_of_torch_s_memory_from_2_0_on(trace):
    mib = 2**20
    assert workspaces((8, 0)) == workspaces((7, 0)) == 2 * 8.125 * mib
    assert workspaces((9, 0)) == 2 * 32 * mib
    assert predicted(printed_row(torch="2.0"), trace) == trace.curve.peak + workspaces((8, 0))
    forward = printed_row(counter="forward")
    assert predicted(replace(forward, torch="2.1 (nightly)"), trace) == predicted(forward, trace) + 8.125 * mib


def test_after_the_forward_pass_less_is_live_than_at_the_peak(trace):
    after = predicted(printed_row(counter="forward", states=0), trace)
    assert trace.param_bytes < after < predicted(printed_row(states=0), trace)


def test_the_other_counters_see_more(trace):
    live = of_allocated(predicted(printed_row(), trace))
    assert predicted(printed_row(counter="reserved"), trace) == live.reserved > live.allocated
    assert predicted(printed_row(counter="process"), trace) == live.process > live.reserved


def test_a_check_carries_its_interval():
    (check,) = check_memory(rows=[printed_row(counter="reserved")])
    low, high = bounds("reserved")
    assert (check.low, check.high) == (check.predicted * low, check.predicted * high)
    assert check.ratio == 1e9 / check.predicted
    assert not check.inside


def test_equal_steps_are_reported_one_by_one():
    reports: list[tuple[int, int]] = []
    check_memory(lambda done, total, _: reports.append((done, total)), [printed_row(), printed_row(counter="reserved")])
    assert reports == [(0, 2), (1, 2)]


# --- what attention in steps keeps ---


def grown(spec: Spec, *, old: bool = False) -> int:
    """Bytes kept from the forward pass for each further image."""
    row = printed_row(counter="forward")
    first, second = (predicted(row, run(replace(spec, batch_size=batch), former=old)) for batch in (4, 8))
    return int(second - first) // 4


def test_attention_in_steps_keeps_its_weights_in_fp32_and_a_copy_in_halves():
    blocks, heads, tokens, width = 12, 3, 197, 192
    more = grown(SMALL) - grown(replace(SMALL, attention="fused"))
    weights = blocks * heads * tokens * tokens
    # The scaled query is kept too, and the fused kernel's result and log-sum-exp are not.
    assert abs(more - weights * (4 + 2)) <= blocks * tokens * (width * 2 * 2 + heads * 4)


def test_an_old_torch_keeps_the_softmax_input_and_gelu_in_fp32():
    blocks, heads, tokens, width = 12, 3, 197, 192
    more = grown(SMALL, old=True) - grown(SMALL)
    scores = blocks * heads * tokens * tokens * 2
    # GELU's input in 4 bytes where it was in 2; what it gives is copied to halves for the next product.
    hidden = blocks * tokens * 4 * width * 2
    assert more == pytest.approx(scores + hidden, rel=1e-3)  # The allocator rounds to 512 bytes.


def test_what_is_kept_changes_no_count():
    new, old = run(SMALL), run(SMALL, former=True)
    assert (new.params, new.macs_per_image) == (old.params, old.macs_per_image)
