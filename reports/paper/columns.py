"""The columns that tables of papers share: labels, printed numbers, exact counts. `rates` has those of img/s."""

from __future__ import annotations

from collections.abc import Iterator

from visionbench.record.spec import Spec
from visionbench.record.units import GIGA, MEGA
from visionbench.reports import cells
from visionbench.reports.column import Column
from visionbench.reports.paper.counts import count_spec
from visionbench.reports.paper.material import Maker, Material, noted, sourced
from visionbench.reports.paper.slips import footnote
from visionbench.reports.printed import PaperRow
from visionbench.reports.table import Cell, Note, Unit

FLOPS = Note(
    term="FLOPs",
    text="the paper's word: multiply-accumulates of convolutions, linear layers and both attention products of one "
    "image; norms, activations and softmax are not counted.",
)


def counts_of(row: PaperRow) -> tuple[Spec, ...]:
    """The traces that a row's static columns and its footnote need."""
    return tuple(count_spec(row.model, size) for size in (row.image_size, *row.check_sizes))


def model(_material: Material, term: str = "", note: str = "") -> Iterator[Column[PaperRow]]:
    """The row's name with its marker. The qualified name is in `Row.subject`."""

    def fill(row: PaperRow) -> Cell:
        return cells.word(f"{row.marker} {row.label}".strip(), row.label)

    yield Column(key="model", head=("model",), align="left", notes=noted(term, note), fill=fill)


def image_size(_material: Material) -> Iterator[Column[PaperRow]]:
    """Pixels of the square input."""

    def fill(row: PaperRow) -> Cell:
        if not row.has_size:
            return Cell()
        return cells.word(str(row.image_size), row.image_size if isinstance(row.image_size, int) else None)

    yield Column(key="image_size", head=("size",), unit="px", rank=1, fill=fill)


def counted(material: Material, metric: str) -> Iterator[Column[PaperRow]]:
    """A printed count ("params" or "macs") beside the exact one; where they disagree a footnote says why."""
    group, notes = ("FLOPs (G)", (FLOPS,)) if metric == "macs" else (f"{metric} (M)", ())

    def printed_count(row: PaperRow) -> Cell:
        said = footnote(row, metric, material.counts, material.publication)
        return cells.published(row.printed.get(metric), notes=[said])

    yield sourced("published", f"{metric}_published", group, (), "count", 4, printed_count, notes)
    yield from exact(material, metric, group, 3, scale=GIGA if metric == "macs" else MEGA, notes=notes)


def exact(
    material: Material,
    metric: str,
    group: str,
    rank: int,
    term: str = "",
    note: str = "",
    *,
    scale: float = MEGA,
    notes: tuple[Note, ...] = (),
) -> Iterator[Column[PaperRow]]:
    """An exact count of one image alone, shown in millions."""

    def fill(row: PaperRow) -> Cell:
        record = material.counts.by_spec.get(count_spec(*row.network))
        return cells.computed(record.value(metric) if record else None, scale, 2, record, metric=metric)

    yield sourced("computed", f"{metric}_computed", group, (), "count", rank, fill, notes or noted(term, note))


def printed(
    material: Material,
    metric: str,
    head: str,
    unit: Unit,
    rank: int,
    key: str = "",
    group: str = "",
    table: str = "",
    term: str = "",
    note: str = "",
) -> Iterator[Column[PaperRow]]:
    """Another printed number: of the row itself, or of the row of `table` that prints the same network."""

    def fill(row: PaperRow) -> Cell:
        if not table:
            return cells.published(row.printed.get(metric))
        others = (other for other in material.publication.prints(metric, row.network) if other.table == table)
        return cells.published(next((other.printed[metric] for other in others), None))

    key = key or f"{metric}_published"
    yield sourced("published", key, group, (head,), unit, rank, fill, noted(term, note))


COLUMNS: dict[str, Maker] = {
    "model": Maker(columns=model),
    "image_size": Maker(columns=image_size),
    "counts": Maker(columns=counted, specs=counts_of),
    "exact": Maker(columns=exact, specs=counts_of),
    "printed": Maker(columns=printed),
}
