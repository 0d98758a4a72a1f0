"""How others count: each convention by name, computed from the parts of an exact count (`record.profile`).

A convention is tried on a row, never typed in for one. Sources: fvcore 0.1.5 `nn/jit_handles.py` and
`nn/flop_count.py` (norms, global pools and resizing cost; activations, softmax and biases don't), mmengine 0.10
`analysis/jit_handles.py` (the same; MMPretrain's `get_flops.py` hands it the network without its classifier); mmcv 1.7
`cnn/utils/flops_counter.py` (of biases only those of convolutions, which few networks have), after ptflops, and thop
0.1 `vision/basic_hooks.py` (hooks on modules: what a function multiplies is not seen); the methods `flops()` of Swin's
and its descendants' code (one operation per element of norms); LeViT's `levit.py` (one per element of softmax);
TensorFlow's profiler, whose operations the code of EfficientNetV2 halves (google/automl `efficientnetv2/utils.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

Parts = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """A way of counting: what it is called, and its count from a network's parts; `cost`: how far from the usual.

    `needs` is a part that it leaves out: of a network that has none of it, it would be another convention's count.
    """

    name: str
    count: Callable[[Parts], float]
    cost: int = 1
    needs: str = ""


NORMS: dict[str, tuple[int, int]] = {
    "": (0, 0),
    "norms": (1, 1),
    "two operations per element of norms": (2, 2),
    "two operations per element of batch norms": (2, 0),
    "norms as fvcore": (2, 5),
    "five operations per element of norms": (5, 5),
}
"""Operations per element of a batch norm, and of another norm. fvcore's are two and five in inference."""


SOFTMAX = 5
"""Operations per element of a softmax: to shift it by the largest, to raise it, to divide it by the sum. TensorFlow's
`profiler/internal/flops_registry.py` has as many."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to put a count together: what is left out, and what is counted beside multiply-accumulates."""

    products: bool = True
    position: bool = True
    classifier: bool = True
    hooks: bool = False
    norms: str = ""
    biases: bool = False
    activations: str = ""
    pools: str = ""
    resizing: bool = False
    softmax: int = 0
    multiplications: bool = False
    depthwise: bool = True

    def count(self, parts: Parts) -> float:
        """The count of a network."""
        if self.hooks:
            total = parts["macs_conv_hooked"] + parts["macs_linear_hooked"]
        else:
            total = parts["macs"] - (0 if self.products else parts["macs_products"])
            total -= 0 if self.position else parts["macs_position"]
        total -= 0 if self.classifier else parts["macs_classifier"]
        batch, other = NORMS[self.norms]
        total += batch * parts["elements_batch_norm"]
        total += other * (parts["elements_layer_norm"] + parts["elements_group_norm"])
        total += parts["elements_bias"] if self.biases else 0
        total += parts["elements_relu"] if self.activations else 0
        total += parts["elements_activation"] if self.activations == "activations" else 0
        total += parts["elements_global_pool"] if self.pools else 0
        total += parts["elements_upsample"] if self.resizing else 0
        total += self.softmax * parts["elements_softmax"]
        total += parts["elements_multiply"] if self.multiplications else 0
        if not self.depthwise:
            total -= parts["macs_depthwise"] + (parts["elements_bias_depthwise"] if self.biases else 0)
        return total + (parts["elements_pool"] if self.pools == "pools" else 0)

    def _left_out(self) -> list[str]:
        words = {
            "attention's products": self.products,
            "position networks": self.position,
            "depthwise convolutions": self.depthwise,
            "the classifier": self.classifier,
        }
        return [word for word, counted in words.items() if not counted]

    def _added(self) -> list[str]:
        words = {"resizing": self.resizing, "softmax": self.softmax, "multiplications": self.multiplications}
        counted = [self.norms, "biases" * self.biases, self.activations, self.pools]
        return [word for word in (*counted, *(word for word, has in words.items() if has)) if word]

    @property
    def cost(self) -> int:
        """How many choices differ from plain multiply-accumulates."""
        return len(self._left_out()) + self.hooks + len(self._added())

    def __str__(self) -> str:
        base = "hooks on convolutions and linear layers" if self.hooks else "MACs"
        without = " without " * bool(self._left_out()) + " and ".join(self._left_out())
        return base + without + " plus " * bool(self._added()) + ", ".join(self._added())


def _convention(choice: Choice, name: str = "", factor: float = 1.0, needs: str = "") -> Convention:
    """A choice as a convention. One that a program has, by its `name`, is no farther from the usual than two."""
    cost = min(choice.cost, 2) if name else choice.cost
    return Convention(name=name or str(choice), count=lambda p: factor * choice.count(p), cost=cost, needs=needs)


MACS = Choice()
_THOP = Choice(hooks=True, norms="two operations per element of norms", pools="pools")
_MMCV = replace(_THOP, activations="ReLUs")
_FVCORE = Choice(norms="norms as fvcore", pools="global pools", resizing=True)
_fvcore = _FVCORE.count


def _every_element(parts: Parts) -> float:
    elements = sum(count for name, count in parts.items() if name.startswith("elements_"))
    return parts["macs"] + elements - parts["elements_bias_depthwise"]  # a share of the biases, not more of them


def _tensorflow(parts: Parts) -> float:
    """A norm in inference is two operations, a mean one for each element that it is of; activations have no count."""
    halves = parts["elements_add"] + parts["elements_multiply"] + parts["elements_global_pool"]
    return Choice(norms="norms").count(parts) + halves / 2


