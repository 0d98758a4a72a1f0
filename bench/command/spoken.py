"""What a Python caller hands over, checked, and what is refused in his words: `image_size` for `--image-size`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from visionbench.record.errors import BenchError, choose
from visionbench.record.spec import PROTOCOLS

P = ParamSpec("P")
R = TypeVar("R")

_OPTION = re.compile(r"(?<![\w`-])--([a-z]+(?:-[a-z]+)*)(=?)")
_CALLED = {"compile": "compile_mode", "input": "inputs"}
_WHOLE = ("threads", "launches", "rounds", "batch_size", "processes")


def in_python(function: Callable[P, R]) -> Callable[P, R]:
    """The same function; its settings are checked, and its errors name keywords instead of options."""

    @wraps(function)
    def called(*args: P.args, **settings: P.kwargs) -> R:
        from visionbench.models import ModelError

        try:
            return function(*args, **_checked(settings))
        except (BenchError, ModelError) as error:
            said = _in_keywords(str(error))
            if said == str(error):
                raise
            raise type(error)(said) from error

    return called


def _in_keywords(text: str) -> str:
    """Options become keywords, but for those of a command between backticks; the verb `run` is `measure` here."""

    def keyword(option: re.Match[str]) -> str:
        return _CALLED.get(option[1], option[1].replace("-", "_")) + option[2]

    parts = text.split("`")
    parts[::2] = [_OPTION.sub(keyword, part) for part in parts[::2]]
    parts[1::2] = ["measure" if part == "run" else part for part in parts[1::2]]
    return "`".join(parts)


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, a `torch.device` as text. Raises `BenchError` for a value of another kind than is asked for."""
    device = settings.get("device")
    if type(device).__module__ == "torch" and type(device).__name__ == "device":
        settings["device"] = str(device)
    elif device is not None and (not isinstance(device, str) or not device.strip()):
        raise BenchError(f'device is text like "cpu" or "cuda:1", or a torch.device, and not {device!r}.')
    for name in _WHOLE:
        value = settings.get(name)
        if value is not None and value != "max" and (type(value) is not int or value < 1):
            raise BenchError(f"{name} is a whole number of at least 1, and not {value!r}.")
    budget = settings.get("budget")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0):
        raise BenchError(f"budget is a number of seconds above 0, and not {budget!r}.")
    if settings.get("protocol") is not None:
        choose("protocol", settings["protocol"], tuple(PROTOCOLS))
    gpu = settings.get("gpu", "")
    if not isinstance(gpu, str):
        raise BenchError(f'gpu is a card\'s name, like gpu="a100", and not {gpu!r}.')
    return settings
