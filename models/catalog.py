"""Which models there are, and what a name means: from what a user types to one `ModelCard`.

A name is *qualified* (`timm:convnext_tiny`), because two implementations of one architecture can differ several times
in speed. Users may type the bare name as long as only one implementation has it. Importing this module imports neither
torch nor timm.
"""

import difflib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

ImageSize = int | tuple[int, int]
"""Pixels: the side of a square image, or (height, width)."""


def sides(image_size: ImageSize) -> tuple[int, int]:
    """Height and width in pixels."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size


DEFAULT_IMAGE_SIZE = 224
"""Pixels; for models that do not say themselves."""


class ModelError(ValueError):
    """A user's mistake about a model, in one sentence with the remedy inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What is known of a model before it is built.

    `name`: qualified: `timm:convnext_tiny`, `paper:convnext_iso_small`, `user:pkg.mod:factory`,
    `ladder:conv3x3_20`. `family`: the module that defines it: timm's (`convnext`), ours (`roadmap`) or the
    user's (`pkg.mod`). `image_size`: pixels of the square image it is *trained* on by default, or (height, width).
    timm's own default is a larger test size for many models (ConvNeXt: 288), with which no published row would compare.
    `origin`: whose implementation it is, in one sentence.
    """

    name: str
    family: str
    image_size: ImageSize
    origin: str


HUBS = ("hf-hub", "hf_hub")
"""What timm's names on the Hugging Face hub begin with."""

SIZES = {"n": "nano", "t": "tiny", "s": "small", "b": "base", "l": "large", "xl": "xlarge", "h": "huge", "g": "giant"}
"""How papers abbreviate sizes, and how timm spells them."""


def names() -> tuple[str, ...]:
    """Every qualified name: timm's in natural order, the paper's in the order of its tables, then torchvision's."""
    homes = {"timm": _timm_names(), "paper": _paper_names(), "torchvision": _torchvision_names()}
    return tuple(f"{home}:{bare}" for home, known in homes.items() for bare in known)


def resolve(name: str) -> ModelCard:
    """The card of a qualified name, or of a bare one that timm or the paper's networks alone have.

    A name of the Hugging Face hub (`hf-hub:timm/resnet50.a1_in1k`) is its architecture, without its weights; nothing is
    downloaded. Raises `ModelError` for an unknown, an ambiguous or a malformed name. A user's factory is not imported
    here.
    """
    prefix, colon, rest = name.partition(":")
    if prefix in HUBS or (not colon and name.startswith("timm/")):
        return _timm_card(_architecture(name, rest if colon else name))
    if sized := re.fullmatch(r"(.+)@(\d+(?:x\d+)?)", name):  # as records and tables name a row
        raise ModelError(f"{name!r} names a size, too: say {shlex.quote(sized[1])} --image-size {sized[2]}")
    if not colon:
        return resolve(_qualify(name))
    cards = {
        "timm": _timm_card,
        "torchvision": _torchvision_card,
        "paper": _paper_card,
        "user": _user_card,
        "ladder": _ladder_card,
    }
    if card := cards.get(prefix):
        return card(rest)
    home = f"no model {name!r}: the word before the colon is timm, torchvision, paper or user"
    factory = prefix.endswith(".py") or all(part.isidentifier() for part in prefix.split("."))
    raise ModelError(f"{home}; a factory of your own is user:{name}" if factory and rest.isidentifier() else home)


def is_dense(name: str) -> bool:
    """Whether a qualified name is of one of our detectors or segmentors."""
    if not name.startswith("paper:"):
        return False
    from visionbench.models.paper import DENSE

    return name.removeprefix("paper:") in DENSE


