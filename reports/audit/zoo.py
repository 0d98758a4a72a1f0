"""The whole zoo of timm as a table: exact counts, fvcore's, the memory of a training step, and what timm publishes.

That is in its results-imagenet*.csv and benchmark-*.csv, files that the user has. A line is a model (`name.weights`) at
an image size, with param_count (M), and gmacs (G) and macts (M) where it was benchmarked
(https://github.com/huggingface/pytorch-image-models, results/).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visionbench.record.errors import BenchError
from visionbench.record.files import reason, text_of
from visionbench.record.profile import TRAINED, Profile
from visionbench.record.units import GIB, GIGA, MEGA, plural
from visionbench.reports import cells
from visionbench.reports.audit.conventions import STATED
from visionbench.reports.audit.figures import fits
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.printed import DIGITS, Network, Number, count_of
from visionbench.reports.table import Cell, Table

FVCORE = STATED["fvcore"]

SCALES = {"params": MEGA, "macs": GIGA, "activations": MEGA}
WORDS = {"params": "params (M)", "macs": "FLOPs (G)", "activations": "activations (M)"}


FIGURES = {"params": ("param_count", "M"), "macs": ("gmacs", "G"), "activations": ("macts", "M")}
"""What a line may publish: the column's name, after `infer_` or `train_`, and the unit."""

_SIDE = re.compile(r"[1-9][0-9]{0,4}")
_SIDES = ("img_size", "infer_img_size", "train_img_size", "input_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedZoo:
    """The figures by network and metric, and what could not be read, each with its file and line."""

    files: tuple[str, ...]
    figures: Mapping[Network, Mapping[str, Number]]
    problems: tuple[str, ...]


def read_published(paths: Sequence[Path]) -> PublishedZoo:
    """The figures of those files; of several lines about a network the first counts. Raises `BenchError`."""
    figures: dict[Network, dict[str, Number]] = {}
    problems: list[str] = []
    for path in paths:
        for where, network, printed in _lines(path, problems):
            kept = figures.setdefault(network, {})
            both = [(kept.setdefault(metric, number), number) for metric, number in printed.items()]
            if any(abs(a.value - b.value) > a.half_unit + b.half_unit for a, b in both):
                problems.append(f"{where}: {network[0]} at {network[1]} has other figures above, which are taken")
    names = tuple(path.name for path in paths)
    return PublishedZoo(files=names, figures=figures, problems=tuple(problems))


def _lines(path: Path, problems: list[str]) -> list[tuple[str, Network, dict[str, Number]]]:
    """Where each line stands, its network, and what it publishes."""
    remedy = "give timm's results-imagenet.csv or benchmark-infer-*.csv"
    try:
        reader = csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True)
        head = reader.fieldnames or ()
        columns = {metric: column for metric in FIGURES if (column := _column(head, metric))}
        side = next((name for name in _SIDES if name in head), "")
        has = {"model": "model" in head, "img_size": side, "param_count": columns}
        if missing := [name for name, there in has.items() if not there]:
            raise BenchError(f"{path}, line 1: there is no column {missing[0]}: {remedy}.")
        read: list[tuple[str, Network, dict[str, Number]]] = []
        for line in reader:
            where = f"{path}, line {reader.line_num}"
            model, size = (line["model"] or "").partition(".")[0].strip(), (line[side] or "").strip()
            if not model or not _SIDE.fullmatch(size):
                problems.append(f"{where}: {side} = '{size[:40]}' of '{model[:60]}' is no size in pixels")
                continue
            printed = _numbers(line, columns, path.name, where, problems)
            read.append((where, (f"timm:{model}", int(size)), printed))
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise BenchError(f"cannot read {path} ({why}): {remedy}.") from error
    except csv.Error as error:
        raise BenchError(f"{path}, line {reader.line_num}: {error}: {remedy}.") from error
    if not read:
        raise BenchError(f"{path} has no line about a network: {remedy}.")
    return read


def _column(head: Sequence[str], metric: str) -> str:
    name, _ = FIGURES[metric]
    return next((column for column in (name, f"infer_{name}", f"train_{name}") if column in head), "")


def _numbers(
    line: Mapping[str, str | None], columns: Mapping[str, str], source: str, where: str, problems: list[str]
) -> dict[str, Number]:
    numbers = {}
    for metric, column in columns.items():
        text = (line[column] or "").strip()
        if DIGITS.fullmatch(text):
            numbers[metric] = count_of(text, FIGURES[metric][1], source)
        elif text:
            problems.append(f"{where}: {column} = '{text[:40]}' is no number")
    return numbers


