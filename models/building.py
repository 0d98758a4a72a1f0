"""From a name to a network: `build`. Nothing is downloaded and no size is adjusted silently.

Weights are random: time, memory and MACs do not depend on them. The module lands on the default device of the caller,
who may be on the meta device, where a network of 300 million parameters takes milliseconds and no memory.
"""

import importlib
import importlib.util
import inspect
import itertools
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from visionbench import ROOT
from visionbench.models import given
from visionbench.models.catalog import ImageSize, ModelCard, ModelError, near_misses, resolve, sides
from visionbench.models.reasons import said

if TYPE_CHECKING:
    from torch import nn

FILE = "user_file_"
"""What the modules of files that were named by their path begin with."""

CLASSES = 1000
"""Said aloud, because timm's default is that of some weights: 21841 for tiny_vit, none for CLIP's towers."""


def build(name: str, image_size: ImageSize, channels: int = 3) -> "nn.Module":
    """A new network for images of `image_size` pixels (a square's side, or height and width), as its factory leaves it.

    That is 1000 classes and train mode for timm's and ours; the caller decides about `eval`. Takes (N, 3, height,
    width), timm's also other `channels`, and gives (N, 1000), except where a user's factory wants it otherwise, and
    except a ladder, which has no head. Raises `ModelError` for a name that does not resolve, a size that the model
    refuses and a user's factory that fails; running out of memory passes through.
    """
    card = resolve(name)
    if min(sides(image_size)) < 1:
        raise ModelError(f"image size {image_size} is no number of pixels; try {card.image_size}")
    home = card.name.partition(":")[0]
    if home == "timm":
        return _build_timm(card, image_size, channels)
    builders = {"torchvision": _build_torchvision, "paper": _build_paper, "user": _build_user, "ladder": _build_ladder}
    return builders[home](card, image_size)


def load(name: str) -> None:
    """Import whatever building that model imports: timm, or the user's module. Raises `ModelError`."""
    card = resolve(name)
    if card.name.startswith("user:") and given.find(card.name) is None:
        _import(card.name.split(":")[1])


def _build_timm(card: ModelCard, image_size: ImageSize, channels: int) -> "nn.Module":
    import timm

    arch = card.name.removeprefix("timm:")
    defaults = timm.models.get_pretrained_cfg(arch)
    other: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
    # Only where the size is part of the weights (position embeddings, windows) does a factory take it.
    if defaults is None or not defaults.fixed_input_size:
        return timm.create_model(arch, pretrained=False, num_classes=CLASSES, **other)
    with _refusing(card, image_size):
        return timm.create_model(arch, pretrained=False, num_classes=CLASSES, img_size=image_size, **other)


def _build_torchvision(card: ModelCard, image_size: ImageSize) -> "nn.Module":
    from visionbench.models import torchvision_models

    with _refusing(card, image_size):
        return torchvision_models.build(card.name.removeprefix("torchvision:"), image_size)


@contextmanager
def _refusing(card: ModelCard, image_size: ImageSize) -> Iterator[None]:
    """Say of what a factory raises that it refuses the size, which is the user's mistake.

    A failure at the model's own size, or one that no size can cause, is not, and passes through.
    """
    try:
        yield
    except Exception as refusal:  # assertions, value and shape errors: every family refuses in its own way
        if image_size == card.image_size or _out_of_memory(refusal) or isinstance(refusal, NotImplementedError):
            raise
        raise _refused(card, image_size, said(refusal)) from refusal


def _build_paper(card: ModelCard, image_size: ImageSize) -> "nn.Module":
    from visionbench.models.paper import DENSE, PAPER, SMALLEST_IMAGE, build_dense

    bare = card.name.removeprefix("paper:")
    if bare in DENSE:
        return build_dense(bare, image_size)
    if min(sides(image_size)) < SMALLEST_IMAGE:
        raise _refused(card, image_size, f"nothing is left of an image under {SMALLEST_IMAGE} pixels")
    return PAPER[bare](bare)


def _build_ladder(card: ModelCard, image_size: ImageSize) -> "nn.Module":
    from visionbench.models import ladder

    if any(side % ladder.IMAGE_SIZE for side in sides(image_size)):
        raise _refused(card, image_size, f"it is cut into windows of {ladder.IMAGE_SIZE} pixels")
    return ladder.build(card.name.removeprefix("ladder:"))


