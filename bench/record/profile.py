"""Exact counts by network, in enough parts to count as others do.

A trace makes a profile (`visionbench.tracing.profile`), the audit of papers reads it (`visionbench.reports.audit`), and
a paper's table shows its params and MACs. As CSV one line is a network: what was counted, by which torch and timm, and
one column per part. Every part is of one image, in base units.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

from visionbench.record.errors import BenchError
from visionbench.record.spec import ImageSize, image_size

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
    "macs_depthwise",
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
    "elements_bias_depthwise",
    "elements_add",
    "elements_multiply",
    "peak_memory_live",
)
"""`*_hooked`: called by a module of torch's own (`nn.Conv2d`, `nn.Linear`), where a hook sees it; `macs_products`:
products of two activations, as in attention; `macs_position`: of what makes attention's bias from positions, a network
or a product that looks it up; `elements_*`: outputs of such operators, of pools the inputs; the softmax of a fused
attention is one. `*_depthwise` are a share of the convolutions' and of the biases'; `peak_memory_live`: bytes of
a training step of `TRAINED` images, only of that variant."""


FUSED, FIRST, LAST, MORE, LESS = "fused", "strided first", "strided last", "a token more", "a token less"
QUERIES = "queries of every token"
"""Forms of a network, which `tracing.profile` makes."""

TRAINING, TRAINED = "training", 32
"""The variant that holds nothing but the memory of a training step (`tracing.profile`), and of how many images that is.
"""


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
    """The profiles of a CSV text; lines that were cut short, by a crash, are left out.

    Raises ValueError for a text that is no such table.
    """
    whole = text[: text.rfind("\n") + 1]  # the end of a line that was cut short may look like a smaller number
    lines = csv.DictReader(io.StringIO(whole))
    try:
        if missing := set(KEY) - set(lines.fieldnames or KEY):
            raise ValueError(f"it has no column {min(missing)}")
        return [profile for line in lines if (profile := _profile(line)) is not None]
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error


def _profile(line: dict[str | None, str | None]) -> Profile | None:
    """The profile of a line; None for one that was cut short or torn."""
    words = {name: value for name, value in line.items() if name is not None and isinstance(value, str)}
    if len(words) != len(line):
        return None
    counts = {name: words.get(name) or "0" for name in PARTS} if not words["error"] else {}
    if not all(map(_COUNT.fullmatch, counts.values())):
        return None
    try:
        size, own = image_size(words["size"]), words["own_size"]
        return Profile(
            **{name: words[name] for name in KEY if name not in ("size", "own_size")},
            size=size,
            own_size=image_size(own) if own.strip("0") else 0,
            parts={name: int(count) for name, count in counts.items()},
        )
    except BenchError:  # a size that is none
        return None


_COUNT = re.compile(r"\d{1,19}", re.ASCII)


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
