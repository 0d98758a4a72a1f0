"""Numbers for people: scaling and rounding happen here and in `reports/`, nowhere else. Inside, base units only."""

from __future__ import annotations

KILO, MEGA, GIGA, TERA = 1e3, 1e6, 1e9, 1e12
GIB = float(2**30)

_SI = ((TERA, "T"), (GIGA, "G"), (MEGA, "M"), (KILO, "k"))
_IEC = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def count(value: float, digits: int = 4) -> str:
    """`28589128` -> `28.59 M`: a count with an SI prefix and `digits` significant digits."""
    for scale, prefix in _SI:
        if abs(value) >= scale:
            return f"{significant(value / scale, digits)} {prefix}"
    return f"{value:g}"


def size(value: float, digits: int = 3) -> str:
    """`3221225472` -> `3.00 GiB`: bytes with an IEC prefix."""
    for scale, prefix in _IEC:
        if abs(value) >= scale:
            return f"{significant(value / scale, digits)} {prefix}"
    return f"{value:.0f} B"


def duration(seconds: float) -> str:
    """`754` -> `12 min 34 s`, `3.21` -> `3.2 s`, `0.0123` -> `12.3 ms`."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def significant(value: float, digits: int) -> str:
    """`value` with `digits` significant digits, without an exponent, never with fewer than its integer digits."""
    if value == 0:
        return "0"
    decimals = digits - len(f"{abs(value):.0f}") if abs(value) >= 1 else digits - _exponent(value) - 1
    return f"{value:,.{max(decimals, 0)}f}"


def _exponent(value: float) -> int:
    return int(f"{value:e}".split("e")[1])
