"""What our ConvNeXts, isotropic ones and roadmap networks share: one residual sum and what stands in it.

Each network is a chain of `Residual` modules: shortcut + branch, and only the branch differs. A sum takes the memory
order of its *first* operand. The shortcut comes first here, as in the authors' ConvNeXt, so a contiguous run stays
contiguous although the branch computes with channels last. timm adds the other way round; the two can differ several
times in speed.

Weights keep PyTorch's default initialisation, and nothing here reads a tensor: every module can be built on the meta
device.
"""

import torch
from torch import Tensor, nn

EPS = 1e-6
"""The epsilon of every LayerNorm in ConvNeXt (PyTorch's default is 1e-5)."""


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of a map (N, C, H, W), at each position on its own.

    Written out as the authors do, because PyTorch's own normalises trailing dimensions only: with the channels
    permuted to the end and back, its result would come out in channels-last order and drag the rest of a
    contiguous network along. Each line is a kernel or two, and autocast computes the power in fp32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), in the memory order of x."""
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        standard = (x - mean) / torch.sqrt(variance + EPS)
        return self.weight[:, None, None] * standard + self.bias[:, None, None]


class ChannelsLastNorm(nn.LayerNorm):
    """LayerNorm over the last dimension, as a separate class, as in the authors' code.

    A counter that goes by a module's exact type (see `visionbench.tracing.hooks`) does not see it, as it did not see
    theirs, while it counts torch's class in Swin.
    """


class Permute(nn.Module):
    """Reorder the dimensions: a view that costs nothing until someone reads it in the other order."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same dimensions in `order`."""
        return x.permute(self.order)


class LayerScale(nn.Module):
    """One learned factor per channel of a channels-last tensor (Touvron et al., arXiv 2103.17239)."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        return self.gamma * x


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a branch for random images (Huang et al., arXiv 1603.09382).

    A kept branch is divided by the probability of keeping it, so its expectation is that of evaluation, where
    this module does nothing. A dropped branch is still computed: the cost of training does not depend on the
    draw.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, ...): image n is multiplied by 0 or by 1 / (1 - rate)."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        drawn = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * drawn.div_(keep)


def drop_path_rates(last: float, depth: int) -> tuple[float, ...]:
    """The rate of each of `depth` blocks: a straight line from 0 to `last` (arXiv 1603.09382, Figure 2)."""
    return tuple(last * i / max(depth - 1, 1) for i in range(depth))


class Residual(nn.Module):
    """y = after(shortcut(x) + drop_path(branch(x))): the block of ResNet and of ConvNeXt alike."""

    def __init__(self, branch: nn.Module, *, shortcut: nn.Module, after: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.after = after
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / s, W / s) with s the stride of branch and shortcut."""
        out: Tensor = self.after(self.shortcut(x) + self.drop_path(self.branch(x)))
        return out


def convnext_branch(
    c_in: int, c_out: int, *, kernel: int = 7, stride: int = 1, layer_scale: float | None = None
) -> nn.Sequential:
    """Depthwise k x k, LN, Linear to 4 c_out, GELU, Linear to c_out (arXiv 2201.03545v2, Figure 4).

    (N, c_in, H, W) -> (N, c_out, H / stride, W / stride). A 1 x 1 convolution is a Linear on channels last,
    which is how the authors run it. MACs per output position: c_in k^2 + 4 c_out (c_in + c_out).
    `layer_scale` is the initial value of a `LayerScale` at the end, None for none.
    """
    scale = [] if layer_scale is None else [LayerScale(c_out, layer_scale)]
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in),
        Permute(0, 2, 3, 1),
        ChannelsLastNorm(c_in, eps=EPS),
        nn.Linear(c_in, 4 * c_out),
        nn.GELU(),
        nn.Linear(4 * c_out, c_out),
        *scale,
        Permute(0, 3, 1, 2),
    )


def pooled_head(channels: int, norm: nn.Module) -> nn.Sequential:
    """Pool globally, `norm` the pooled channels, classify: (N, channels, H, W) -> (N, 1000)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), norm, nn.Linear(channels, 1000))
