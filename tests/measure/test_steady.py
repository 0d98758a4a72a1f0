"""The steady state's rule, criterion by criterion."""

from __future__ import annotations

import pytest

from visionbench.measuring.timing import WINDOW, drift, unsteady

FLAT = [1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0]


def test_two_equal_windows_are_steady() -> None:
    assert unsteady(FLAT * 2, "cpu") is None
    assert unsteady([9.0, *FLAT, *FLAT], "cpu") is None  # only the last two windows count


@pytest.mark.parametrize("blocks", [[], FLAT, (FLAT * 2)[1:]])
def test_less_than_two_windows_are_not(blocks: list[float]) -> None:
    assert unsteady(blocks, "cpu") == "fewer than two windows of blocks"


def test_a_median_that_moves() -> None:
    faster = [0.97 * block for block in FLAT]
    assert unsteady(FLAT + faster, "cpu") == "the median moves"
    assert unsteady(FLAT + [0.985 * block for block in FLAT], "cpu") is None  # within 2 %
    assert unsteady(FLAT + [0.985 * block for block in FLAT], "cuda") == "the median moves"  # but not within 1 %


def test_quartiles_that_move() -> None:
    wide = [0.9, 1.1, 0.9, 1.1, 1.0, 1.0, 0.9, 1.1, 0.9, 1.1]
    assert unsteady(FLAT + wide, "cpu") == "the quartiles move"


def test_a_window_that_begins_slowly() -> None:
    assert unsteady([*FLAT, 1.5, *FLAT[1:]], "cpu") == "the window begins slowly"


def test_a_window_that_drifts() -> None:
    falling = [1.018 - 0.004 * i for i in range(WINDOW)]
    assert unsteady(FLAT + falling, "cpu") == "the blocks drift"


def test_drift_is_the_theil_sen_slope_over_the_window() -> None:
    assert drift([1.0, 1.1, 1.2, 1.3, 1.4]) == pytest.approx(0.4 / 1.2)
    assert drift([1.0, 1.0, 9.0, 1.0, 1.0]) == 0  # one burst does not move it