# fmt: off
NAMED: tuple[Convention, ...] = (
    _convention(MACS, "2 x MACs", 2.0),
    _convention(Choice(products=False), "MACs without attention's products"),
    _convention(Choice(position=False), "MACs without position networks"),
    Convention(name="fvcore's count (MACs plus norms and global pools)", count=_fvcore),
    Convention(
        name="fvcore's count without attention's products", count=lambda p: _fvcore(p) - p["macs_products"], cost=2
    ),
    _convention(Choice(norms="norms")),
    _convention(Choice(norms="two operations per element of norms")),
    _convention(Choice(biases=True)),
    _convention(Choice(hooks=True)),
    _convention(
        replace(_MMCV, biases=True),
        "a hook counter's, as mmcv and ptflops (biases, norms, ReLUs and pools, too)",
    ),
    _convention(_MMCV, "a hook counter's, as mmcv (norms, ReLUs and pools, too)"),
    _convention(
        replace(_MMCV, classifier=False, resizing=True),
        "a hook counter's, as mmcv, without the classifier (norms, ReLUs, pools and resizing, too)",
    ),
    _convention(_THOP, "a hook counter's, as thop (norms and pools, too)"),
    _convention(
        replace(
            _MMCV, classifier=False, depthwise=False, biases=True, pools="global pools",
            norms="two operations per element of batch norms",
        ),
        "a hook counter's, as mmcv, without the classifier and depthwise convolutions (biases, norms, ReLUs, too)",
        needs="macs_depthwise",
    ),
    _convention(Choice(classifier=False)),
    _convention(
        Choice(
            position=False, norms="norms as fvcore", biases=True, activations="activations", softmax=SOFTMAX,
            multiplications=True,
        ),
        "MACs without the lookup of positions plus norms as fvcore, five operations per element of softmax, "
        "activations, biases, multiplications",
        needs="macs_position",
    ),
    _convention(Choice(norms="norms", activations="activations")),
    _convention(Choice(softmax=1)),
    Convention(
        name="TensorFlow's profiler, halved (norms, and half of additions, multiplications and global pools, too)",
        count=_tensorflow,
        cost=2,
    ),
    Convention(name="MACs plus one operation per element of everything else", count=_every_element, cost=3),
    Convention(name="MACs in units of 2^30", count=lambda p: p["macs"] / 2**30 * 1e9),
)
# fmt: on
"""The conventions of FLOPs that are tried on any print."""

STATED: Mapping[str, Convention] = {
    "macs": _convention(MACS),
    "2 x macs": NAMED[0],
    "fvcore": NAMED[3],
    "tensorflow": next(each for each in NAMED if each.name.startswith("TensorFlow")),
}
"""What a paper may state about its FLOPs (`flops = ...` in its file)."""

CLASSES = (21841, 21843, 11221)
"""How many classes ImageNet-22K has: in most releases, in Google's, and in the cleaned one."""


def _with_classes(classes: int) -> Convention:
    def count(parts: Parts) -> float:
        # a linear layer's weights and biases, each class the same number of them
        return parts["params"] + parts["params_classifier"] / 1000 * (classes - 1000)

    return Convention(name=f"params with a head of {classes:,} classes", count=count, cost=2)


def _folded(parts: Parts) -> float:
    """Params where each norm is a bias of the convolution before it: of its scale and shift one is left."""
    return parts["params"] - parts["params_norm"] / 2


PARAMS: tuple[Convention, ...] = (
    Convention(name="params without the classifier", count=lambda p: p["params"] - p["params_classifier"]),
    Convention(name="params without the head for distillation", count=lambda p: p["params"] - p["params_distillation"]),
    Convention(name="params plus buffers", count=lambda p: p["params"] + p["buffers"]),
    Convention(name="params without position tables", count=lambda p: p["params"] - p["params_position"]),
    Convention(name="params without norms", count=lambda p: p["params"] - p["params_norm"]),
    Convention(
        name="params without norms and position tables",
        count=lambda p: p["params"] - p["params_norm"] - p["params_position"],
        cost=2,
        needs="params_position",
    ),
    Convention(name="params with norms folded into convolutions", count=_folded, needs="params_norm"),
    Convention(
        name="params with norms folded into convolutions, in units of 2^20",
        count=lambda p: _folded(p) / 2**20 * 1e6,
        cost=2,
        needs="params_norm",
    ),
    *map(_with_classes, CLASSES),
    Convention(name="params in units of 2^20", count=lambda p: p["params"] / 2**20 * 1e6),
)
"""Every convention of params that is tried."""


@lru_cache(maxsize=1)
def composed() -> tuple[Convention, ...]:
    """Every choice, the nearest to plain MACs first: for prints with digits enough to tell them apart."""
    made = (replace(_convention(choice), cost=choice.cost + 1) for choice in _choices())
    return tuple(sorted(made, key=lambda convention: convention.cost))


def _choices() -> Iterator[Choice]:
    pooling = (("", False), ("global pools", False), ("pools", False), ("global pools", True), ("pools", True))
    # A hook sees no product of activations anyway.
    for (hooks, products), classifier, norms, biases, activations, (pools, resizing) in product(
        ((False, False), (False, True), (True, True)), (False, True), NORMS, (False, True),
        ("", "ReLUs", "activations"), pooling,
    ):  # fmt: skip
        yield Choice(
            products=products, classifier=classifier, hooks=hooks, norms=norms, biases=biases, activations=activations,
            pools=pools, resizing=resizing,
        )  # fmt: skip
