"""Which network a user's factory made: a hash of its structure and of the code below the working directory.

A name like `user:net:make` stands for whatever its file holds today. A number that was measured of it is of what the
file held then.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from torch import nn

from visionbench.models.building import FILE

DIGITS = 12
_SIMPLE = (int, float, str, bool, type(None))
_INSTALLED = {"site-packages", "dist-packages"}


def network_hash(model: nn.Module, folder: Path | None = None) -> str:
    """Twelve hexadecimal digits: of every module's class, settings and tensors' shapes, and of the loaded sources.

    `folder` is the folder of a user's own code, by default the working directory. What is installed is not hashed: its
    releases are the environment's. Take it before modes are set.
    """
    digest = hashlib.sha256()
    for line in (*_structure(model), *_sources(folder or Path.cwd())):
        digest.update(line.encode(errors="replace") + b"\n")
    return digest.hexdigest()[:DIGITS]


def _structure(model: nn.Module) -> Iterator[str]:
    for path, module in model.named_modules():
        settings = {name: value for name, value in vars(module).items() if name != "training" and _is_simple(value)}
        yield f"{path} {type(module).__module__}.{type(module).__qualname__} {sorted(settings.items())}"
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        shape = "lazy" if nn.parameter.is_lazy(tensor) else tuple(tensor.shape)
        yield f"{name} {shape} {tensor.dtype} {tensor.requires_grad}"


def _is_simple(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_simple, value))
    return isinstance(value, _SIMPLE)


def _sources(folder: Path) -> Iterator[str]:
    """A line for each loaded module whose file is below `folder`; not for what is installed, nor this program's own."""
    installed = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    inside, folders = folder.resolve(), dict[str, str]()
    for name, module in sorted(sys.modules.items()):
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if not isinstance(file, str) or name.partition(".")[0] in ("visionbench", "__main__"):
            continue
        real = _real(file, folders)
        if not real.startswith(str(inside)) and not name.startswith(FILE):
            continue  # thousands of modules end here
        path = Path(real)
        is_own = (path.is_relative_to(inside) and not _INSTALLED & set(path.parts)) or name.startswith(FILE)
        if is_own and not any(path.is_relative_to(prefix) for prefix in installed) and path.is_file():
            yield f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _real(file: str, folders: dict[str, str]) -> str:
    """The file behind all links. `folders` keeps what was found out: few folders hold thousands of modules."""
    folder, name = os.path.split(file)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    path = os.path.join(folders[folder], name)  # noqa: PTH118 -- as a Path it takes ten times as long
    return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114
