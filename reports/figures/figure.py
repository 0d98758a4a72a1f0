"""What a figure is to the rest of the house: a name, the counts that it needs, and a way from evidence to a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionbench.comparison.comparison import Comparison
from visionbench.record.errors import BenchError
from visionbench.record.record import Record
from visionbench.record.spec import ImageSize, Precision, Spec
from visionbench.reports.figures.style import Look
from visionbench.reports.paper.counts import count_spec
from visionbench.reports.printed import Network, PaperRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MissingError(BenchError):
    """There is nothing to draw. The sentence says what to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What figures of one model or one device are about; the others do not ask.

    `panels` are parts of the names of the panels to draw; () draws all. `model` is a qualified name, `device` a GPU's
    key or its beginning (`a100`). Without a `precision` it is TF32 where the device has that, as in the paper's Table
    12, else fp32.
    """

    model: str = "timm:convnext_tiny"
    image_size: ImageSize | None = None
    device: str = "a100-sxm4-80gb"
    precision: Precision | None = None
    panels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that figures are drawn from: records of any source, comparisons, and what a user chose.

    `rows` are of the user's own tables: networks with an accuracy, drawn beside the paper's and emphasised. `alone`:
    they are a whole table, with the user's rows set apart, which is drawn instead of the paper's. `title`: its title.
    """

    records: Sequence[Record] = ()
    comparisons: Sequence[Comparison] = ()
    choice: Choice = Choice()
    rows: tuple[PaperRow, ...] = ()
    alone: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A trace that a figure wants and the evidence does not hold: the spec, traced by a visionbench that counts enough.

    An older record of the same spec may lack a `metric` that came later.
    """

    spec: Spec
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One figure. `needs` lists missing traces; `paint` draws, or raises `MissingError`.

    `paint` works within `canvas.styled` (see `visionbench.reports.figures.draw`), and never from a number that it
    cannot name the source of.
    """

    name: str
    title: str
    paint: Callable[[Evidence, Look], Figure]
    needs: Callable[[Evidence], tuple[Need, ...]] = lambda _evidence: ()


def lacking(evidence: Evidence, networks: Iterable[Network]) -> tuple[Need, ...]:
    """The counts of one image of these networks that no record holds."""
    traces = [record for record in evidence.records if record.source == "computed"]
    held = {(record.spec, measurement.metric) for record in traces for measurement in record.measurements}
    wanted = (Need(spec=count_spec(*network), metric="macs") for network in dict.fromkeys(networks))
    return tuple(need for need in wanted if (need.spec, need.metric) not in held)
