"""The verb `table`: a file for your own table, from models' names or from a printed table."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import options, output, progress, values
from visionbench.record import files
from visionbench.record.clean import clean, clean_json
from visionbench.record.errors import BenchError
from visionbench.record.program import program_name
from visionbench.record.spec import ImageSize
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.reports.paper.importing import Line, Printed

DESCRIPTION = """\
Start a table of your own. `new FILE MODEL...` writes a commented file with these rows; `import FILE` reads printed
tables (LaTeX, Markdown, HTML or CSV) and finds the models of their rows. It marks those that it can't find, adds rows
for the models that are named, and writes such a file.
`report FILE` prints it, `run --table FILE` measures its rows.
"""


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument("what", choices=("new", "import"), help="start from models' names, or from a printed table")
    parser.add_argument(
        "file", type=values.path, metavar="FILE", help="new: the file to write; import: the printed table"
    )
    parser.add_argument(
        "models",
        nargs="*",
        default=[],
        metavar="MODEL",
        help="convnext_tiny, user:package.module:factory, ...; import: rows to add",
    )
    parser.add_argument(
        "--output", type=values.path, metavar="FILE", help="import: the file to write (default: FILE's name with .toml)"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    options.add_json(parser, "the file that was written")
    parser.set_defaults(verb=run)


def run(words: Namespace) -> int:
    """Write the file, and say what is next."""
    if not words.file.name or words.file.is_dir():
        raise BenchError(f"{words.file} is a folder: name a file.")
    target = words.file if words.what == "new" else words.output or words.file.with_suffix(".toml")
    if target.suffix != ".toml":
        raise BenchError(f"{target} does not end with .toml, by which a table's file is known: name another.")
    if target.exists() and not words.force:
        raise BenchError(f"{target} is there already: name another file, or say --force.")
    if words.what == "import" and (file := next((word for word in words.models if Path(word).exists()), "")):
        raise BenchError(f"`table import` reads one file, and {file} is another: leave it out.")
    new = words.what == "new"
    text = _starter(target, words.models) if new else _imported(words.file, target, words.models)
    output.write(target, text.encode(), "" if new else " with --output")
    told = f"{target} is written. Next: {program_name()} report {shlex.quote(str(target))}"
    print(clean_json(json.dumps({"file": str(target)})) if words.json else told)
    return 0


# --- new -------------------------------------------------------------------------------------------------------------


def _starter(path: Path, names: Sequence[str]) -> str:
    if not names:
        raise BenchError("which models? Name them after the file: convnext_tiny, user:package.module:factory, ...")
    columns = ("size", "params", "flops", "img/s", "top1")
    return _head(path, "My table") + _table_head(_name(path), "My table", columns) + "".join(_rows_of(names))


def _rows_of(names: Sequence[str], section: str = "") -> Iterator[str]:
    from visionbench.models import expand, resolve

    for card in dict.fromkeys(resolve(model) for name in names for model in expand(name)):
        own = card.name.startswith("user:")
        lines = [
            f"\n[[table.row]]\nmodel = {_quoted(card.name)}",
            'label = "Ours"  # its name' if own else f"label = {_quoted(card.name.rpartition(':')[2])}",
            f"size = {_toml_size(card.image_size)}",
        ]
        lines += [f"section = {_quoted(section)}"] if section else []
        lines += ["own = true", 'source = "this paper"'] if own else []
        lines += _printed_elsewhere(card.name, card.image_size) or ["# params = 28.6", "# flops = 4.5", "# top1 = 82.1"]
        yield "\n".join(lines) + "\n"


def _printed_elsewhere(model: str, size: ImageSize) -> list[str]:
    """What shipped papers print of that network, as comments with their sources."""
    from visionbench.reports import REPORTS
    from visionbench.reports.paper.simple import METRICS

    printed: dict[str, dict[str, str]] = {}
    for row in (row for tables in REPORTS.papers().values() for report in tables.values() for row in report.rows):
        for metric, number in row.printed.items() if row.network == (model, size) else ():
            where = ", ".join(part for part in (number.source, number.gpu) if part)
            printed.setdefault(metric, {}).setdefault(number.text, where)
    return [
        f"# {_key(key)} = {text}  # {where}"
        for key, (metric, _) in METRICS.items()
        for text, where in list(printed.get(metric, {}).items())[:MOST_PRINTS]
    ]


MOST_PRINTS = 5
"""How many different prints of one number a starter offers."""


# --- import ----------------------------------------------------------------------------------------------------------


def _imported(path: Path, target: Path, added: Sequence[str]) -> str:
    """The file for the printed tables at `path`, with rows for the models that are `added` below the first."""
    from visionbench.reports.paper import importing
    from visionbench.reports.paper.simple import METRICS

    try:
        text = files.text_of(path)
    except OSError as error:
        reason = files.reason(error)
        raise BenchError(f"cannot read {path} ({reason}): name a table as LaTeX, Markdown, HTML or CSV.") from error
    except ValueError as error:
        raise BenchError(f"cannot read {path} ({error}): save the table as a text in UTF-8.") from error
    tables = importing.parse(text, str(path))
    for problem in (problem for printed in tables for problem in printed.problems):
        progress.complain(f"{path}, {problem}.")
    read = [printed for printed in tables if printed.rows]
    parts = [_head(target, read[0].title or "Imported table", path.name)]
    unsure = 0
    for number, printed in enumerate(read, 1):
        held = {key for row in printed.rows for key in row.values}
        keys = [key for key in METRICS if key in held]
        name = _name(target) + (f"_{number}" if number > 1 else "")
        parts.append(_table_head(name, printed.title or "Imported table", ("size", *keys), printed.gpu))
        rows = list(_imported_rows(path, printed))
        unsure += sum('\nmodel = ""' in row for row in rows)
        parts += rows
        parts += _rows_of(added, "Ours" if printed.rows[-1].section else "") if number == 1 else ()
    if unsure:
        count = sum(len(printed.rows) for printed in read)
        progress.complain(f'{plural(unsure, "row")} of {count} name no model for certain: see `model = ""`.')
    return "".join(parts)


def _imported_rows(path: Path, printed: Printed) -> Iterator[str]:
    names = _names()
    seen: set[str] = set()
    for row in printed.rows:
        text = _imported_row(path, row, names)
        # But for comments: where it stands, and what is not read.
        body = "\n".join(line.partition("  # ")[0] for line in text.splitlines() if not line.startswith("#"))
        if body in seen:
            progress.complain(f"{path}, line {row.number}: the same row as one above: it is left out.")
            continue
        seen.add(body)
        yield text


def _names() -> tuple[str, ...]:
    """Every model's name; without timm those of the shipped papers."""
    from visionbench.reports.paper.profiles import shipped

    try:
        from visionbench import models

        return models.names()
    except ImportError:
        return tuple(dict.fromkeys(model for model, _, _ in shipped()))


