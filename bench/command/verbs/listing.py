"""The verb `list`: what there is to choose from."""

from __future__ import annotations

import fnmatch
import json
from argparse import Namespace
from collections.abc import Callable

from visionbench.command.options import Commands
from visionbench.record.devices import DEVICES, DeviceSpec
from visionbench.record.errors import BenchError
from visionbench.record.spec import PROTOCOLS, SUITES, Protocol
from visionbench.record.units import GIGA, TERA, duration, plural


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser("list", help="what there is", description="What there is to choose from.")
    parser.add_argument("what", choices=LISTS, help="which list")
    parser.add_argument("pattern", nargs="?", default="*", help="wildcards, for example 'convnext_*'")
    parser.add_argument("--json", action="store_true", help="one JSON array")
    parser.set_defaults(verb=run)


def run(options: Namespace) -> int:
    """Print one of the lists, filtered by wildcards."""
    entries = [entry for entry in _LISTED[options.what]() if _matches(entry[0], options.pattern)]
    if not entries:
        raise BenchError(f"no {options.what} match '{options.pattern}': leave the pattern away to see all.")
    if options.json:
        print(json.dumps([dict(zip(("name", "about"), entry, strict=True)) for entry in entries], indent=2))
        return 0
    width = max(len(name) for name, _ in entries)
    print("\n".join(f"{name:<{width}}  {about}".rstrip() for name, about in entries))
    return 0


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(form, pattern) for form in (name, name.partition(":")[2]))


def _list_models() -> list[tuple[str, str]]:
    from visionbench import models

    return [(name, "") for name in models.names()]


def _list_tables() -> list[tuple[str, str]]:
    from visionbench.reports import REPORTS

    return [(name, one.title) for name, one in REPORTS.items()]


def _list_suites() -> list[tuple[str, str]]:
    return [(name, ", ".join(str(spec) for spec in specs)) for name, specs in SUITES.items()]


def _list_protocols() -> list[tuple[str, str]]:
    def block(one: Protocol) -> str:
        return (
            f"{one.block_iterations} iterations" if one.block_iterations else f"at least {duration(one.block_seconds)}"
        )

    return [
        (
            name,
            f"{plural(one.launches, 'launch', 'launches')} of {plural(one.blocks, 'block')} of {block(one)}, after "
            f"{one.warmup_iterations} warm-up iterations"
            + (f" and at least {duration(one.warmup_seconds)}" if one.warmup_seconds else "")
            + (f", until steady or for {duration(one.steady_within)}" if one.steady_within else ""),
        )
        for name, one in PROTOCOLS.items()
    ]


def _list_devices() -> list[tuple[str, str]]:
    def rates(device: DeviceSpec) -> str:
        peaks = [(p, device.peak(p)) for p in ("fp32", "tf32", "fp16", "bf16")]
        told = ", ".join(f"{name} {peak / TERA:g}" for name, peak in peaks if peak)
        return f"{told} TFLOP/s dense; {device.memory / GIGA:g} GB at {device.bandwidth / GIGA:g} GB/s"

    return [(device.key, rates(device)) for device in DEVICES]


_LISTED: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "models": _list_models,
    "tables": _list_tables,
    "suites": _list_suites,
    "protocols": _list_protocols,
    "devices": _list_devices,
}

LISTS = tuple(_LISTED)
