"""Numbers for people: scaling and rounding happen here and in `reports/`, nowhere else. Inside, base units only."""

from __future__ import annotations

from collections.abc import Sequence

KILO, MEGA, GIGA, TERA = 1e3, 1e6, 1e9, 1e12
GIB = float(2**30)

_SI = ((TERA, "T"), (GIGA, "G"), (MEGA, "M"), (KILO, "k"))
_IEC = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def count(value: float, digits: int = 4) -> str:
    """`28589128` -> `28.59 M`: a count with an SI prefix and `digits` significant digits."""
    rounded = abs(float(f"{value:.{digits - 1}e}"))  # 999.96 M is a thousand of them: 1.000 G
    for scale, prefix in _SI:
        if rounded >= scale:
            return f"{significant(value / scale, digits)} {prefix}"
    return f"{value:g}"


def size(value: float, digits: int = 3) -> str:
    """`3221225472` -> `3.00 GiB`: bytes with an IEC prefix."""
    for scale, prefix in _IEC:
        if abs(value) >= scale * (1 - 1 / 2048):  # from 1023.5 on, the smaller prefix would print 1024
            return f"{significant(value / scale, digits)} {prefix}"
    return f"{value:.0f} B"


def duration(seconds: float) -> str:
    """`754` -> `12 min 34 s`, `3.21` -> `3.2 s`, `0.0123` -> `12.3 ms`."""
    if seconds == 0:
        return "0 s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s" if round(seconds * 1e3, 1) >= 1000 else f"{seconds * 1e3:.1f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(number: int, noun: str, nouns: str = "") -> str:
    """`1 launch`, `3 rows`; `nouns` where an s does not do."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def first_of(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`: at most so many of the names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def significant(value: float, digits: int) -> str:
    """`value` with `digits` significant digits, without an exponent, never with fewer than its integer digits."""
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])  # after rounding: 9.996 to three digits is 10.0
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"
