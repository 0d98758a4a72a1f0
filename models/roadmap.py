"""The networks between ResNet and ConvNeXt: one network that reads a `Rung` (arXiv 2201.03545v2, section 2).

`visionbench.models.rungs` tells the story, this module its shapes. Four stages; stage i works at 1/4, 1/8, 1/16, 1/32
of the image. A branch is always three convolutions, and what moves along the road is which of them is spatial
and where the wide one sits. w is the stage's width; the stride s is 2 in the first block of stages 2 to 4:

    bottleneck   1x1 to w,        3x3 (stride s),               1x1 to 4w          stage output 4w
    inverted     1x1 to 4w,       depthwise 3x3 on 4w (s),      1x1 to w           stage output w
    moved up     depthwise kxk on the block's input (s),  1x1 to 4w,  1x1 to w     stage output w

The physics: a 1 x 1 convolution costs C_in C_out MACs per position and a depthwise one only k^2 C, so from
"depthwise conv" on nearly all MACs are dense matrix products and the kernel size is almost free in MACs,
while its time on a GPU is not: a depthwise convolution is no matrix product, leaves the matrix units idle and
is bound by what it reads and writes. MACs and time part ways, and measuring that is what these networks are
for.
"""

from itertools import accumulate, pairwise

from torch import Tensor, nn

from visionbench.models.residual import EPS, LayerNorm2d, Residual, convnext_branch, drop_path_rates, pooled_head
from visionbench.models.rungs import ROWS, RUNGS, Row, Rung

__all__ = ["ROWS", "RUNGS", "Roadmap", "Row", "Rung", "build"]


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