def zoo(profiles: Sequence[Profile], trained: Sequence[Profile] = (), published: PublishedZoo | None = None) -> Table:
    """Every network of a zoo with its exact counts and fvcore's, with what is `published` of it, and with the memory of
    a training step of those `trained`; one that cannot be counted is a row with its cause.
    """
    steps: Mapping[Network, Profile] = {(each.model, each.size): each for each in trained}

    def memory(profile: Profile) -> Cell:
        step = steps.get((profile.model, profile.size))
        return cells.computed(step.parts.get("peak_memory_live") if step else None, GIB, 2)

    def cause(profile: Profile) -> str:
        step = steps.get((profile.model, profile.size))
        return profile.error or (f"training: {step.error}" if step and step.error else "")

    columns: list[Column[Profile]] = [
        label("model", "model", lambda profile: profile.model.partition(":")[2]),
        label("family", "family", lambda profile: profile.family.rpartition(".")[2]),
        label("image_size", "size", lambda profile: str(profile.size), align="right"),
    ]
    for metric in SCALES:
        columns.append(_exact(metric))
        columns += _published(metric, published) if published else ()
        columns += [_fvcore()] if metric == "macs" else []
    if steps:
        head = ("training memory (GiB)",)
        columns.append(Column(key="train_memory", head=head, unit="B", source="computed", fill=memory))
    columns.append(label("cause", "cause", cause))
    failed = sum(bool(profile.error) for profile in profiles)
    networks = len({profile.model for profile in profiles})
    return lay_out(
        "audit_timm",
        f"Exact counts of timm's {plural(networks, 'network')}, each at the size that it is trained on"
        + (", and at the sizes that timm publishes" if published else ""),
        profiles,
        columns,
        subject=lambda profile: profile.model,
        dash="not counted, or not published" if published else "not counted",
        remarks=(
            "FLOPs: multiply-accumulates. fvcore: norms, global pools and resizing, too, computed from the trace.",
            *(_compared(profiles, published) if published else ()),
            *([f"training memory: the peak of live tensors over a step of {TRAINED} images, AdamW."] if steps else []),
            *([f"{plural(failed, 'network')} cannot be counted."] if failed else []),
        ),
    )


def _exact(metric: str) -> Column[Profile]:
    return Column(
        key=metric,
        head=(WORDS[metric],),
        unit="count",
        source="computed",
        fill=lambda profile: cells.computed(profile.parts.get(metric), SCALES[metric], 2),
    )


def _fvcore() -> Column[Profile]:
    def fill(profile: Profile) -> Cell:
        macs = profile.parts.get("macs")
        return _percent(FVCORE.count(profile.parts) / macs - 1) if macs else cells.word("")

    return Column(key="fvcore", head=("fvcore - exact",), align="right", fill=fill)


def _percent(share: float) -> Cell:
    return cells.word(f"{share * 100:+.1f} %", share)


def _published(metric: str, published: PublishedZoo) -> tuple[Column[Profile], Column[Profile]]:
    """The figure of timm, and by how much it differs from the exact count."""

    def number(profile: Profile) -> Number | None:
        return published.figures.get((profile.model, profile.size), {}).get(metric)

    def difference(profile: Profile) -> Cell:
        printed, exact = number(profile), profile.parts.get(metric)
        if printed is None or not exact:
            return cells.word("")
        return cells.word("reproduced", 0.0) if fits(printed, exact) else _percent(printed.value / exact - 1)

    shown: Column[Profile] = Column(
        key=f"{metric}_timm",
        head=(f"timm's {WORDS[metric]}",),
        unit="count",
        source="published",
        fill=lambda profile: cells.published(number(profile)),
    )
    return shown, Column(key=f"{metric}_difference", head=("timm - exact",), align="right", fill=difference)


def _compared(profiles: Sequence[Profile], published: PublishedZoo) -> tuple[str, ...]:
    """Whose figures they are and by which convention, and how many of them are the exact counts."""
    names = " and ".join(published.files)
    pairs = [
        (metric, printed, profile)
        for profile in profiles
        for metric, printed in published.figures.get((profile.model, profile.size), {}).items()
        if profile.parts
    ]
    exact = []
    for metric, word in (("params", "params"), ("macs", "FLOPs"), ("activations", "activations")):
        if same := [fits(printed, profile.parts[metric]) for name, printed, profile in pairs if name == metric]:
            exact.append(f"{sum(same)} of {len(same)} {word}")
    others = [
        fits(printed, FVCORE.count(profile.parts))
        for metric, printed, profile in pairs
        if metric == "macs" and not fits(printed, profile.parts["macs"])
    ]
    known = {profile.model for profile in profiles}
    unknown = list(dict.fromkeys(model.partition(":")[2] for model, _ in published.figures if model not in known))
    named = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    fvcore = (
        f" Of the other {plural(len(others), 'FLOPs figure')} fvcore's count gives {sum(others)}." if others else ""
    )
    return (
        f"timm: {names}. Its FLOPs are counted with fvcore or deepspeed, which count norms and global pools, too.",
        f"To the digit that timm prints, the exact counts are {', '.join(exact) or 'none'}.{fvcore}",
        *([f"{plural(len(unknown), 'network')} of {names} not in this timm: {named}."] if unknown else []),
    )
