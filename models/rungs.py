"""The road from a ResNet to ConvNeXt as data: each `Rung` is the one before with the named fields changed.

Source: arXiv 2201.03545v2, section 2 (the story), Figure 2 (the picture), Tables 10 and 11 in Appendix C (the
numbers: the regime of ResNet-50 / Swin-T, `t`, and that of ResNet-200 / Swin-B, `b`). The authors
published no code for the steps between, so where the text leaves a choice we take it literally, *changing
only what a step names*:

- Patchify: the stem *cell* (convolution, norm, ReLU, pooling) becomes one bare convolution; a norm "after the
  stem" arrives with the last step, which lists it among its additions.
- Fewer activations / norms speak of the residual branch. The projection shortcut keeps its norm until it
  disappears.
- BN -> LN turns the 1 x 1 convolutions into linear layers on channels last, as the authors run them; the same
  MACs.
- Stochastic depth belongs to the recipe, which section 2.1 holds fixed along the whole road: the rate of
  ConvNeXt-T (0.1) or ConvNeXt-B (0.5), Table 5. The first row of each table is the same network under an
  older recipe.
- Layer scale (1e-6) is a setting of the finished ConvNeXt in Table 5 and no step names it: it is in the last
  rung only.

None of these choices changes the MACs, and the MACs are what the tables print as "FLOPs": 33 of 36 rows come
out to two decimals. The three that do not are slips of Table 10 (exact GMACs beside the printed ones):

    BN->LN                           4.146  printed 4.46   a norm has no MACs; Table 11 keeps 14.81
    separate d.s. conv (ConvNeXt-T)  4.456  printed 4.49   4.46 is this row's, one row too high,
    Swin-T                           4.491  printed 4.50   and 4.49 is this row's, one row too high
"""

from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One network of the road, complete; `visionbench.models.roadmap` builds it.

    `table` and `labels` are the paper's table and its row's words, verbatim (two rows for the starting point:
    one network, two recipes). `depths` are the blocks per stage. `width` is the channels of stage 1, doubled
    at every stage: those of the 3 x 3 convolution in a bottleneck, whose output is four times wider, and
    those of the stage itself in the later blocks. `norms` and `activations` tell which of the branch's three
    convolutions are followed by one; an activation after the third comes after the sum with the shortcut.
    """

    table: Literal[10, 11]
    labels: tuple[str, ...]
    depths: tuple[int, int, int, int]
    width: int
    drop_path: float
    stem: Literal["resnet", "patchify"] = "resnet"
    block: Literal["bottleneck", "inverted", "moved_up"] = "bottleneck"
    depthwise: bool = False
    kernel: int = 3
    activation: Literal["relu", "gelu"] = "relu"
    norm: Literal["batch", "layer"] = "batch"
    activations: tuple[bool, bool, bool] = (True, True, True)
    norms: tuple[bool, bool, bool] = (True, True, True)
    separate_downsampling: bool = False
    layer_scale: float | None = None


Step = tuple[str, str, dict[str, Any]]
"""A rung's name, the paper's words for it, and the fields that change."""

_SHARED: tuple[Step, ...] = (
    ("inverted", "inverting dimensions", {"block": "inverted"}),
    ("move_up", "move up depthwise conv", {"block": "moved_up"}),
    ("kernel5", "kernel size 5", {"kernel": 5}),
    ("kernel7", "kernel size 7", {"kernel": 7}),
    ("kernel9", "kernel size 9", {"kernel": 9}),
    ("kernel11", "kernel size 11", {"kernel": 11}),
    # Accuracy saturates at 7, so the road goes on from there.
    ("gelu", "ReLU->GELU (k=7)", {"kernel": 7, "activation": "gelu"}),
    ("fewer_activations", "fewer activations", {"activations": (False, True, False)}),
    ("fewer_norms", "fewer norms", {"norms": (True, False, False)}),
    ("layer_norm", "BN->LN", {"norm": "layer"}),
)


def _road(first: str, start: Rung, convnext: str, *to_wide: Step) -> dict[str, Rung]:
    """The rungs of one table in its order, from `start` by the steps `to_wide` and those that both tables share."""
    last = (
        "separate_downsampling",
        f"separate d.s. conv ({convnext})",
        {"separate_downsampling": True, "layer_scale": 1e-6},
    )
    rungs, rung = {first: start}, start
    for name, label, changed in (*to_wide, *_SHARED, last):
        rungs[name] = rung = replace(rung, labels=(label,), **changed)
    return rungs


_DEPTHWISE: Step = ("depthwise", "depthwise conv", {"depthwise": True})

_TABLE_10 = _road(
    "resnet50",
    Rung(table=10, labels=("ResNet-50 (PyTorch)", "ResNet-50 (enhanced recipe)"), depths=(3, 4, 6, 3), width=64,
         drop_path=0.1),
    "ConvNeXt-T",
    ("stage_ratio", "stage ratio (3,3,9,3)", {"depths": (3, 3, 9, 3)}),
    ("patchify", '"patchify" stem 4x4/4', {"stem": "patchify"}),
    _DEPTHWISE,
    ("width", "increase width 64->96", {"width": 96}),
)  # fmt: skip
_TABLE_11 = _road(
    "resnet200",
    Rung(table=11, labels=("ResNet-200 (original recipe)", "ResNet-200 (enhanced recipe)"), depths=(3, 24, 36, 3),
         width=64, drop_path=0.5),
    "ConvNeXt-B",
    ("stage_ratio", "stage ratio and increase width", {"depths": (3, 3, 27, 3), "width": 84}),
    ("patchify", '"patchify" stem', {"stem": "patchify"}),
    _DEPTHWISE,
    ("width", "increase width 84->128", {"width": 128}),
)  # fmt: skip

RUNGS: dict[str, Rung] = {
    **{f"roadmap_t_{step}": rung for step, rung in _TABLE_10.items()},
    **{f"roadmap_b_{step}": rung for step, rung in _TABLE_11.items()},
}
"""Every rung by its bare name, in the order of the tables."""


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
