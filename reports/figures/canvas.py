"""From a look to a matplotlib figure and on to bytes, with no global state and nothing in the file but the picture.

A sheet is laid out in millimetres from its lower left corner: title and legend above, sentences below, the body between
them, whose height the figure chooses. matplotlib's object-oriented interface only: `pyplot` keeps figures and a current
one in global state. matplotlib is imported inside functions, because listing figures should not cost it.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import escape

from visionbench.record.clean import clean
from visionbench.reports.figures.place import Box
from visionbench.reports.figures.style import BODY, FONT, POINT, SLIDE_ASPECT, SMALL, TITLE, Look, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "pdf", "png"]
FORMATS: tuple[Format, ...] = ("svg", "pdf", "png")

DPI = 200
"""Dots per inch of a PNG, and of the grid on which texts are measured."""

HEAD, NOTE = "head", "note"
"""The groups of the lines of a sheet's title, and of the sentences at its foot."""

EDGE = 2.0
"""Millimetres that stay free at a sheet's edges."""

LINE = 1.35
"""Height of a line over the size of its font."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a legend: a word with its mark. `marker` is matplotlib's letter, "-" for a line, "#" for a bar."""

    word: str
    marker: str
    colour: str
    hollow: bool = False
    hatch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A figure with its look. The body is between `bottom` and `top` (mm from the lower edge), in full width."""

    figure: Figure
    look: Look
    height: float
    bottom: float
    top: float


@contextmanager
def styled(look: Look) -> Iterator[None]:
    """The settings of matplotlib as it comes, then ours, for the time of a drawing; afterwards the caller's are
    back.
    """
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        parameters: Any = mpl.rcParams  # typed by name in some versions of matplotlib and not in others
        parameters.update(settings(look.theme))
        yield


@functools.cache
def size(text: str, points: float, bold: bool = False) -> tuple[float, float]:
    """Width and height of one line of text in mm, as the renderer sets it."""
    from matplotlib.backends import backend_agg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=[FONT], size=points, weight="bold" if bold else "normal")
    agg: Any = backend_agg  # without types
    width, height, _ = agg.RendererAgg(8, 8, DPI).get_text_width_height_descent(text, font, ismath=False)
    return width / DPI * 25.4, height / DPI * 25.4


def line(points: float) -> float:
    """Height of a line in mm."""
    return points * POINT * LINE


def wrapped(text: str, points: float, width: float, bold: bool = False) -> list[str]:
    """A printable text in lines that are no wider than `width` mm."""
    lines = [""]
    for word in clean(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and size(longer, points, bold)[0] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


class TooTallError(Exception):
    """A body that does not fit a slide of this width; `height` mm would hold it."""

    def __init__(self, height: float) -> None:
        super().__init__(f"{height:.0f} mm are needed")
        self.height = height


def sheet(
    look: Look,
    title: str,
    body: float,
    sentences: Sequence[str],
    legend: Sequence[Entry] = (),
    *,
    flexible: bool = False,
) -> Sheet:
    """An empty sheet around a body of that height: title and legend above it, what is to be known below.

    Of the `sentences` those that are empty are left out. On a slide nothing is below, and a `flexible` body takes what
    is left. Raises `TooTallError` where another one is too high.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    inner = look.width - 2 * EDGE
    heading = wrapped(title, TITLE, inner, bold=True)
    marks = _placed(legend, inner)
    said = () if look.slide else sentences
    notes = [one for sentence in said if sentence for one in wrapped(sentence, SMALL, inner)]
    rows = marks[-1][0] + 1 if marks else 0
    above = EDGE + len(heading) * line(TITLE) + rows * line(BODY) + (1.0 if rows else 0.0) + 1.0
    below = EDGE + len(notes) * line(SMALL) + 1.0
    height = above + body + below
    if look.slide:
        needed, height = height, look.width / SLIDE_ASPECT
        if needed > height and not flexible:
            raise TooTallError(needed)
        body = height - above - below if flexible else body
        below = height - above - body
    figure = Figure(figsize=(look.width / 25.4, height / 25.4), dpi=DPI)
    FigureCanvasAgg(figure)
    made = Sheet(figure=figure, look=look, height=height, bottom=below, top=below + body)
    for number, text in enumerate(heading):
        top = height - EDGE - number * line(TITLE)
        write(made, EDGE, top, text, points=TITLE, bold=True, vertical="top", group=HEAD)
    for number, text in enumerate(notes):
        top, colour = below - 1.0 - number * line(SMALL), look.theme.muted
        write(made, EDGE, top, text, points=SMALL, colour=colour, vertical="top", group=NOTE)
    for row, x, entry in marks:
        y = height - EDGE - len(heading) * line(TITLE) - 1.0 - (row + 0.5) * line(BODY)
        _mark(made, entry, x, y)
        write(made, x + _KEY, y, entry.word, vertical="center")
    return made