def _imported_row(path: Path, row: Line, names: Sequence[str]) -> str:
    from visionbench.reports.paper.naming import read_label, spellings

    printed = row.values.get("size", "")
    label, variant = row.values.get("label", ""), row.values.get("variant", "")
    at = int(printed) if printed.isdigit() else 0
    read = [read_label(text, at, names) for text in spellings(label, variant, row.section)]
    named = next((each for each in read if each.model), read[0])
    label = f"{label} ({variant})" if label and variant and variant != label else label or variant
    model, candidates = named.model, named.candidates
    lines = [f"\n[[table.row]]  # {clean(path.name)}, line {row.number}"]
    if row.dense:
        model = ""
        lines.append('model = ""  # the header speaks of detection, segmentation or video: name the whole network')
    elif model and (other := _other_params(model, row.values.get("params", ""))):
        lines.append(f'model = ""  # not certain: is it {model}? {other}')
        model = ""
    elif model:
        lines.append(f"model = {_quoted(model)}")
    else:
        hint = f"is it {' or '.join(candidates)}?" if candidates else "name it if a library builds it"
        lines.append(f'model = ""  # not certain: {hint}')
    lines.append(f"label = {_quoted(label or model or f'row {row.number}')}")
    if row.section:
        lines.append(f"section = {_quoted(row.section)}")
    if size := printed or str(named.size or ""):
        lines.append(f"size = {size if size.isdigit() else _quoted(size)}")
    elif model:
        lines.append(f"size = {_toml_size(_own_size(model))}  # the model's own: none is printed")
    lines += [f"{_key(key)} = {value}" for key, value in row.values.items() if key not in ("label", "variant", "size")]
    lines += ["own = true"] if re.search(r"\bours?\b", label, re.IGNORECASE) else []
    lines += [f"# not read: {clean(problem)[:200]}" for problem in row.unread]
    return "\n".join(lines) + "\n"


