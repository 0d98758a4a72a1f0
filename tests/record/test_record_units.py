"""Numbers for people, at the edges where rounding changes the number of digits or the prefix."""

from __future__ import annotations

import re

import pytest

from visionbench.record.units import count, duration, significant, size


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 3, "0"),
        (0.0, 4, "0"),
        (1, 3, "1.00"),
        (4.4559, 3, "4.46"),
        (4.4559, 2, "4.5"),
        (28.589128, 4, "28.59"),
        (123.456, 4, "123.5"),
        (123.456, 3, "123"),
        (123.456, 2, "123"),  # never fewer than its integer digits
        (774.7, 4, "774.7"),
        (1234.5678, 5, "1,234.6"),
        (1234567, 3, "1,234,567"),
        (0.5, 3, "0.500"),
        (0.012345, 3, "0.0123"),
        (0.1, 1, "0.1"),
        # rounding to whole numbers adds a digit, rounding to `digits` does not
        (9.6, 3, "9.60"),
        (9.6, 4, "9.600"),
        (9.994, 3, "9.99"),
        (9.996, 4, "9.996"),
        (99.7, 3, "99.7"),
        (99.94, 3, "99.9"),
        (999.7, 4, "999.7"),
        (0.9, 3, "0.900"),
        (0.9994, 3, "0.999"),
        # and here it does
        (9.996, 3, "10.0"),
        (99.96, 3, "100"),
        (999.96, 4, "1,000"),
        (0.9996, 3, "1.00"),
        (0.99996, 4, "1.000"),
        (0.09996, 3, "0.100"),
        (-9.6, 3, "-9.60"),
        (-28.589128, 4, "-28.59"),
    ],
)
def test_significant(value, digits, text):
    assert significant(value, digits) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1.000 k"),
        (28_589_128, "28.59 M"),
        (4_455_900_000, "4.456 G"),
        (9_800_000, "9.800 M"),
        (99_950_000, "99.95 M"),
        (1e6, "1.000 M"),
        (1e9, "1.000 G"),
        (1e12, "1.000 T"),
        (312e12, "312.0 T"),
        (999.94e6, "999.9 M"),
        (999.96e6, "1.000 G"),
        (999_999, "1.000 M"),
        (999.96e9, "1.000 T"),
        (-28_589_128, "-28.59 M"),
    ],
)
def test_count(value, text):
    assert count(value) == text


def test_count_with_fewer_digits():
    assert count(28_589_128, digits=2) == "29 M"
    assert count(995_000_000, digits=3) == "995 M"
    assert count(999_600_000, digits=3) == "1.00 G"


@pytest.mark.parametrize("digits", [3, 4])
@pytest.mark.parametrize("scale", [1e3, 1e6, 1e9, 1e12])
def test_count_never_prints_a_thousand_of_a_smaller_prefix(scale, digits):
    for share in (0.999, 0.9994, 0.99949, 0.9995, 0.99951, 0.9999, 0.99994, 0.99996, 1, 1.0001):
        text = count(round(scale * share), digits)
        assert float(text.split()[0].replace(",", "")) < 1000, text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (2**20, "1.00 MiB"),
        (3_221_225_472, "3.00 GiB"),
        (85_899_345_920, "80.0 GiB"),
        (round(9.6 * 2**30), "9.60 GiB"),
        (round(99.7 * 2**20), "99.7 MiB"),
        (1010 * 2**20, "1,010 MiB"),
        (2**30 - 1, "1.00 GiB"),
        (2**20 - 1, "1.00 MiB"),
        (2**40 - 1, "1.00 TiB"),
    ],
)
def test_size(value, text):
    assert size(value) == text


@pytest.mark.parametrize("scale", [2**20, 2**30, 2**40])
def test_size_never_prints_1024_of_a_smaller_prefix(scale):
    for share in (1023 / 1024, 1023.4 / 1024, 1023.6 / 1024, 1 - 1e-9):
        text = size(round(scale * share))
        assert float(text.split()[0].replace(",", "")) < 1024, text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12.3 ms"),
        (0.9, "900.0 ms"),
        (1, "1.0 s"),
        (3.21, "3.2 s"),
        (59.9, "59.9 s"),
        (60, "1 min 0 s"),
        (754, "12 min 34 s"),
        (3600, "1 h 0 min"),
        (3660, "1 h 1 min"),
        (90_000, "25 h 0 min"),
        # what rounds up to the next unit is written in it
        (0.99996, "1.0 s"),
        (59.97, "1 min 0 s"),
        (119.6, "2 min 0 s"),
        (3599.7, "1 h 0 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_no_duration_has_sixty_seconds_or_minutes():
    for tenth in range(0, 80_000, 7):
        text = duration(tenth / 10)
        assert not re.search(r"\b60(\.0)? (s|min)\b", text), (tenth / 10, text)