def write(
    made: Sheet,
    x: float,
    y: float,
    text: str,
    *,
    points: float = BODY,
    colour: str = "",
    bold: bool = False,
    across: Literal["left", "center", "right"] = "left",
    vertical: Literal["baseline", "center", "top", "bottom"] = "baseline",
    boxed: bool = False,
    group: str | None = None,
) -> None:
    """One line of text, at mm of the sheet. `boxed`: it covers the lines below it. `group`: `HEAD` or `NOTE`.

    Without control characters: names come from records, records from anywhere, and an SVG with one is no XML.
    """
    ground = {"facecolor": made.look.theme.ground, "linewidth": 0, "pad": 1.0}
    made.figure.text(
        x / made.look.width,
        y / made.height,
        clean(text),
        fontsize=points,
        color=colour or made.look.theme.ink,
        fontweight="bold" if bold else "normal",
        horizontalalignment=across,
        verticalalignment=vertical,
        parse_math=False,
        bbox=ground if boxed else None,
        gid=group,
    )


def axes(made: Sheet, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes whose frame is at those mm; tick labels are outside of it."""
    return made.figure.add_axes(
        (left / made.look.width, bottom / made.height, width / made.look.width, height / made.height)
    )


def frame(axes: Axes) -> Box:
    """The axes' frame in mm of the sheet."""
    box = axes.get_window_extent()
    left, bottom, right, top = (float(edge) / DPI * 25.4 for edge in (box.x0, box.y0, box.x1, box.y1))
    return Box(left=left, bottom=bottom, right=right, top=top)


def spot(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """A point of the axes in mm of the sheet."""
    across, up = axes.transData.transform((x, y))
    return float(across) / DPI * 25.4, float(up) / DPI * 25.4


_KEY = 4.5
"""Millimetres of a legend's mark, with the gap to its word."""


def _placed(legend: Sequence[Entry], width: float) -> list[tuple[int, float, Entry]]:
    """The entries of a legend, each with its row and where it begins, in mm from the left."""
    placed: list[tuple[int, float, Entry]] = []
    row, x = 0, EDGE
    for entry in legend:
        wide = _KEY + size(entry.word, BODY)[0]
        if placed and x - EDGE + wide > width:
            row, x = row + 1, EDGE
        placed.append((row, x, entry))
        x += wide + 3.5
    return placed


def _mark(made: Sheet, entry: Entry, x: float, y: float) -> None:
    """A legend's mark in the middle of its 3.5 mm."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    across, up = 1 / made.look.width, 1 / made.height
    if entry.marker == "#":
        corner = (x * across, (y - 1.0) * up)
        bar = Rectangle(corner, 3.5 * across, 2.0 * up, facecolor=entry.colour, hatch=entry.hatch, linewidth=0)
        made.figure.add_artist(bar)
    elif entry.marker == "-":
        made.figure.add_artist(Line2D([x * across, (x + 3.5) * across], [y * up] * 2, color=entry.colour, linewidth=1))
    else:
        face = made.look.theme.ground if entry.hollow else entry.colour
        style = {"marker": entry.marker, "markersize": 5, "markerfacecolor": face, "markeredgecolor": entry.colour}
        made.figure.add_artist(Line2D([(x + 1.75) * across], [y * up], linestyle="none", **style))  # type: ignore[arg-type]


SHOWN, SHOWN_DPI = 13 + 1 / 3, 300
"""Inches that a slide is wide where it is shown, and dots per inch of its PNG there: 4,000 in a row."""


def encode(figure: Figure, file_format: Format, *, slide: bool = False) -> bytes:
    """The figure as a file. The same figure gives the same bytes: no date, no random names.

    A `slide` is enlarged to the size at which slides are shown. For readers who cannot see it the file holds its title
    and the sentences at its foot.
    """
    buffer, larger = io.BytesIO(), SHOWN / figure.get_size_inches()[0]
    title, description = (
        " ".join(text.get_text() for text in figure.texts if text.get_gid() == group) for group in (HEAD, NOTE)
    )
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Creator": None, "Type": None, "Format": None},
        "pdf": {"CreationDate": None, "Creator": "visionbench", "Title": title, "Subject": description},
        "png": {"Software": None, "Title": title, "Description": description},
    }
    how: dict[str, Any] = {"dpi": DPI}
    if slide and file_format == "png":
        how = {"dpi": SHOWN_DPI * larger, "pil_kwargs": {"dpi": (SHOWN_DPI, SHOWN_DPI)}}
    figure.savefig(buffer, format=file_format, metadata=metadata[file_format], **how)
    if file_format != "svg":
        return buffer.getvalue()
    return _self_contained(buffer.getvalue().decode(), title, description, larger if slide else 1.0).encode()


def height_of(file: bytes, file_format: Format) -> float:
    """How tall an encoded figure is, in mm, where it is not enlarged."""
    if file_format == "png":
        return int.from_bytes(file[20:24], "big") / DPI * 25.4
    found = re.search(rb'height="([\d.]+)pt"' if file_format == "svg" else rb"/MediaBox \[ ?0 0 [\d.]+ ([\d.]+)", file)
    return float(found[1]) * POINT if found else 0.0


def _self_contained(text: str, title: str, description: str, larger: float) -> str:
    """Without the document type and metadata, which name addresses elsewhere; with words for who cannot see it.

    The picture is `larger` times as wide and high: its `viewBox` stays.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    if larger != 1.0:
        sizes = r'\b(width|height)="([\d.]+)pt"'
        opening = re.sub(sizes, lambda size: f'{size[1]}="{float(size[2]) * larger:.2f}pt"', opening)
    words = f"<title>{escape(title)}</title>\n <desc>{escape(description)}</desc>\n"
    return f'{opening} role="img">\n {words}{rest.lstrip()}'
