"""What timm publishes of its networks: its results-imagenet*.csv and benchmark-*.csv, files that the user has.

A line is a model (`name.weights`) at an image size, with param_count (M), and gmacs (G) and macts (M) where it was
benchmarked (https://github.com/huggingface/pytorch-image-models, results/).
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
from visionbench.reports.printed import DIGITS, Network, Number, count_of

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
