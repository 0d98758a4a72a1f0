"""torch and timm without torch's compiler, which is three of the five seconds that importing both takes (torch 2.14).

Two lines ask for it: torchvision, which timm imports, takes one function of it, and timm marks one function that is not
to be compiled. Neither needs it before something is compiled, or an optimizer is made.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

COMPILER, UTILITIES = "torch._dynamo", "torch._dynamo.utils"


@contextmanager
def without_compiler() -> Iterator[None]:
    """Leave torch's compiler to be imported when it is first used.

    Meanwhile a stand-in has the two functions that are asked for, which import it when they are called. Asked for
    anything else, it makes way for the compiler and answers as that does.
    """
    if COMPILER in sys.modules or importlib.util.find_spec("torch") is None:
        yield
        return
    import torch  # before the stand-in is there, for torch itself looks

    utilities = _stand_in(
        UTILITIES, is_compile_supported=lambda device_type: bool(_real(UTILITIES).is_compile_supported(device_type))
    )
    stand_ins = (_stand_in(COMPILER, utils=utilities, disable=_disable), utilities)
    vars(stand_ins[0])["__path__"] = [str(Path(folder) / "_dynamo") for folder in torch.__path__]
    sys.modules |= {module.__name__: module for module in stand_ins}
    try:
        yield
    finally:
        _remove(stand_ins)


def _disable(function: Callable[..., Any], *words: Any, **options: Any) -> Callable[..., Any]:
    """`torch._dynamo.disable`, at the first call."""
    real: list[Callable[..., Any]] = []

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if not real:
            real.append(_real(COMPILER).disable(function, *words, **options))
        return real[0](*arguments, **named)

    return call


def _stand_in(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)

    def of_the_real(attribute: str) -> object:
        if attribute.startswith("__"):  # the import system asks, too
            raise AttributeError(attribute)
        return getattr(_real(name), attribute)

    vars(module).update(attributes, __getattr__=of_the_real)
    return module


def _real(name: str) -> ModuleType:
    """The compiler's module of that name, for which the stand-ins make way."""
    loaded = (sys.modules.get(COMPILER), sys.modules.get(UTILITIES))
    _remove(module for module in loaded if module is not None and _stands_in(module))
    import torch._dynamo.utils  # noqa: F401

    return sys.modules[name]


def _stands_in(module: ModuleType) -> bool:
    return getattr(vars(module).get("__getattr__"), "__module__", "") == __name__


def _remove(modules: Iterable[ModuleType]) -> None:
    for module in modules:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