FAR = 0.08
"""Params that differ by more, and by more than the last printed digit, are another network's, or a slip of the pen: the
user decides."""

CLASSES = (1000, 21_843)
"""How many classes a network's head has, on ImageNet-1k and on 21k."""


def _other_params(model: str, printed: str) -> str:
    """How the params of a model differ from those that are printed, in M; "" where they don't, or are not known."""
    if not printed or not (forms := _params(model)):
        return ""
    value, half = float(printed) * 1e6, 0.5e6 * 10.0 ** -len(printed.partition(".")[2])
    for whole, head in forms:
        # Without its head, or fused, it has fewer.
        least, most = (1 - FAR) * (whole - head), (1 + FAR) * whole
        if least - half <= value <= most + half:
            return ""
        if abs(value - whole - head * (CLASSES[1] / CLASSES[0] - 1)) <= 0.01 * value + half:
            return ""
    return f"It has {float(f'{forms[0][0] / 1e6:.3g}'):,g} M params, and {printed} are printed."


def _params(model: str) -> list[tuple[float, float]]:
    """The params of a model's forms, and those of their heads; none for what is not built."""
    from visionbench.reports.paper.profiles import shipped

    counts = [each.parts for (name, _, _), each in shipped().items() if name == model and each.parts.get("params")]
    if counts:
        return [(form["params"], form["params_classifier"]) for form in counts]
    try:
        from visionbench.models import resolve
        from visionbench.tracing.skeleton import skeleton

        with warnings.catch_warnings(action="ignore"):  # torchvision's, about weights that nobody reads
            network = skeleton(model, resolve(model).image_size)
    except (ImportError, BenchError):
        return []
    heads = [layer for layer in network.modules() if getattr(layer, "out_features", 0) == CLASSES[0]]
    whole, head = [sum(p.numel() for layer in part for p in layer.parameters()) for part in ([network], heads)]
    return [(whole, head)]


def _own_size(model: str) -> ImageSize:
    """The size that a model is trained on."""
    from visionbench.reports.paper import profiles

    try:
        from visionbench.models import resolve

        return resolve(model).image_size
    except ImportError:
        return profiles.own_size(model)


# --- both ------------------------------------------------------------------------------------------------------------


def _name(path: Path) -> str:
    """The name of a file's (first) table."""
    from visionbench.reports.paper.profiles import slug

    name = slug(path.stem) or "table"
    return name if name[0].isalpha() else f"table_{name}"


def _head(path: Path, title: str, cite: str = "this paper") -> str:
    from visionbench.reports.paper.simple import METRICS

    file = clean(shlex.quote(path.name))
    said = (
        f"# Your own table. `{program_name()} report {file}` prints it (--format latex, markdown, csv, html).",
        f"# `{program_name()} run --table {file}` measures its rows here.",
        f"# `{program_name()} audit {file}` checks its counts.",
        '# A row has model (a bare name is timm\'s, "" names no network), label, section and size. It may print',
        f"# {', '.join(map(_key, METRICS))} (in M, G, img/s, %, GB, as printed). own = true sets a row apart.",
    )
    lines = "\n".join(said)
    return f"""\
{lines}

title = {_quoted(title)}
cite = {_quoted(cite)}  # where the printed numbers stand, such as arXiv 2103.14030; a row may have another `source`
"""


def _table_head(name: str, title: str, columns: Sequence[str], gpu: str = "") -> str:
    from visionbench.reports.paper.simple import WORDS

    listed = ", ".join(_quoted(word) for word in columns)
    card = f"gpu = {_quoted(gpu)}" if gpu else '# gpu = "V100"'
    return f"""
[[table]]
name = "{name}"
title = {_quoted(title)}
columns = [{listed}]
# columns: {", ".join(WORDS)}
{card:<32}   # of the rows' img/s
# protocol = "batch 64, fp32"      # how they were measured
"""


def _toml_size(size: ImageSize) -> str:
    """Pixels as TOML has them."""
    return str(size) if isinstance(size, int) else _quoted("x".join(map(str, size)))


def _key(key: str) -> str:
    return key if key.isidentifier() else _quoted(key)


def _quoted(text: str) -> str:
    """A text as TOML has it: JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")