def _build_user(card: ModelCard, image_size: ImageSize) -> "nn.Module":
    import torch

    held = given.find(card.name)
    _, module_name, factory_name = card.name.split(":")
    factory = held.factory if held else _factory(_import(module_name), factory_name)
    if isinstance(factory, torch.nn.Module):
        raise ModelError(f"{card.name} is a network, and a factory makes a new one: define a function that returns it")
    try:
        with _users_path():
            built = factory(**_size_argument(factory, image_size))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if _out_of_memory(error) or (held and isinstance(error, ModelError)):  # a copy says itself what it cannot
            raise
        raise ModelError(f"{card.name} raised {said(error)}; call it by hand to see where") from error
    if not isinstance(built, torch.nn.Module):
        raise ModelError(f"{card.name} returned {type(built).__name__}; a factory returns a torch.nn.Module")
    return built


def own_function(name: str, function: str) -> str:
    """`user:module:inputs` where the module of a user's model, which has been built, has that `function`, else ""."""
    if given.find(name) is not None:  # the module of a class, or the notebook, says nothing of one object
        return ""
    home, _, rest = name.partition(":")
    module = rest.rpartition(":")[0]
    known = sys.modules.get(module_name(module)) if home == "user" else None
    return f"user:{module}:{function}" if inspect.isroutine(getattr(known, function, None)) else ""


def users_object(name: str) -> Callable[..., Any]:
    """The function that `user:module:name` is. Raises `ModelError`."""
    module, _, function = name.removeprefix("user:").rpartition(":")
    return _factory(_import(module), function)


@contextmanager
def _users_path() -> Iterator[None]:
    """Import from the current directory and from its `src`, after what is installed, so that they shadow nothing of it.

    The checkout that holds visionbench is off the path meanwhile, and last on it afterwards: its folders `bench`,
    `models` and `reports` are called what many a user's are, and as packages they would hide a user's folder without
    an `__init__.py` even from the end of the path. `visionbench` itself has been imported and knows where it is.
    """
    here, ours = str(Path.cwd()), str(ROOT)
    hides = (ROOT / "pyproject.toml").exists() and ours in sys.path and here != ours
    if hides:
        sys.path[:] = [entry for entry in sys.path if entry != ours]
    sources = str(Path.cwd() / "src")
    sys.path += [entry for entry in (here, sources) if entry not in sys.path and Path(entry).is_dir()]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if hides and ours not in sys.path:
            sys.path.append(ours)


def _import(name: str) -> ModuleType:
    """Import a user's module, by its name or from its file."""
    if name.endswith(".py") and not Path(name).is_file():
        raise ModelError(f"there is no file {name!r}: name it as it is seen from {Path.cwd()}")
    try:
        with _users_path():
            return _from_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a script without a __main__ guard may well exit
        raise ModelError(f"cannot import {name!r} ({said(error)}); install it, or run from its folder") from error


def module_name(name: str) -> str:
    """The name under which a user's module is loaded: its own, or for `path/to/file.py` one that no module has.

    A file of a package is that package's module, so that its relative imports work.
    """
    if not name.endswith(".py"):
        return name
    path = Path(name).resolve()
    package = list(itertools.takewhile(lambda folder: (folder / "__init__.py").exists(), path.parents))
    parts = [folder.name for folder in reversed(package)] + [path.stem] * (path.stem != "__init__")
    if package:
        return ".".join(parts)
    here = Path.cwd().resolve()  # the same file has the same name in every checkout
    place = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{FILE}{zlib.crc32(place.as_posix().encode()):08x}_{path.stem}"


def _from_file(path: Path) -> ModuleType:
    """The module of a file, once; its neighbours can be imported by it, after what is installed."""
    name = module_name(str(path))
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path.resolve()):
        return known
    top = path.resolve().parents[name.count(".")]
    if str(top) not in sys.path:
        sys.path.append(str(top))
    if "." in name:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _factory(module: ModuleType, name: str) -> Callable[..., Any]:
    """The function `name` of a user's module."""
    factory = getattr(module, name, None)
    if callable(factory):
        return factory  # type: ignore[no-any-return]
    near = near_misses(name, (known for known in vars(module) if callable(getattr(module, known))))
    remedy = f"did you mean {', '.join(near)}?" if near else "define a function that returns the network"
    raise ModelError(f"{module.__name__!r} has no factory {name!r}; {remedy}")


def _size_argument(factory: Callable[..., Any], image_size: ImageSize) -> dict[str, ImageSize]:
    """The image size under the name by which the factory takes it, nothing where it takes none."""
    try:
        taken = inspect.signature(factory).parameters
    except ValueError:  # some builtins have no signature
        return {}
    return next(({name: image_size} for name in ("image_size", "img_size") if name in taken), {})


def _out_of_memory(error: BaseException) -> bool:
    """Whether the machine is to blame, and not the model or its user."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError))


def _refused(card: ModelCard, image_size: ImageSize, reason: str) -> ModelError:
    size, own = ("x".join(map(str, s)) if isinstance(s, tuple) else s for s in (image_size, card.image_size))
    return ModelError(f"{card.name} refuses image size {size} ({reason}); its own size is {own}")
