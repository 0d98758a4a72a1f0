"""Which model a printed label names: by the labels of the shipped papers, then by the names of models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from visionbench.record.spec import ImageSize

SIZES = {
    "a": "atto", "f": "femto", "p": "pico", "n": "nano", "t": "tiny", "s": "small", "m": "medium", "b": "base",
    "l": "large", "h": "huge", "g": "giant", "xs": "xsmall", "xt": "xtiny", "xxt": "xxtiny", "xl": "xlarge",
    "xxs": "xxsmall", "ti": "tiny",
}  # fmt: skip
"""What a letter after a hyphen means in most papers."""

_FAMILIES = {"effnet": "efficientnet", "effnetv2": "efficientnetv2", "mixer": "mixer", "vision transformer": "vit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The model that a label names, "" for none that is certain; `candidates` are those that it may mean."""

    model: str
    candidates: tuple[str, ...] = ()


def tokens(text: str) -> tuple[str, ...]:
    """A label or a name in its parts, small letters: `Swin-T` -> swin, tiny."""
    lower = text.lower().partition(":")[2] or text.lower()
    for word, full in _FAMILIES.items():
        lower = re.sub(rf"\b{word}\b", full, lower)
    parts = [part for part in re.split(r"[^a-z0-9.]+", lower) if part]
    parts = [re.sub(r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])", " ", part).split() for part in parts]
    flat = [piece for part in parts for piece in part]
    return tuple(SIZES.get(piece, piece) if i else piece for i, piece in enumerate(flat))


_FILLING = frozenset(("patch", "window", "tf", "in", "v", "k", "m", "gf", "224", "256", "288", "384", "448", "512"))
"""Parts of a name that a label mostly leaves out."""


def resolve(label: str, size: int, names: Iterable[str]) -> Match:
    """The model of a printed label at that size (pixels; 0: not printed) among the qualified `names`."""
    if printed := _printed().get(_plain(label)):
        fitting = [model for model, sizes in printed.items() if (size or 224) in sizes] or list(printed)
        usual = [model for model in fitting if model.startswith("timm:")] or fitting
        if len(usual) == 1:
            return Match(model=usual[0])
    known = tuple(names)
    plain = {_plain(name.partition(":")[2]): name for name in reversed(known)}
    if name := plain.get(_plain(label)):
        return Match(model=name)
    wanted = tokens(label)
    holding = [(name, left) for name in known if (left := _left(tokens(name), wanted)) is not None]
    exact = [name for name, left in holding if set(left) <= _FILLING or all(p.isdigit() or p in _FILLING for p in left)]
    best = _sized(exact, size)
    near = tuple(sorted((name for name, _ in holding), key=len))[:3]
    return Match(model=best[0] if len(best) == 1 else "", candidates=tuple(best[:3]) or near)


def _left(name: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...] | None:
    """The parts of a name that the label does not say; None where it says one that the name lacks."""
    rest = list(name)
    for part in wanted:
        if part not in rest:
            return None
        rest.remove(part)
    return tuple(rest) if wanted and name[0] == wanted[0] else None


def _sized(names: Sequence[str], size: int) -> list[str]:
    """Of those, the ones that are named after this size; else those that are named after none, or after 224."""
    at = [name for name in names if size and re.search(rf"_{size}$", name)]
    usual = [name for name in names if not re.search(r"_\d{3}$", name) or name.endswith("_224")]
    chosen = at or usual or list(names)
    shortest = min((len(tokens(name)) for name in chosen), default=0)
    return [name for name in chosen if len(tokens(name)) == shortest]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "", text.lower())


@lru_cache(maxsize=1)
def _printed() -> dict[str, dict[str, frozenset[ImageSize]]]:
    """By label, as the shipped papers print it: the models that it names, and at which sizes."""
    from visionbench.reports import REPORTS

    labels: dict[str, dict[str, frozenset[ImageSize]]] = {}
    for tables in REPORTS.papers().values():
        for row in (row for table in tables.values() for row in table.rows if row.model):
            models = labels.setdefault(_plain(row.label), {})
            models[row.model] = models.get(row.model, frozenset()) | {row.image_size}
    return labels
