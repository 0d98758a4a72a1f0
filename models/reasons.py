"""Why a network does not run, in words, each with the remedy that can help.

A trace and a measurement meet the same mistakes. The causes are told apart by the words of torch and of Python, most
special first; what none of them fits is the network's own affair.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Literal

Cause = Literal[
    "values", "kernel", "layout", "device", "shape", "arguments", "channels", "batch", "targets", "size", "other"
]


@dataclass(frozen=True, slots=True)
class Reason:
    """A cause, the words of an exception that it is known by, and the remedy. `untraceable`: only a trace meets it."""

    cause: Cause
    words: str
    remedy: str
    untraceable: bool = False


_traced = partial(Reason, untraceable=True)

_REASONS = (
    _traced(
        "layout",
        r"(?i:sparse.*(meta|backend))|Sparse(C\w+|TensorImpl)",
        "sparse tensors cannot be traced: measure it with `run`",
    ),
    _traced("layout", r"quantized|Quantized", "quantized operators cannot be traced: measure it with `run`"),
    _traced(
        "kernel",
        r"OrderedDictWrapper|TorchScript|ScriptModule|torch\.jit",
        "it is TorchScript: trace the module that it was made of, or measure it with `run`",
    ),
    _traced("layout", r"NestedTensor|[Nn]ested tensor", "nested tensors cannot be traced: measure it with `run`"),
    _traced(
        "kernel",
        r"aten::\w+: attempted to run this operator with Meta",
        "torch has no meta kernel for it: measure it with `run`",
    ),
    _traced(
        "kernel",
        r"no fake impl|could not find the fake impl|from the 'Meta' backend|no meta kernel|Meta' backend",
        "this operator has no meta kernel: register one with torch.library.register_fake, or measure it with `run`",
    ),
    Reason(
        "device",
        r"NVIDIA driver|not compiled with CUDA|No CUDA GPUs|No HIP GPUs",
        "it asks for a GPU by itself: take the device from its input",
    ),
    Reason(
        "shape",
        r"Guard failed|Expected input at \*args",
        "it was exported for inputs of another shape: choose its own --batch-size and --image-size",
    ),
    _traced(
        "kernel",
        r"expected device \w+ but got meta",
        "it moves tensors to the host in a way that no trace follows: measure it with `run`",
    ),
    _traced("kernel", r"higher-order operator|HigherOrderOperator|FlexAttention", "measure it with `run`"),
    _traced(
        "kernel",
        r"Please convert all Tensors to FakeTensors",
        "torch follows no gradient through this control flow (cond, map, while_loop): measure it with `run`",
    ),
    _traced(
        "values",
        r"(?i)meta tensor|\bmeta\b.*\b(item|data|numpy)\b|\b(item|data|numpy)\b.*\bmeta\b|data is not allocated|"
        r"unallocated storage|data-independent|CPU int64 tensor",
        "its forward pass reads tensor values: measure it with `run`",
    ),
    Reason(
        "arguments",
        r"Input type \(.+\) and (bias|weight) type \(.+\) should be the same|must have the same dtype|"
        r"have the same dtype, but got|expected scalar type \w+ but found",
        "its inputs and its weights are of different types: cast one of them, or choose another --precision",
    ),
    Reason(
        "batch",
        r"Expected more than 1 value per channel when training",
        "it trains on two images or more: choose another --batch-size",
    ),
    Reason(
        "targets",
        r"targets should not be none|(?i:targets?|boxes|labels)\W.*(None|missing|required)|"
        r"missing.*'(targets?|labels?)'",
        "it trains by its own loss, on targets: use --task inference",
    ),
    Reason(
        "arguments",
        r"missing \d+ required|takes \d+ positional arguments? but|takes from \d+ to \d+ positional|"
        r"unexpected keyword argument|required keyword-only",
        "it is given one image tensor (N, 3, H, W): give its inputs with --input",
    ),
    Reason(
        "channels",
        r"Invalid channel dimensions|to have \d+ channels, but got \d+ channels|"
        r"Expected \d[-D]*.*(unbatched|batched|[345]D).*input|expected \d+D.*input",
        "it takes inputs of another shape, which --input gives (without it: images of three channels)",
    ),
    Reason(
        "size",
        r"(?i)\b(sizes?|shapes?|height|width|resolution|divisible|dimensions?|kernel size|out of range|img_size|"
        r"image size|patch|window|multiple of|must match|too small|non-?empty|negative|view|reshape|pixels)\b",
        "choose another --image-size, or mend the model",
    ),
)

LONGEST = 200
"""Characters of a line that is repeated whole."""

_OTHER = Reason("other", "", "mend the model")


def reason_of(error: BaseException) -> Reason:
    """The reason for what a network raised, by all of its message."""
    return reason_of_text(f"{type(error).__name__}: {error}", traced=True)


def reason_of_text(text: str, *, traced: bool = False) -> Reason:
    """The reason for an exception of which the name and the message are known: `TypeError: forward() missing ...`.

    What only a trace stumbles over is no reason for what was not `traced`.
    """
    known = (reason for reason in _REASONS if traced or not reason.untraceable)
    reason = next((reason for reason in known if re.search(reason.words, text)), _OTHER)
    # Python's own mistakes speak of sizes and shapes too, and no image size mends them.
    by_python = re.match(r"(Type|Attribute|Name|Key|Import|ModuleNotFound)Error\b", text)
    if reason is _OTHER and re.fullmatch(r"AssertionError:? *", text):
        return _REASONS[-1]  # an assertion without words: most are about shapes
    return _OTHER if by_python and reason.cause == "size" else reason


def sentence(error: BaseException) -> str:
    """The first line of what an exception says, with its type where that line alone says nothing.

    Of a long line, in which torch says what else one may read, it is the first sentence.
    """
    lines = [line.strip() for line in text_of(error).splitlines() if line.strip()]
    if not any(map(str.isalpha, "".join(lines))) or isinstance(error, KeyError):
        return said(error)
    first = lines[0] if len(lines[0]) <= LONGEST else lines[0].partition(". ")[0]
    return first.rstrip(".")


def text_of(error: BaseException) -> str:
    """An exception's text; "" for one of a network's own that cannot say it."""
    try:
        return str(error)
    except Exception:  # its `__str__` is the network's code
        return ""


def said(error: BaseException) -> str:
    """An exception's type, and the first line of its text if it has one."""
    return ": ".join((type(error).__name__, *text_of(error).splitlines()[:1]))