def expand(pattern: str) -> tuple[str, ...]:
    """The qualified names that match a pattern with `*`, `?` or `[ab]` as in `fnmatch`, naturally sorted.

    A pattern without a colon is matched against bare names. Without a wildcard the one name it resolves to.
    Raises `ModelError` when nothing matches.
    """
    if not any(character in pattern for character in "*?["):
        return (resolve(pattern).name,)
    if ":" in pattern:
        found = [known for known in names() if fnmatchcase(known, pattern)]
    else:  # what torchvision has beside timm is named with its home
        mine = (known for known in names() if not known.startswith("torchvision:"))
        found = [known for known in mine if fnmatchcase(_bare(known), pattern)]
    if not found:
        raise ModelError(f"no model matches {pattern!r}{_did_you_mean(pattern, names())}")
    return tuple(sorted(found, key=_natural))


def near_misses(typed: str, known: Iterable[str]) -> list[str]:
    """Up to three of `known` that look like what was typed; the word before the colon and case do not count.

    First the same name, then those that begin so, then those that have its words in that order (`vit_b_16` is
    `vit_base_patch16_224`, `swin_t` `swin_tiny_...`), then what is spelt alike.
    """
    bare, listed = _bare(typed).lower(), list(known)
    parts = re.split("[_-]", bare) if bare else []
    spelt = [re.escape(SIZES.get(part, part)) for part in parts]
    groups = [re.escape(bare), "[_-]?".join(map(re.escape, parts)), "[_-]?".join(spelt), ".*".join(spelt)]
    ranks = [re.compile(f"(?:{group})(?![a-z])") for group in groups] if bare else []
    ranked = [
        # The sizes that papers mean come first, then short names.
        (rank, not name.endswith(("patch16_224", "patch4_window7_224")), len(name), name)
        for name in listed
        if (rank := next((i for i, one in enumerate(ranks) if one.match(_bare(name).lower())), None)) is not None
    ]
    if ranked:
        return [name for *_, name in sorted(ranked)[:3]]
    by_bare: dict[str, str] = {}
    for name in listed:
        by_bare.setdefault(_bare(name).lower(), name)
    return [by_bare[bare] for bare in difflib.get_close_matches(bare, by_bare, n=3)]


def _qualify(bare: str) -> str:
    """The qualified name of a bare one."""
    arch = bare.partition(".")[0]
    homes = [
        home for home, known in (("timm", _timm_names()), ("paper", _paper_names())) if bare in known or arch in known
    ]
    if not homes:
        raise ModelError(_no_bare_name(bare) or _unknown(bare, names()))
    if len(homes) > 1:
        choices = " or ".join(f"{home}:{bare}" for home in homes)
        raise ModelError(f"{bare!r} names two implementations; say {choices}")
    return f"{homes[0]}:{bare}"


def _no_bare_name(typed: str) -> str:
    """What is wrong with a text that was never a name: a file, or several names in one; "" for any other."""
    if typed.endswith(".py"):
        return f"{typed!r} is a file, and a model is a function in it: say user:{typed}:FUNCTION"
    parts = [part for part in re.split(r"[,;\s]+", typed) if part]
    return f"{typed!r} is several names in one word: write {' '.join(parts)}" if len(parts) > 1 else ""


def _architecture(typed: str, rest: str) -> str:
    """The architecture that `timm/resnet50.a1_in1k` or `timm/resnet50.a1_in1k@main` names."""
    owner, slash, model = rest.partition("/")
    if owner != "timm" or not slash:
        raise ModelError(
            f"{typed!r} is not one of timm's names on the hub, and only a download could tell its architecture; say "
            "hf-hub:timm/NAME, or timm: with the name of the architecture"
        )
    return re.split("[.@]", model)[0]


def _torchvision_card(bare: str) -> ModelCard:
    from visionbench.models import torchvision_models

    if card := torchvision_models.card(bare):
        return card
    raise ModelError(_unknown(f"torchvision:{bare}", (f"torchvision:{name}" for name in _torchvision_names())))


def _torchvision_names() -> list[str]:
    from visionbench.models import torchvision_models

    return sorted(torchvision_models.listed(), key=_natural)


