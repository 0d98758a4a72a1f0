"""Exact counts by network, in enough parts to count as others do.

A trace makes a profile (`visionbench.tracing.profile`), the audit of papers reads it (`visionbench.reports.audit`), and
a paper's table shows its params and MACs. As CSV one line is a network: what was counted, by which torch and timm, and
one column per part. Every part is of one image, in base units.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from visionbench.record.spec import SIZE, ImageSize, image_size

KEY = ("model", "size", "variant", "torch", "timm", "family", "own_size", "error")
"""What a line says beside its parts. `own_size` is what the model is trained on by default; `error` why it has none."""

PARTS = (
    "params",
    "params_classifier",
    "params_distillation",
    "params_norm",
    "params_position",
    "buffers",
    "macs",
    "activations",
    "macs_classifier",
    "macs_conv",
    "macs_conv_hooked",
    "macs_linear",
    "macs_linear_hooked",
    "macs_products",
    "macs_position",
    "elements_batch_norm",
    "elements_layer_norm",
    "elements_group_norm",
    "elements_relu",
    "elements_activation",
    "elements_softmax",
    "elements_pool",
    "elements_global_pool",
    "elements_upsample",
    "elements_bias",
    "elements_add",
    "elements_multiply",
)
"""`*_hooked`: called by a module of torch's own (`nn.Conv2d`, `nn.Linear`), where a hook sees it; `macs_products`:
products of two activations, as in attention; `macs_position`: of the networks that make attention's bias;
`elements_*`: outputs of such operators, of pools the inputs."""


FUSED, FIRST, LAST, MORE, LESS = "fused", "strided first", "strided last", "a token more", "a token less"
"""Forms of a network: `tracing.profile` makes the first, `tracing.forms` the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What was counted of one network: `variant` is "" or a form of it; `parts` is empty after an `error`."""

    model: str
    size: ImageSize
    variant: str = ""
    torch: str = ""
    timm: str = ""
    family: str = ""
    own_size: ImageSize = 0
    error: str = ""
    parts: dict[str, int]


Profiles = dict[tuple[str, ImageSize, str], Profile]
"""By model, image size and variant."""


def parse(text: str) -> list[Profile]:
    """The profiles of a CSV text; lines that were cut short, by a crash, are left out."""
    profiles = []
    for line in csv.DictReader(io.StringIO(text)):
        if None in line or any(value is None for value in line.values()):
            continue
        counted = not line["error"]
        parts = {name: int(line.get(name) or 0) for name in PARTS} if counted else {}
        words = {name: line[name] for name in KEY if name not in ("size", "own_size")}
        size, own = line["size"], line["own_size"]
        if not SIZE.fullmatch(size):
            continue
        profiles.append(
            Profile(**words, size=image_size(size), own_size=image_size(own) if own.strip("0") else 0, parts=parts)
        )
    return profiles


def format_lines(profiles: Iterable[Profile], *, head: bool = True) -> str:
    """The profiles as CSV, with the line of names before them."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if head:
        writer.writerow((*KEY, *PARTS))
    for profile in profiles:
        parts = [profile.parts.get(name, "") for name in PARTS]
        writer.writerow((*(_written(getattr(profile, name)) for name in KEY), *(value or "" for value in parts)))
    return file.getvalue()


def _written(value: object) -> object:
    """A value of a line: a size of two sides as `800x1280`, no size as nothing."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value or ""


def by_network(profiles: Iterable[Profile]) -> Profiles:
    """The profiles by network; a later one wins."""
    return {(profile.model, profile.size, profile.variant): profile for profile in profiles}
