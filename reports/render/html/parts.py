"""What stands around the tables: how to read a number, the machines that were measured, the protocols, the contents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

from visionbench.comparison.comparison import Comparison
from visionbench.record.record import Environment, Record, Source
from visionbench.record.units import GIB, plural, significant
from visionbench.reports.launches import grouped
from visionbench.reports.printed import Number, convnext
from visionbench.reports.render.html import evidence as behind
from visionbench.reports.render.html.markup import SOURCES, arxiv, link, pairs, prose, text
from visionbench.reports.settings import device_name, ends
from visionbench.reports.table import DASH, HEADS, Table

PAPER = "2201.03545"

MEANINGS: dict[Source, str] = {
    "published": "copied as printed, with the table it stands in and the protocol behind it as far as it is stated",
    "computed": "counted operator by operator from the model itself, on no hardware; the same on every machine",
    "measured": "timed in fresh processes on a machine that its column names; [ ] is a 95 % interval over launches, or "
    "over nodes where several measured",
    "predicted": "a model's estimate with its interval, made from exact counts; not a measurement",
}


def lead(tables: Sequence[Table]) -> str:
    """What the page is, in two sentences."""
    found = behind.sources([row for table in tables for row in table.rows])
    beside = f": what {_who_prints(tables)}, beside exact counts and measurements" if "published" in found else ""
    numbers, noun = sum(found.values()), "number" if sum(found.values()) == 1 else "numbers"
    return (
        f'<p class="lead">{numbers:,} {noun} in {plural(len(tables), "table")}{beside}. '
        '<span class="screen">Point at a number, or move to it with Tab and the arrow keys, and it says where it comes '
        "from. Follow a row’s name to the command that makes its numbers again.</span></p>"
    )


def _who_prints(tables: Sequence[Table]) -> str:
    """`A ConvNet for the 2020s prints`, or papers, by the tables that hold something printed."""
    paper = link(arxiv(PAPER), "A ConvNet for the 2020s")
    printed = [table.name for table in tables if behind.sources(table.rows).get("published")]
    shipped = [name for name in printed if name.startswith("convnext_table") or name in ("fastest", "predictions")]
    if not shipped:
        return "papers print"
    return f"{paper} prints" if len(shipped) == len(printed) else f"{paper} and other papers print"


def tiles(tables: Sequence[Table]) -> str:
    """How to read the numbers: one tile per source that occurs."""
    body = ""
    for source, number in behind.sources([row for table in tables for row in table.rows]).items():
        css, element = SOURCES[source]
        figure = f'<{element} class="{css}">{number:,}</{element}> <span>{HEADS[source]}</span>'
        body += f'<li class="tile-{css}"><p>{figure}</p><p>{text(MEANINGS[source])}</p></li>'
    return f'<ul class="tiles">{body}</ul>\n' if body else ""


def summary(said: Mapping[str, Sequence[str]]) -> str:
    """The answers on top of a page, each under its heading; nothing for none."""
    facts = []
    for heading, sentences in said.items():
        items = "".join(f"<li>{prose(sentence)}</li>" for sentence in sentences)
        facts.append((heading, f"<ul>{items}</ul>"))
    title = '<h2 id="summary-title">In short</h2>'
    return f'<section id="summary" aria-labelledby="summary-title">{title}{pairs(facts)}</section>\n' if said else ""


def contents(parts: Sequence[tuple[str, str]], tables: Sequence[tuple[str, Table]], *, protocol: bool) -> str:
    """The bar of links that stays at the top of the window: `parts` before the tables."""
    entries = [*parts, *((ident, _short(table.title)) for ident, table in tables), ("environments", "Environments")]
    entries += [("protocols", "Protocols")] if protocol else []
    links = "".join(f'<li><a href="#{ident}">{text(words)}</a></li>' for ident, words in entries)
    return f'<nav aria-label="Contents"><a class="brand" href="#top">visionbench</a><ul>{links}</ul></nav>'


def _short(title: str) -> str:
    """`Classification (Table 1 of the ConvNeXt paper)` -> `Table 1`; `(Table 1 of ResMLP)` -> `ResMLP, Table 1`.

    Of another paper than the page's own a number alone would not say whose table it is.
    """
    table, of, paper = title.rpartition("(")[2].rstrip(")").partition(" of ")
    if not of or not table.startswith("Table "):
        return title.partition(":")[0]
    return table if paper == "the ConvNeXt paper" else f"{paper}, {table}"


# --- environments ----------------------------------------------------------------------------------------------------


def environments(records: Sequence[Record], comparisons: Sequence[Comparison], places: dict[Environment, str]) -> str:
    """Every distinct environment, as a list of what is known of it."""
    real = [record for record in records if record.source != "predicted"]
    used = {places[where] for where in behind.environments(real, comparisons)}
    held = grouped(behind.environments(records, comparisons), lambda where: places[where])
    cards = "".join(_environment(ident, its, used=ident in used) for ident, its in held.items())
    return _cards("environments", "Environments", cards or "<p>Nothing recorded.</p>")


def _cards(ident: str, title: str, body: str) -> str:
    heading = f'<h2 id="{ident}-title">{title}</h2>'
    return f'<section id="{ident}" aria-labelledby="{ident}-title">{heading}<div class="cards">{body}</div></section>\n'


def _environment(ident: str, its: Sequence[Environment], *, used: bool) -> str:
    """A machine that was used, or the target of predictions, of which no more is known than its data sheet."""
    where = its[-1]
    on_none = where.device_type == "meta"
    title = "No hardware: exact counts" if on_none else device_name(where)
    title += "" if used else ": predicted for, not used"
    known = _software(where) if on_none else _hardware(where)
    facts = [(term, what) for term, what in known if used or DASH not in what.split(", ")]
    shown = pairs((term, text(what)) for term, what in (*facts, *_when(its)))
    return f'<div class="card" id="{ident}"><h3>{ident.rpartition("-")[2]}. {text(title)}</h3>{shown}</div>'


def _hardware(where: Environment) -> Iterator[tuple[str, str]]:
    memory, limit = where.device_memory, where.power_limit
    if where.device_type != "cpu":
        yield "Device", where.device_name or where.device_key or DASH
        yield "Memory", f"{significant(memory / GIB, 3)} GiB" if memory else DASH
        yield "Power limit", f"{limit:g} W" if limit else DASH
        yield "Driver", where.driver or DASH
    yield "CPU", where.cpu or (where.device_name if where.device_type == "cpu" else None) or DASH
    yield "Cores, threads", f"{where.cores or DASH}, {where.threads or DASH}"
    yield from _software(where)


def _software(where: Environment) -> Iterator[tuple[str, str]]:
    yield "torch", where.torch or DASH
    if where.device_type == "cuda":
        yield "CUDA, cuDNN", f"{where.cuda or DASH}, {where.cudnn or DASH}"
    yield "timm", where.timm or DASH
    yield "Python", where.python or DASH
    yield "Platform", where.platform or DASH


def _when(its: Sequence[Environment]) -> Iterator[tuple[str, str]]:
    days = sorted({(one.started or "")[:10] for one in its} - {""})
    commits = dict.fromkeys(
        f"{one.git_commit[:10]}{' with changes' if one.git_dirty else ''}" for one in its if one.git_commit
    )
    yield "visionbench", ", ".join(commits) or DASH
    yield "Records", f"{len(its):,}" + (f", {ends(days)}" if days else "")


# --- protocols -------------------------------------------------------------------------------------------------------


def measuring(records: Sequence[Record], tables: Sequence[Table]) -> str:
    """How the numbers were measured: our protocols, field by field, and what is known of those behind printed ones."""
    ours = dict.fromkeys(record.protocol for record in records if record.protocol and record.source == "measured")
    cells = (cell for table in tables for row in table.rows for cell in row.cells)
    named = {cell.evidence.protocol for cell in cells if isinstance(cell.evidence, Number)}
    cards: list[str] = []
    for protocol in ours:
        facts = [(field.name.replace("_", " "), getattr(protocol, field.name)) for field in fields(protocol)[1:]]
        cards.append(_card(f"{protocol.name}, ours", [(term, text(_word(value))) for term, value in facts], len(cards)))
    for key, known in convnext().protocols.items():
        said = {"stated": known.stated, "inferred": known.inferred, "not stated": known.unknown, "source": known.source}
        if key in named:
            stated = [(term, prose(what)) for term, what in said.items() if what]
            cards.append(_card(f"{key}, published", stated, len(ours)))
    return _cards("protocols", "Protocols", "".join(cards)) if cards else ""


def _card(title: str, facts: Sequence[tuple[str, str]], before: int) -> str:
    ident = f"protocol-{re.sub('[^a-zA-Z0-9]+', '-', title).strip('-') or 'x'}-{before + 1}"
    return f'<div class="card" id="{ident}"><h3>{text(title)}</h3>{pairs(facts)}</div>'


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or DASH
    return DASH if value is None else f"{value:g}" if isinstance(value, float) else str(value)
