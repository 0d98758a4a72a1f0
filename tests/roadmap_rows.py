"""Tables 10 and 11 of arXiv 2201.03545v2 row by row, with the model that computes each row."""

from dataclasses import dataclass

from visionbench.models.roadmap import RUNGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One printed row of Table 10 or 11 and the qualified name of the model that computes it."""

    table: int
    label: str
    model: str


def _rows(table: int, swin_label: str, swin: str) -> tuple[Row, ...]:
    climbed = tuple(
        Row(table=table, label=label, model=f"paper:{name}")
        for name, rung in RUNGS.items()
        if rung.table == table
        for label in rung.labels
    )
    return (*climbed, Row(table=table, label=swin_label, model=swin))


ROWS: tuple[Row, ...] = (
    *_rows(10, "Swin-T", "timm:swin_tiny_patch4_window7_224"),
    *_rows(11, "Swin-B", "timm:swin_base_patch4_window7_224"),
)
"""Both tables row by row, the Swin that the road is compared with included (timm's implementation)."""
