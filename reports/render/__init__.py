"""One renderer per format, all over the same `Table`, so that a number cannot differ between two of them."""

from __future__ import annotations

from visionbench.record.clean import without_commands
from visionbench.record.errors import choose
from visionbench.reports.table import Table, cleaned

FORMATS: tuple[str, ...] = ("terminal", "markdown", "latex", "csv", "json", "html")


def render(
    table: Table,
    format: str,  # noqa: A002
    width: int | None = None,
    *,
    colour: bool = False,
    notes: bool = True,
) -> str:
    """The table as text that ends with a newline.

    `width` (columns) and `colour` are for the terminal alone: a table wider than `width` is folded, and what
    that leaves out is said below it; None folds nothing. `notes` is for LaTeX alone: a paragraph about the columns
    below the float. Raises `BenchError` for a format that is not in `FORMATS`.
    """
    choose("format", format, FORMATS)
    table = cleaned(table)
    # Each renderer is imported when it is needed: `--help` and the other formats never pay for rich.
    if format == "terminal":
        from visionbench.reports.render.terminal import terminal

        text = terminal(table, width, colour=colour)
    elif format == "markdown":
        from visionbench.reports.render.markdown import markdown

        text = markdown(table)
    elif format == "latex":
        from visionbench.reports.render.latex import latex

        text = latex(table, notes=notes)
    elif format == "html":
        from visionbench.reports.render.html import page

        text = page((table,))
    else:
        from visionbench.reports.render import flat

        text = flat.to_csv(table) if format == "csv" else flat.to_json(table)
    return without_commands(text)
