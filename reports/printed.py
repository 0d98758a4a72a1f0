"""A paper's printed rows and numbers (`published/*.csv` for ConvNeXt's), as printed.

A printed number keeps its digits: "45.0" claims to be within half a unit of its last digit, "45" within half
of ten times that, and finding slips (`slips.py`) depends on the difference.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from visionbench.record.files import text_of
from visionbench.record.spec import ImageSize, image_size

FOLDER = Path(__file__).parent / "published"

SCALES: dict[str, int] = {"M": 10**6, "G": 10**9}

Network = tuple[str, ImageSize]
"""What counts depend on: a model's qualified name and its image size."""

DIGITS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
"""How a number is printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A printed number: its digits, unit, and how it came about (`protocol` names a `Protocol`).

    Raises ValueError for a text that is no number, or a longer one than anybody prints.
    """

    text: str
    unit: str
    gpu: str
    protocol: str
    source: str
    note: str
    remark: str

    def __post_init__(self) -> None:
        if not DIGITS.fullmatch(self.text):
            raise ValueError(f"'{self.text[:60]}' is no number")

    @property
    def decimals(self) -> int:
        """How many decimals are printed."""
        return len(self.text.partition(".")[2])

    @property
    def value(self) -> float:
        """In base units: `84` M is 84000000."""
        scale = SCALES.get(self.unit)
        return round(float(self.text) * scale) if scale else float(self.text)

    @property
    def half_unit(self) -> float:
        """Half a unit of the last printed digit, in base units: what rounding may hide."""
        return float(0.5 * 10.0**-self.decimals * SCALES.get(self.unit, 1))


def count_of(text: str, unit: str, source: str) -> Number:
    """A printed count, which depends on no card and no protocol."""
    return Number(text=text, unit=unit, gpu="", protocol="", source=source, note="", remark="")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """A printed row: its place, its words, and the model (qualified name) and image size (pixels) that it
    names.

    `image_size` is (height, width) where that is no square. `check_sizes` are other sizes worth counting when the
    printed count disagrees: where to look, not what is there. `counter` is the rule by which the printed count was made
    (`visionbench.record.counters.RULES`), "" for ours.
    `model` is "" where the network is not built; `own` is the user's own row, to be emphasised. Without `has_size`
    neither the row nor its network says a size, and `image_size` means nothing.
    """

    table: str
    number: int
    section: str = ""
    marker: str = ""
    label: str
    model: str
    image_size: ImageSize
    check_sizes: tuple[ImageSize, ...] = ()
    printed: dict[str, Number] = field(default_factory=dict)
    counter: str = ""
    own: bool = False
    has_size: bool = True

    @property
    def network(self) -> Network:
        """What the row's counts depend on: the model and its image size."""
        return (self.model, self.image_size)

    def of_every_card(self, metric: str) -> tuple[Number, ...]:
        """A rate as printed for each card: `throughput`, `throughput A100`."""
        return tuple(number for name, number in self.printed.items() if name.partition(" ")[0] == metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedProtocol:
    """How printed numbers came about: what their source states, what we infer, what is unknown."""

    stated: str
    inferred: str
    unknown: str
    source: str

    def __str__(self) -> str:
        parts = (("Stated", self.stated), ("Inferred", self.inferred), ("Not stated", self.unknown))
        return ". ".join(f"{word}: {text}" for word, text in parts if text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """All that was copied from one paper: its printed rows that name one of our models, and its protocols by key."""

    every_row: tuple[PaperRow, ...]
    protocols: dict[str, PublishedProtocol]

    def rows(self, table: str) -> tuple[PaperRow, ...]:
        """The printed rows of one table, in order."""
        return tuple(row for row in self.every_row if row.table == table)

    def rival(self, row: PaperRow) -> PaperRow | None:
        """The Transformer that a ConvNet is printed below, at the same image size; None for a row without a partner."""
        if row.marker != "●":
            return None
        above = next((other for other in self.rows(row.table) if other.number == row.number - 1), None)
        paired = above is not None and above.marker == "○" and above.image_size == row.image_size
        return above if paired else None

    def prints(self, metric: str, network: Network) -> tuple[PaperRow, ...]:
        """Every row that prints that metric of a network: one network is often printed several times."""
        return tuple(row for row in self.every_row if row.network == network and metric in row.printed)


@lru_cache(maxsize=32)
def publication(rows: Path, numbers: Path, protocols: Path) -> Publication:
    """The publication of three CSV files (`published/README.md` says what a line of each is).

    Raises OSError for a file that cannot be read, and KeyError, TypeError or ValueError for one that holds something
    else.
    """
    printed: dict[tuple[str, str], dict[str, Number]] = {}
    for line in _lines(numbers):
        place = (line.pop("table"), line.pop("row"))
        metric, text = line.pop("metric"), line.pop("value")
        printed.setdefault(place, {})[metric] = Number(text=text, **line)
    known = {line.pop("protocol"): PublishedProtocol(**line) for line in _lines(protocols)}
    return Publication(every_row=tuple(_row(line, printed) for line in _lines(rows) if line["model"]), protocols=known)


def _row(line: dict[str, str], printed: dict[tuple[str, str], dict[str, Number]]) -> PaperRow:
    return PaperRow(
        table=line["table"],
        number=int(line["row"]),
        section=line["section"],
        marker=line["marker"],
        label=line["label"],
        model=line["model"],
        image_size=image_size(line["image_size"]),
        check_sizes=tuple(image_size(size) for size in line["check_sizes"].split(";") if size),
        printed=printed.get((line["table"], line["row"]), {}),
        counter=line.get("counter", ""),
    )


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(text_of(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from error


def convnext() -> Publication:
    """The ConvNeXt paper, which visionbench ships."""
    return publication(FOLDER / "rows.csv", FOLDER / "numbers.csv", FOLDER / "protocols.csv")


def rows(table: str) -> tuple[PaperRow, ...]:
    """The printed rows of one table of the ConvNeXt paper, in order."""
    return convnext().rows(table)
