"""The road from a ResNet to ConvNeXt: one network that reads a `Rung`, and every rung as data.

Sources: arXiv 2201.03545v2, section 2 (the story), Figure 2 (the picture), Tables 10 and 11 in Appendix C (the numbers:
the regime of ResNet-50 / Swin-T, `t`, and that of ResNet-200 / Swin-B, `b`). Each rung is the one before with the named
fields changed. The authors published no code for the steps between, so where the text leaves a choice we take it
literally, *changing only what a step names*:

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

The shapes: four stages; stage i works at 1/4, 1/8, 1/16, 1/32 of the image. A branch is always three convolutions, and
what moves along the road is which of them is spatial and where the wide one sits. w is the stage's width; the stride s
is 2 in the first block of stages 2 to 4:

    bottleneck   1x1 to w,        3x3 (stride s),               1x1 to 4w          stage output 4w
    inverted     1x1 to 4w,       depthwise 3x3 on 4w (s),      1x1 to w           stage output w
    moved up     depthwise kxk on the block's input (s),  1x1 to 4w,  1x1 to w     stage output w

A 1 x 1 convolution costs C_in C_out MACs per position and a depthwise one only k^2 C, so from "depthwise conv" on
nearly all MACs are dense matrix products. The kernel size is almost free in MACs and not in time: a depthwise
convolution leaves the matrix units idle and is bound by what it reads and writes.
"""

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

from torch import Tensor, nn

from visionbench.models.residual import EPS, LayerNorm2d, Residual, convnext_branch, drop_path_rates, pooled_head


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One network of the road, complete.

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


class Roadmap(nn.Module):
    """The network of one rung: stem, four stages, global average pool, head; weights not trained."""

    def __init__(self, rung: Rung) -> None:
        super().__init__()
        outputs = stage_channels(rung)
        self.stem = stem(rung)
        self.stages = nn.Sequential(*stages(rung))
        # The LN after pooling is one of those the last step adds.
        final = nn.LayerNorm(outputs[-1], eps=EPS) if rung.separate_downsampling else nn.Identity()
        self.head = pooled_head(outputs[-1], final)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> logits (N, 1000); H and W at least 32 pixels."""
        logits: Tensor = self.head(self.stages(self.stem(images)))
        return logits


def build(name: str) -> Roadmap:
    """The network of one of `RUNGS`."""
    return Roadmap(RUNGS[name])


def stage_channels(rung: Rung) -> tuple[int, ...]:
    """Channels that leave each of the four stages."""
    expansion = 4 if rung.block == "bottleneck" else 1
    return tuple(expansion * rung.width * 2**i for i in range(4))


def stem(rung: Rung) -> nn.Sequential:
    """(N, 3, H, W) -> (N, width, H / 4, W / 4)."""
    if rung.stem == "resnet":
        conv = nn.Conv2d(3, rung.width, 7, 2, 3, bias=False)
        return nn.Sequential(conv, norm(rung, rung.width), activation(rung), nn.MaxPool2d(3, 2, 1))
    patches = nn.Conv2d(3, rung.width, 4, 4)
    if rung.separate_downsampling:
        return nn.Sequential(patches, norm(rung, rung.width))
    return nn.Sequential(patches)


def stages(rung: Rung) -> list[nn.Sequential]:
    """The four stages; the stochastic depth rates climb over the blocks of all of them together."""
    rates = drop_path_rates(rung.drop_path, sum(rung.depths))
    ends = accumulate(rung.depths, initial=0)
    inputs = (rung.width, *stage_channels(rung)[:3])
    return [
        stage(rung, index, c_in, rates[begin:end])
        for index, (c_in, (begin, end)) in enumerate(zip(inputs, pairwise(ends), strict=True))
    ]


def stage(rung: Rung, index: int, c_in: int, rates: tuple[float, ...]) -> nn.Sequential:
    """Stage `index` (0 to 3); every one but the first halves the resolution on entering."""
    c_out, stride = stage_channels(rung)[index], 1 if index == 0 else 2
    layers: list[nn.Module] = []
    if rung.separate_downsampling and index > 0:
        layers = [norm(rung, c_in), nn.Conv2d(c_in, c_out, 2, 2)]
    if rung.separate_downsampling:
        c_in, stride = c_out, 1
    layers.append(block(rung, c_in, c_out, stride, rates[0]))
    layers += [block(rung, c_out, c_out, 1, rate) for rate in rates[1:]]
    return nn.Sequential(*layers)


def block(rung: Rung, c_in: int, c_out: int, stride: int, drop_path: float) -> Residual:
    """One residual block, (N, c_in, H, W) -> (N, c_out, H / stride, W / stride)."""
    if rung.norm == "layer":
        branch = convnext_branch(c_in, c_out, kernel=rung.kernel, stride=stride, layer_scale=rung.layer_scale)
    else:
        branch = batch_norm_branch(rung, c_in, c_out, stride)
    return Residual(
        branch,
        shortcut=projection(rung, c_in, c_out, stride),
        after=activation(rung) if rung.activations[2] else nn.Identity(),
        drop_path=drop_path,
    )


def batch_norm_branch(rung: Rung, c_in: int, c_out: int, stride: int) -> nn.Sequential:
    """Three convolutions, each followed by what the rung's `norms` and `activations` put there."""
    layers: list[nn.Module] = []
    for place, conv in enumerate(three_convolutions(rung, c_in, c_out, stride)):
        layers.append(conv)
        if rung.norms[place]:
            layers.append(norm(rung, conv.out_channels))
        # The third one's activation comes after the sum: `Residual.after`.
        if rung.activations[place] and place < 2:
            layers.append(activation(rung))
    return nn.Sequential(*layers)


def three_convolutions(rung: Rung, c_in: int, c_out: int, stride: int) -> tuple[nn.Conv2d, ...]:
    """The table in this module's docstring: what is wide and what is spatial in each kind of block."""
    # A BN subtracts the mean, and with it any bias before it.
    bias = tuple(not normed for normed in rung.norms)
    k, pad = rung.kernel, rung.kernel // 2
    if rung.block == "moved_up":
        return (
            nn.Conv2d(c_in, c_in, k, stride, pad, groups=c_in, bias=bias[0]),
            nn.Conv2d(c_in, 4 * c_out, 1, bias=bias[1]),
            nn.Conv2d(4 * c_out, c_out, 1, bias=bias[2]),
        )
    inner = 4 * c_out if rung.block == "inverted" else c_out // 4
    groups = inner if rung.depthwise else 1
    return (
        nn.Conv2d(c_in, inner, 1, bias=bias[0]),
        nn.Conv2d(inner, inner, k, stride, pad, groups=groups, bias=bias[1]),
        nn.Conv2d(inner, c_out, 1, bias=bias[2]),
    )


def projection(rung: Rung, c_in: int, c_out: int, stride: int) -> nn.Module:
    """The shortcut: identity where shapes allow, else ResNet's 1 x 1 convolution with the stride."""
    if c_in == c_out and stride == 1:
        return nn.Identity()
    conv = nn.Conv2d(c_in, c_out, 1, stride, bias=rung.norm == "layer")
    return nn.Sequential(conv, norm(rung, c_out))


def norm(rung: Rung, channels: int) -> nn.Module:
    """The rung's normalisation of a map (N, channels, H, W)."""
    return nn.BatchNorm2d(channels) if rung.norm == "batch" else LayerNorm2d(channels)


def activation(rung: Rung) -> nn.Module:
    """The rung's non-linearity; ReLU in place, as ResNet's own code runs it (less memory in training)."""
    return nn.ReLU(inplace=True) if rung.activation == "relu" else nn.GELU()
