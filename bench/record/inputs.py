"""What a network is given, as one types it: one description for every verb, and for a record.

3x224x224                    one tensor per batch: the sizes of an image's part of it, without the batch
mask=1x224x224               the same, given by keyword
ids=77:int64:0..49407        whole numbers, drawn evenly from a range (both ends included)
time=scalar:int64:0..999     one number per image
user:my.nets:inputs          what a function of the user's returns for a batch size: a tensor, several, a mapping
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from visionbench.record.errors import BenchError

INTEGERS = {"int64": 63, "int32": 31, "uint8": 8}
"""Types that take a range, and how many bits a value may have."""

DTYPES = ("float", "float32", "bool", *INTEGERS)
"""`float` is what the precision says, `float32` stays so. Numbers are normal random, truth values even odds."""

SCALAR = "scalar"

EXAMPLES = "3x224x224, mask=1x224x224, ids=77:int64:0..49407 or user:my.nets:inputs"

_PATTERN = re.compile(
    r"(?:(?P<name>[^\W\d]\w*)=)?(?P<shape>scalar|[1-9][0-9]{0,8}(?:x[1-9][0-9]{0,8})*)"
    r"(?::(?P<dtype>[a-z]+[0-9]*)(?::(?P<low>-?[0-9]{1,19})\.\.(?P<high>-?[0-9]{1,19}))?)?"
)
_FUNCTION = re.compile(r"user:(?P<module>[^:]+):(?P<name>[^\W\d]\w*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One tensor (N, *shape), or what a user's `function` (`user:module:name`) returns; `low` to `high` of integers."""

    name: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = "float"
    low: int = 0
    high: int = 0
    function: str = ""

    def __str__(self) -> str:
        if self.function:
            return self.function
        words = ["x".join(map(str, self.shape)) or SCALAR]
        words += [self.dtype] if self.dtype != "float" else []
        words += [f"{self.low}..{self.high}"] if self.dtype in INTEGERS else []
        return (f"{self.name}=" if self.name else "") + ":".join(words)


def texts_of(inputs: object) -> tuple[str, ...]:
    """The texts of one input, of several, or of None. Raises `BenchError` for what is no text."""
    if inputs is None:
        return ()
    texts: Iterable[Any] = inputs if isinstance(inputs, Iterable) and not isinstance(inputs, str) else (inputs,)
    texts = tuple(texts)
    for text in texts:
        if not isinstance(text, str):
            kind = type(text)
            arrays = "; make it a tensor with torch.from_numpy" if kind.__module__ == "numpy" else ""
            what = repr(text) if len(repr(text)) < 60 and not arrays else f"an object of type {kind.__name__}"
            raise BenchError(f"an input is text like {EXAMPLES}, and not {what}{arrays}.")
    return texts


def users_function(text: object) -> str:
    """The same text, if it names a function of the user's: `user:my.nets:loss`. Raises `BenchError` for another."""
    if not isinstance(text, str) or not _FUNCTION.fullmatch(text):
        raise BenchError(f"a loss is a function that you name like user:my.nets:loss, and not {text!r}.")
    return text


@lru_cache(maxsize=256)
def parse(texts: tuple[str, ...]) -> tuple[Input, ...]:
    """The inputs of these texts, those without a name first. Raises `BenchError` for a text that describes none."""
    inputs = tuple(_input(text) for text in texts)
    names = [one.name for one in inputs if one.name]
    if len(set(names)) < len(names):
        raise BenchError(f"two inputs are called {max(names, key=names.count)}: give each another name.")
    if len(inputs) > 1 and any(one.function for one in inputs):
        raise BenchError("a function of inputs returns all of them: leave the other inputs out.")
    return tuple(sorted(inputs, key=lambda one: one.name != ""))


def _input(text: str) -> Input:
    if _FUNCTION.fullmatch(text):
        return Input(function=text)
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise BenchError(f"'{text}' describes no input: say {EXAMPLES}.")
    shape = () if found["shape"] == SCALAR else tuple(map(int, found["shape"].split("x")))
    dtype = found["dtype"] or "float"
    if dtype not in DTYPES:
        raise BenchError(f"'{text}': there is no type {dtype} for inputs: choose one of {', '.join(DTYPES)}.")
    if dtype not in INTEGERS:
        if found["low"] is not None:
            raise BenchError(f"'{text}': only whole numbers take a range: choose one of {', '.join(INTEGERS)}.")
        return Input(name=found["name"] or "", shape=shape, dtype=dtype)
    if found["low"] is None:
        raise BenchError(f"'{text}': whole numbers need a range, lowest to highest: {text}:0..9.")
    low, high = int(found["low"]), int(found["high"])
    limit = 2 ** INTEGERS[dtype]
    if low > high or high >= limit or low < (0 if dtype == "uint8" else -limit):
        raise BenchError(f"'{text}': {low}..{high} is no range of {dtype}: say the lowest and the highest value.")
    return Input(name=found["name"] or "", shape=shape, dtype=dtype, low=low, high=high)


def image_of(texts: Sequence[str]) -> tuple[int, ...] | None:
    """Channels, height and width of the first input that can be an image or a clip; None where none can be."""
    return next(iter(images_of(texts)), None)


def images_of(texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The same of every input that can be an image or a clip."""
    shapes = (one.shape for one in parse(tuple(texts)) if one.dtype not in ("int64", "int32", "bool"))
    return tuple((shape[0], *shape[-2:]) for shape in shapes if len(shape) >= 3)
