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

    @property
    def cost(self) -> int:
        """How many choices differ from plain multiply-accumulates."""
        left_out = (not self.products) + (not self.position) + (not self.classifier) + self.hooks + (not self.depthwise)
        counted = (self.norms, self.biases, self.activations, self.pools, self.resizing)
        return left_out + sum(map(bool, (*counted, self.softmax, self.multiplications)))

    def __str__(self) -> str:
        left_out = [
            word
            for word, out in (
                ("attention's products", not self.products),
                ("position networks", not self.position),
                ("depthwise convolutions", not self.depthwise),
                ("the classifier", not self.classifier),
            )
            if out
        ]
        counted = (self.norms, "biases" * self.biases, self.activations, self.pools, "resizing" * self.resizing)
        others = ("softmax" * bool(self.softmax), "multiplications" * self.multiplications)
        added = [part for part in (*counted, *others) if part]
        base = "hooks on convolutions and linear layers" if self.hooks else "MACs"
        without = f" without {' and '.join(left_out)}" if left_out else ""
        return f"{base}{without}{' plus ' if added else ''}{', '.join(added)}"


def _convention(choice: Choice, name: str = "", factor: float = 1.0, needs: str = "") -> Convention:
    """A choice as a convention. One that a program has, by its `name`, is no farther from the usual than two."""
    cost = min(choice.cost, 2) if name else choice.cost
    return Convention(name=name or str(choice), count=lambda p: factor * choice.count(p), cost=cost, needs=needs)


MACS = Choice()
_FVCORE = Choice(norms="norms as fvcore", pools="global pools", resizing=True)
_fvcore = _FVCORE.count


def _every_element(parts: Parts) -> float:
    elements = sum(count for name, count in parts.items() if name.startswith("elements_"))
    return parts["macs"] + elements - parts["elements_bias_depthwise"]  # a share of the biases, not more of them


def _tensorflow(parts: Parts) -> float:
    """A norm in inference is two operations, a mean one for each element that it is of; activations have no count."""
    halves = parts["elements_add"] + parts["elements_multiply"] + parts["elements_global_pool"]
    return Choice(norms="norms").count(parts) + halves / 2


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
        Choice(
            hooks=True, norms="two operations per element of norms", biases=True, activations="ReLUs", pools="pools"
        ),
        "a hook counter's, as mmcv and ptflops (biases, norms, ReLUs and pools, too)",
    ),
    _convention(
        Choice(hooks=True, norms="two operations per element of norms", activations="ReLUs", pools="pools"),
        "a hook counter's, as mmcv (norms, ReLUs and pools, too)",
    ),
    _convention(
        Choice(
            hooks=True,
            classifier=False,
            norms="two operations per element of norms",
            activations="ReLUs",
            pools="pools",
            resizing=True,
        ),
        "a hook counter's, as mmcv, without the classifier (norms, ReLUs, pools and resizing, too)",
    ),
    _convention(
        Choice(hooks=True, norms="two operations per element of norms", pools="pools"),
        "a hook counter's, as thop (norms and pools, too)",
    ),
    _convention(
        Choice(
            hooks=True,
            classifier=False,
            depthwise=False,
            norms="two operations per element of batch norms",
            biases=True,
            activations="ReLUs",
            pools="global pools",
        ),
        "a hook counter's, as mmcv, without the classifier and depthwise convolutions (biases, norms, ReLUs, too)",
        needs="macs_depthwise",
    ),
    _convention(Choice(classifier=False)),
    _convention(
        Choice(
            position=False,
            norms="norms as fvcore",
            biases=True,
            activations="activations",
            softmax=SOFTMAX,
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
    for hooks, products, classifier in product((False, True), repeat=3):
        if hooks and products:
            continue  # a hook sees no product of activations anyway
        pooling = (("", False), ("global pools", False), ("pools", False), ("global pools", True), ("pools", True))
        for norms, biases, activations, (pools, resizing) in product(
            NORMS, (False, True), ("", "ReLUs", "activations"), pooling
        ):
            yield Choice(
                products=products or hooks,
                classifier=classifier,
                hooks=hooks,
                norms=norms,
                biases=biases,
                activations=activations,
                pools=pools,
                resizing=resizing,
            )
