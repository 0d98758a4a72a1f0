"""How figures look: one palette in a light and a dark dress, one font, sizes in millimetres as they are printed.

The hues are those of Okabe and Ito ("Color universal design", 2008), which people with any colour vision tell apart;
where one is too pale for thin marks on white it is darkened, and on a dark ground lightened, to a contrast of at least
3 : 1 (WCAG 2.1). No figure relies on colour alone: every colour also has a marker's shape or a hatch. The font is
DejaVu Sans, which comes with matplotlib, so that a label measures the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

ThemeName = Literal["light", "dark"]

FONT = "DejaVu Sans"

POINT = 25.4 / 72
"""Millimetres of a typographic point."""

PAGE, COLUMN = 178.0, 85.0
"""Millimetres: the text of a two-column page, and one of its columns."""

SLIDE = 128.0
"""Millimetres on which a slide is laid out; shown at 338.7 mm (13.33 in) its smallest type is of 16 points."""

SLIDE_ASPECT = 16 / 9

NARROW = 120.0
"""Below this width panels stand above each other."""

TITLE, BODY, SMALL = 9.0, 7.0, 6.0
"""Points. Nothing is smaller than `SMALL`, at any width: a narrow figure is laid out anew, not shrunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Colours: the ground, `ink` for text, `muted` for what stands back, `grid`, and eight `hues` by name."""

    name: ThemeName
    ground: str
    ink: str
    muted: str
    grid: str
    hues: Mapping[str, str]


_HUES = {
    "blue": ("#0072b2", "#4aa3e0"),
    "vermillion": ("#d55e00", "#ee7733"),
    "green": ("#009e73", "#2dbd8e"),
    "purple": ("#b5578c", "#d98bb8"),
    "sky": ("#3a9bdc", "#8fd0f7"),
    "orange": ("#a87000", "#e6b422"),
    "grey": ("#767676", "#8b949e"),
    "black": ("#1a1a1a", "#eceff1"),
}
"""Each hue on a light and on a dark ground."""

_ON_LIGHT, _ON_DARK = (MappingProxyType({name: pair[at] for name, pair in _HUES.items()}) for at in (0, 1))
LIGHT = Theme(name="light", ground="#ffffff", ink="#1a1a1a", muted="#5c5c5c", grid="#e3e3e3", hues=_ON_LIGHT)
DARK = Theme(name="dark", ground="#15181c", ink="#eceff1", muted="#a9b2ba", grid="#30363d", hues=_ON_DARK)

THEMES: dict[str, Theme] = {theme.name: theme for theme in (LIGHT, DARK)}


def tinted(theme: Theme, hue: str) -> str:
    """A hue halfway to ink: still that hue, and dark (or light) enough for small text."""
    hue, ink = theme.hues[hue], theme.ink
    channels = ((int(hue[at : at + 2], 16), int(ink[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{(a + b) // 2:02x}" for a, b in channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A theme at a width in millimetres. A `slide` has a height that its body must fit, and no notes."""

    theme: Theme = LIGHT
    width: float = PAGE
    slide: bool = False

    @property
    def narrow(self) -> bool:
        """Whether panels stand above each other."""
        return self.width < NARROW


def settings(theme: Theme) -> dict[str, Any]:
    """Matplotlib's settings for a theme: all that is not said where it is drawn."""
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": theme.muted,
        "axes.facecolor": theme.ground,
        "axes.grid": True,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": SMALL,
        "axes.linewidth": 0.5,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.edgecolor": theme.ground,
        "figure.facecolor": theme.ground,
        "font.family": [FONT],
        "font.size": BODY,
        "grid.color": theme.grid,
        "grid.linewidth": 0.4,
        "hatch.color": theme.ground,
        "hatch.linewidth": 0.6,
        "pdf.fonttype": 42,
        "savefig.edgecolor": theme.ground,
        "savefig.facecolor": theme.ground,
        "svg.fonttype": "path",
        "svg.hashsalt": "visionbench",
        "text.color": theme.ink,
        "text.hinting": "none",
        **{f"{axis}tick.color": theme.muted for axis in "xy"},
        **{f"{axis}tick.labelsize": SMALL for axis in "xy"},
        **{f"{axis}tick.major.size": 2.0 for axis in "xy"},
        **{f"{axis}tick.major.width": 0.5 for axis in "xy"},
    }
