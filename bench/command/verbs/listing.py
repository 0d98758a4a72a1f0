"""The verb `list`: models, tables, suites, protocols and devices to choose from."""

from __future__ import annotations

import fnmatch
import json
from argparse import ArgumentParser
from collections.abc import Callable

from visionbench.command import options
from visionbench.record.devices import DEVICES, DeviceSpec
from visionbench.record.errors import BenchError, near
from visionbench.record.spec import PROTOCOLS, SUITES, Protocol
from visionbench.record.units import GIGA, TERA, duration, plural


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = "List models, tables, suites, protocols or devices."
    parser.add_argument("what", choices=tuple(_LISTED), help="what to list")
    parser.add_argument("pattern", nargs="?", default="*", help="wildcards ('convnext_*'), or a part of the name")
    options.add_json(parser, "one array")
    parser.set_defaults(verb=lambda words: run(words.what, words.pattern, as_json=words.json))


def run(what: str, pattern: str, *, as_json: bool) -> int:
    """Print one of the lists, filtered by wildcards."""
    known = _LISTED[what]()
    entries = [
        entry
        for entry in known
        if any(fnmatch.fnmatchcase(form, pattern) for form in (entry[0], entry[0].partition(":")[2]))
    ]
    if not entries and not set(pattern) & set("*?["):
        entries = [entry for entry in known if pattern.lower() in entry[0].lower()]
    if not entries:
        close = near(pattern.strip("*"), [entry[0].partition(":")[2] or entry[0] for entry in known])
        remedy = f"did you mean {' or '.join(close)}?" if close else "leave the pattern away to see all."
        raise BenchError(f"no {what} match '{pattern}': {remedy}")
    if as_json:
        print(json.dumps([dict(zip(("name", "about"), entry, strict=True)) for entry in entries], indent=2))
        return 0
    width = max(len(name) for name, _ in entries)
    paper = None
    for name, about in entries:
        if what == "tables" and _paper_of(name) != paper:
            print("" if paper is None else "\n", _paper_of(name) or "Ours", sep="")
            paper = _paper_of(name)
        print(f"{'  ' if what == 'tables' else ''}{name:<{width}}  {about}".rstrip())
    return 0


def _list_models() -> list[tuple[str, str]]:
    from visionbench import models

    return [(name, "") for name in models.names()]


def _list_tables() -> list[tuple[str, str]]:
    from visionbench.reports import REPORTS

    ours = [(name, report.title) for name, report in REPORTS.items() if not report.paper]
    return [*((name, report.title) for tables in REPORTS.papers().values() for name, report in tables.items()), *ours]


def _paper_of(table: str) -> str:
    """The title of a table's paper, over which it is listed; "" for what is no paper's table."""
    from visionbench.reports import REPORTS

    return REPORTS[table].paper if table in REPORTS else ""


def _list_suites() -> list[tuple[str, str]]:
    return [(name, ", ".join(str(spec) for spec in specs)) for name, specs in SUITES.items()]


def _list_protocols() -> list[tuple[str, str]]:
    def block(protocol: Protocol) -> str:
        iterations = protocol.block_iterations
        return plural(iterations, "iteration") if iterations else f"at least {duration(protocol.block_seconds)}"

    def timed(protocol: Protocol) -> str:
        return (
            f"{plural(protocol.launches, 'launch', 'launches')} of {plural(protocol.blocks, 'block')} of "
            f"{block(protocol)}, after {plural(protocol.warmup_iterations, 'warm-up iteration')}"
            + (f" and at least {duration(protocol.warmup_seconds)}" if protocol.warmup_seconds else "")
            + (f", until steady or for {duration(protocol.steady_within)}" if protocol.steady_within else "")
        )

    untimed = "1 launch, without timing: the peak memory of a step"
    return [(name, timed(protocol) if protocol.blocks else untimed) for name, protocol in PROTOCOLS.items()]


def _list_devices() -> list[tuple[str, str]]:
    def rates(device: DeviceSpec) -> str:
        peaks = [(p, device.peak(p)) for p in ("fp32", "tf32", "fp16", "bf16")]
        known = ", ".join(f"{name} {peak / TERA:g}" for name, peak in peaks if peak)
        return f"{known} TFLOP/s dense; {device.memory / GIGA:g} GB at {device.bandwidth / GIGA:g} GB/s"

    return [(device.key, rates(device)) for device in DEVICES]


_LISTED: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "models": _list_models,
    "tables": _list_tables,
    "suites": _list_suites,
    "protocols": _list_protocols,
    "devices": _list_devices,
}
