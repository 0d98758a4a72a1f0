"""The exact counts that come with visionbench (`papers/counts.csv`), and what is known of a model without timm."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from visionbench.record.metrics import measurement
from visionbench.record.profile import Profile, Profiles, by_network, parse
from visionbench.record.record import Environment, Record
from visionbench.record.spec import ImageSize
from visionbench.reports.paper.counts import count_spec

SHIPPED = Path(__file__).parent.parent / "papers" / "counts.csv"


def record(profile: Profile) -> Record:
    """The counts that a table shows, as a computed record."""
    environment = Environment(device_type="meta", torch=profile.torch, timm=profile.timm)
    shown = tuple(measurement(name, (profile.parts[name],)) for name in ("params", "macs", "activations"))
    spec = count_spec(profile.model, profile.size)
    return Record(spec=spec, protocol=None, environment=environment, measurements=shown, source="computed")


@lru_cache(maxsize=1)
def shipped() -> Profiles:
    """The counts that come with visionbench: every network of the shipped papers."""
    return by_network(parse(SHIPPED.read_text(encoding="utf-8"))) if SHIPPED.exists() else {}


@lru_cache(maxsize=1)
def _own_sizes() -> dict[str, ImageSize]:
    return {model: profile.own_size for (model, _, _), profile in shipped().items() if profile.own_size}


def own_size(model: str) -> ImageSize:
    """The size that a model is trained on, as far as it has been counted; else 224 pixels."""
    return _own_sizes().get(model, 224)


def qualified(name: str) -> str:
    """A name with its home: a bare one is timm's, if it is not known as another's; "" stays "". No timm is loaded."""
    if not name or ":" in name:
        return name
    paper = f"paper:{name}"
    return paper if name.startswith(("convnext_original_", "convnext_iso_")) else f"timm:{name}"


def records(networks: Iterable[tuple[str, ImageSize]]) -> list[Record]:
    """The shipped counts of those networks, as records."""
    known = shipped()
    counted = (known.get((model, size, "")) for model, size in dict.fromkeys(networks))
    return [record(profile) for profile in counted if profile and profile.parts]


def slug(text: str) -> str:
    """A text as part of a column's key."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
