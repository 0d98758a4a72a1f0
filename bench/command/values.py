"""From the text of an option to its value. Each function refuses what an option cannot mean, in one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from visionbench.command.requests import LARGEST
from visionbench.record.errors import BenchError
from visionbench.record.inputs import parse, users_function
from visionbench.record.spec import image_size

T = TypeVar("T")

MOST = 10**9
"""No batch, image or count of anything here is larger."""


def words(text: str) -> tuple[str, ...]:
    """Words between commas, at least one."""
    if listed := tuple(word.strip() for word in text.split(",") if word.strip()):
        return listed
    raise argparse.ArgumentTypeError(f"words between commas are needed, not '{text}'")


def path(text: str) -> Path:
    """A file or folder. An empty name is a variable that the shell did not know, and not the folder that one is in."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a file's name is needed, not an empty one: is a variable unset?")
    return Path(text)


def _number(kind: Callable[[str], T], text: str) -> T | None:
    try:
        return kind(text)
    except ValueError:
        return None


def whole(text: str) -> int:
    """Any whole number."""
    value = _number(int, text)
    if value is None:
        raise argparse.ArgumentTypeError(f"a whole number is needed, not '{text}'")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1, and not beyond what anything here counts."""
    value = _number(int, text) or 0
    if value > MOST:
        raise argparse.ArgumentTypeError(f"{text} is too large: {MOST:,} at most")
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, not '{text}'")
    return value


def _refusing(parse_text: Callable[[str], T]) -> Callable[[str], T]:
    """The same function, with what it refuses as argparse takes it."""

    def value(text: str) -> T:
        try:
            return parse_text(text)
        except BenchError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error

    return value


pixels = _refusing(image_size)
"""`224` or `800x1280`: the side of a square image, or height x width."""

described = _refusing(lambda text: str(parse((text,))[0]))
"""`1x224x224`, `ids=77:int64:0..49407`: one input."""

users_loss = _refusing(users_function)
"""`user:my.nets:loss`: a function of the user's."""


def batch(text: str) -> int | str:
    """A number of images, or `max`."""
    try:
        return text if text == LARGEST else positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            str(error).replace("at least 1 is", f"at least 1, or {LARGEST}, is")
        ) from error


def batches(text: str) -> tuple[int, ...]:
    """`1,8,64`: numbers of images."""
    return tuple(dict.fromkeys(positive(word) for word in text.split(",")))


def share(text: str) -> float:
    """`1%` or `0.01`: more than nothing and less than all."""
    number, scale = (text[:-1], 100.0) if text.endswith("%") else (text, 1.0)
    value = (_number(float, number) or 0.0) / scale
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"a share is needed, like 1% or 0.01, not '{text}'")
    return value


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `2h`, in seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    value = (_number(float, number) or 0.0) * _UNITS[unit]
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a time is needed, like 90, 90s, 10m or 2h, not '{text}'")
    return value