def _timm_card(bare: str) -> ModelCard:
    import timm
    from timm.models import get_pretrained_cfg

    arch, dot, tag = bare.partition(".")
    if dot and timm.is_model(arch):
        raise ModelError(f"'timm:{bare}' names weights ({tag}), which a benchmark does not load; say timm:{arch}")
    # Asked before all names are sorted: a name that is right is the rule, and every build resolves it.
    if dot or not timm.is_model(bare):
        raise ModelError(_unknown(f"timm:{bare}", (f"timm:{name}" for name in _timm_names())))

    family = timm.models.model_entrypoint(bare).__module__.rpartition(".")[2]
    defaults = get_pretrained_cfg(bare)  # its `input_size` is of training
    height, width = defaults.input_size[1:] if defaults else (DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE)
    return ModelCard(
        name=f"timm:{bare}",
        family=family,
        image_size=height if height == width else (height, width),
        origin=f"timm {timm.__version__}, timm/models/{family}.py",
    )


def _paper_card(bare: str) -> ModelCard:
    known = _paper_names()
    if bare not in known:
        raise ModelError(_unknown(f"paper:{bare}", (f"paper:{name}" for name in known)))
    from visionbench.models.paper import DENSE, family

    return ModelCard(
        name=f"paper:{bare}",
        family=family(bare),
        image_size=DENSE[bare].image_size if bare in DENSE else DEFAULT_IMAGE_SIZE,
        origin=f"visionbench, models/{family(bare)}.py, written after arXiv 2201.03545v2",
    )


def _user_card(rest: str) -> ModelCard:
    module, colon, factory = rest.rpartition(":")
    named = (module.endswith(".py") and ":" not in module) or all(part.isidentifier() for part in module.split("."))
    if not (colon and factory.isidentifier() and named):
        raise ModelError(
            f"'user:{rest}' names no factory; say user:module:function, as in user:mymodels.nets:small, or "
            "user:path/to/file.py:function"
        )
    return ModelCard(
        name=f"user:{rest}",
        family=module,
        image_size=DEFAULT_IMAGE_SIZE,
        origin=f"the user's own, {factory} in {module}",
    )


def _ladder_card(bare: str) -> ModelCard:
    """The card of a network for `selftest`; it is not among `names()`, because it is no benchmark's subject."""
    from visionbench.models.ladder import IMAGE_SIZE, KINDS, MOST_BLOCKS, parse

    if parse(bare) is None:
        raise ModelError(
            f"no model 'ladder:{bare}'; a ladder is ladder:KIND_DEPTH, as in ladder:conv3x3_20, with a depth from 1 to "
            f"{MOST_BLOCKS} and one of these kinds: {', '.join(KINDS)}"
        )
    return ModelCard(
        name=f"ladder:{bare}",
        family="ladder",
        image_size=IMAGE_SIZE,
        origin="visionbench, models/ladder.py, equal blocks for testing the gate itself",
    )


def _timm_names() -> list[str]:
    import timm

    listed: list[str] = timm.list_models()
    return sorted(listed, key=_natural)


def _paper_names() -> tuple[str, ...]:
    from visionbench.models.paper import DENSE, PAPER

    return (*PAPER, *DENSE)


def _unknown(typed: str, known: Iterable[str]) -> str:
    return f"no model {typed!r}{_did_you_mean(typed, known)}"


def _did_you_mean(typed: str, known: Iterable[str]) -> str:
    """The end of an error message: near misses where there are any, and where to see all names."""
    near = near_misses(typed, known)
    question = f"; did you mean {', '.join(near)}?" if near else ";"
    return f"{question} `list models` shows all"


def _bare(name: str) -> str:
    return name.partition(":")[2] or name


def _natural(name: str) -> list[str | int]:
    """A sort key in which resnet50 comes before resnet101: text and numbers alternate."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
