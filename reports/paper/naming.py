"""Which model a printed label names: by the labels of the shipped papers, then by the names of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from visionbench.record.spec import ImageSize

SIZES = {
    "a": "atto", "f": "femto", "p": "pico", "n": "nano", "t": "tiny", "s": "small", "m": "medium", "b": "base",
    "l": "large", "h": "huge", "g": "giant", "xs": "xsmall", "xt": "xtiny", "xxt": "xxtiny", "xl": "xlarge",
    "xxs": "xxsmall", "ti": "tiny",
}  # fmt: skip
"""What a letter after a hyphen means in most papers."""

_SPELLINGS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"\beffnet", "efficientnet"),
    (r"\bmlp-mixer\b", "mixer"),
    (r"\bvision transformer\b", "vit"),
    (r"\bswin[-_ ]?transformer", "swin"),
    (r"\bmnv4\b", "mobilenetv4"),
    (r"\bdeit[ -]?iii\b", "deit3"),
    (r"\b(convnext)[ -]?v1\b", r"\1"),
    (r"^r-?(?=\d+$)", "resnet"),
    (r"^wrn", "wide resnet"),
    (r"(resnet[-_ ]?\d+)[-_]vd\b", r"\1d"),
    (r"(hrnet[-_ ]?w\d+)[-_ ]c\b", r"\1"),
    (r"\blinear\b", "li"),
    (r"\btinyvit", "tiny vit"),
    (r"^xception$", "legacy xception"),
    (r"^mobilenet$", "mobilenetv1"),
    (r"^pnasnet[-_ ]?5?(?:[-_ ]?large)?$", "pnasnet5large"),
    (r"^nasnet[-_ ]?(?:a[-_ ]?large|large|a \(?6 ?@ ?4032\)?)$", "nasnetalarge"),
    (r"^resnest[-_ ]?(50|101|200|269)$", lambda found: f"resnest{found[1]}{'d' if found[1] == '50' else 'e'}"),
    (r"^resnet[-_ ]?(50|101|152)[-_ ]?v2$", r"resnetv2_\1"),
    (r"^resnetv1([cd])[-_ ]?(\d+)$", r"resnet\2\1"),
    (r"^se[-_ ]?resnext[-_ ]?50$", "seresnext50 32x4d"),
    (r"^(?:bit(?:-?[sml])?[-_ (]*r(?:esnet)?|r)-?(50|101|152)[-_ ]?x ?(\d)\)?$", r"resnetv2_\1x\2_bit"),
    (r"[-_ /]p(?=\d)", " patch"),
    (r"(swin.*[-_ ])w(?=\d)", r"\1window"),
)
"""How papers spell what is spelled otherwise in names of models, in small letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The model that a label names, "" for none that is certain; `candidates` are those that it may mean, and `size` is
    the image size that stands in the label, 0 for none.
    """

    model: str
    candidates: tuple[str, ...] = ()
    size: int = 0


@lru_cache(maxsize=4096)
def tokens(text: str) -> tuple[str, ...]:
    """A label or a name in its parts, small letters: `Swin-T` -> swin, tiny; a width of 1.0 or x1.0 is 100."""
    text = re.sub(r"\bViT-G\b", "vit-gigantic", text.partition(":")[2] or text)  # ViT-g is the giant one
    lower = re.sub(r"(?<=[a-z0-9])\+", " plus", text.lower().replace("×", "x"))
    lower = re.sub(r"(?<![\d.])x?(\d)\.(\d\d?)x?(?![\d.a-z])", lambda width: f" {width[1]}{width[2]:0<2}", lower)
    lower = re.sub(r"\b(regnet[xyz])[-_ ]?(\d+(?:\.\d+)?)(gf?|mf)(?:lops)?\b", _regnet, lower)
    for pattern, spelled in _SPELLINGS:
        lower = re.sub(pattern, spelled, lower)
    parts = [part for part in re.split(r"[^a-z0-9.]+", lower) if part]
    parts = [re.sub(r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])", " ", part).split() for part in parts]
    flat = [piece for part in parts for piece in part]
    return tuple(SIZES.get(piece, piece) if i else piece for i, piece in enumerate(flat))


def _regnet(match: re.Match[str]) -> str:
    """RegNetY-1.6GF is regnety_016: hundreds of millions."""
    hundreds = float(match[2]) * (10 if match[3].startswith("g") else 0.01)
    return f"{match[1]} {hundreds:03.0f}"


_FILLING = frozenset(
    ("patch", "window", "to", "tf", "in", "v", "k", "m", "gf", "224", "256", "288", "384", "448", "512")
)
"""Parts of a name that a label mostly leaves out."""

_CITED = re.compile(
    r"[(\[][^()\[\]]*(?:et al|\b(?:19|20)\d\d)[^()\[\]]*[)\]]|,?\s+[A-Z]\w+(?: and [A-Z]\w+| et al)\b.*"
    r"|\[\d[\d,\s–-]*\]|[(\[][^()\[\]]*(?:epochs?|scratch|fine-?tuned?|recipe|converted)[^()\[\]]*[)\]]"
    r"|[(\[]\s*(?:ours?|our impl\w*\.?|repr\w*\.?|baseline|pub\w*\.?|official)\s*[)\]]"
    r"|[(\[]\s*(?:IN-?|ImageNet-?)?(?:1|21|22)[kK]\s*[)\]]|-(?:IN|ImageNet)-?(?:1|21|22)[kK]$|\(k ?= ?\d+\)"
    r"|[(\[]\s*(?:NS|AA|RA|AdvProp|Noisy ?Student)\s*[)\]]|[\u2000-\u206f*†‡§¶♯♮✝⋆★🔥]"
)
"""What stands behind a network's name: who made it, where, and marks."""

_PIXELS = r"(?:\s*[x×]\s*\d{2,4})?\s*(?:\^?2|²)?\s*(?:px|pixels|res\w*)?"
_AT = re.compile(
    rf"\s*[-_/ ]?[@↑→]\s*(\d{{2,4}}){_PIXELS}|\s*[(\[]\s*(\d{{2,4}}){_PIXELS}\s*[)\]]"
    r"|[-_/ ](\d{3})(?:\s*[x×]\s*\3|\s*\^2|²|\s*px)(?!\d)"
)
_BEHIND = re.compile(r"[-_/ ](192|2[0-9][0468]|3[0-9][0468]|4[0-9][0468]|5[0-9][0268]|6[04]0|800)$")
"""An image size behind a name: said as such, `@384`, or with a hyphen alone, which may be part of the name."""

_SAME = r"mae|moco[- ]?v3|dino(?![-v ]*[23])|ibot|aug-?reg|supervised|scratch"
"""How a plain ViT was trained: it is the same network."""

_OWN = (
    (r"(?:open ?)?clip", "ViT-{size} clip"),
    (r"siglip(?:[- ]?v?2)?", "ViT-{size} siglip"),
    (r"dino[- ]?v2", "ViT-{size} dinov2"),
    (r"dino[- ]?v3", "ViT-{size} dinov3"),
    (r"deit[- ]?(?:iii|3)", "deit3-{size}"),
    (r"beit[- ]?v2", "beitv2-{size}"),
    (r"beit(?![- ]?v?\d)", "beit-{size}"),
    (r"eva[- ]?02", "eva02-{size}"),
)
"""Families whose ViT is another network than the plain one: what a label says, and what names of models say."""

_OTHER_VIT = re.compile(
    "|".join((*(family for family, _ in _OWN), r"beit|data2vec|simmim|\bcae\b|\bpeco\b|eva\b|jepa|\baim|\bsam\b")),
    re.IGNORECASE,
)
_VIT_SIZE = r"(?:vit|vision transformer)?[\s_/-]*((?:ti|tiny|s|small|m|b|base|l|large|h|huge|g|giant|so400m)\b.*?)"


def own_family(text: str) -> str:
    """The word in a text for a family whose ViT is another network than the plain one of that size; "" for none."""
    found = _OTHER_VIT.search(text)
    return found.group() if found else ""


def spellings(label: str, variant: str, section: str) -> list[str]:
    """What to look for, in turn, of a row with a second name (`MAE | ViT-B`) and a section. `CLIP | ViT-B` is no ViT-B,
    and neither is a ViT-B below the heading CLIP.
    """
    if variant:
        both = f"{label}-{variant}"
        return [label, both] if own_family(label) and not own_family(variant) else [label, both, variant]
    family = own_family(section)
    plain = re.match(r"(?i)vit|vision transformer|\w{1,2}/\d\d", label) and not own_family(label)
    return [f"{family} {label}"] if family and plain else [label]


def _of_family(text: str) -> str:
    """A label as names of models are built: `DINOv2 ViT-S/14` is ViT-S/14 dinov2, and `MAE ViT-B` is ViT-B."""
    text = re.sub(rf"^(?:{_SAME})[\s_/(-]+(?=vit)|(?<=\w)[\s,(]+(?:{_SAME})\)?$", "", text, flags=re.IGNORECASE)
    for family, spelled in _OWN:
        if found := re.fullmatch(rf"{family}[\s_/(-]*{_VIT_SIZE}\)?", text, re.IGNORECASE):
            return spelled.format(size=found[1])
    return text


_ANOTHER_TASK = re.compile(
    r"(?:^|[-_ ])(cifar-?\d+|cub|voc\d*|coco|ade20k|nlvr|vqa|cars|flowers)(?![a-z])", re.IGNORECASE
)
"""A checkpoint's name that ends so is of a network with another head, and mostly of other images."""


def read_label(label: str, size: int, names: Sequence[str]) -> Match:
    """The model and the size of a label as it is printed, with citations, marks and sizes. `size`: the row's own."""
    text = re.sub(r"(?i)(crossvit[-_ ]?\d+)\s*†", r"\1 dagger", label.replace("^+", "+"))
    text = _of_family(_CITED.sub("", text).strip())
    text = text.replace("⚗", " distilled").replace("×", "x")
    text = re.sub(r"^(?:timm|microsoft|facebook|google|apple|nvidia|[a-z0-9_-]+)/(?=[a-z]+[-_\d])", "", text)
    if not text[:1].isupper() and re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", text):
        text = text.partition(".")[0]  # timm's name with its weights
    text, weights, _ = text.partition("_Weights")  # torchvision's name with its weights
    names = [name for name in names if not weights or name.startswith("torchvision:")] or names
    said = 0
    if at := _AT.search(text):
        said = int(next(filter(None, at.groups())))
        said = said if 64 <= said <= 2000 else 0
        text = text[: at.start()] + text[at.end() :] if said else text
    # What a checkpoint was trained with.
    text = re.sub(r"_(?:3rdparty|\d+xb\d+|fcmae|in2[12]\w*|in1k|\d+px).*", "", text)
    text = re.sub(r"[-_](clip|eva02)(?:[-_](?:laion2b|openai|in12k|in21k|m38m|pre|medft))*$", r"-\1", text)
    text = re.sub(r"^vit-(.*)-eva02$", r"eva02-\1", text)
    text = re.sub(r"_x?(\d)_(\d\d?)$", r" \1.\2", text)  # a width without a point
    match = replace(resolve(text, size or said, names), size=said)
    if _ANOTHER_TASK.search(label):
        return Match(model="", candidates=tuple(filter(None, (match.model,))), size=said)
    if match.model or said or not (behind := _BEHIND.search(text)):
        return match
    behind_size = int(behind.group(1))
    at_size = resolve(text[: behind.start()], size or behind_size, names)
    return replace(at_size, size=behind_size) if at_size.model else match


_OTHER_KIND = re.compile(
    r"torchvision:(deeplab|fcn|lraspp|mc3|mvit|r2plus|r3d|raft|s3d|swin3d)|paper:(mask|cascade|upernet)"
)
"""Networks for segmentation, detection, flow and video: a table of classifiers names none of them."""


def resolve(label: str, size: int, names: Iterable[str]) -> Match:
    """The model of a printed label at that size (pixels; 0: not printed) among the qualified `names`."""
    known = tuple(name for name in names if not _OTHER_KIND.match(name))
    match = _resolved(label, size, known)
    at_size = f"{_without_size(match.model)}_{size}"
    return replace(match, model=at_size) if match.model and at_size in known else match


def _resolved(label: str, size: int, known: Sequence[str]) -> Match:
    if own := next((name for name in known if name.partition(":")[2] == label.lower()), ""):
        return Match(model=own)
    wanted = tokens(label)
    holding = [(name, left) for name in known if (left := _left(tokens(name), wanted)) is not None]
    exact = [
        name for name, left in holding if all(p.isdigit() or p in _FILLING for p in left) and not _newer(name, left)
    ]
    best = _sized([name for name in exact if name.startswith("timm:")] or exact, size)
    if printed := _printed().get(_plain(label)):
        fitting = [model for model, sizes in printed.items() if (size or 224) in sizes]
        alike = {_without_size(model) for model in printed}
        other_size = not fitting and len(best) == 1 and (size or _without_size(best[0]) in alike)
        fitting = fitting or list(printed)
        usual = [model for model in fitting if model.startswith("timm:")] or fitting
        # A paper may print another network's name by mistake: then the name itself is right.
        numbers, parts = {part for part in wanted if part.isdigit()}, tokens(usual[0])
        mistaken = len(best) == 1 and parts[:1] == wanted[:1] and not numbers <= set(parts)
        other_home = len(best) == 1 and best[0].startswith("timm:") > usual[0].startswith("timm:")
        if len(usual) == 1 and not (mistaken or other_size or other_home):
            return Match(model=usual[0])
    joined = "".join(wanted)
    width_first = re.sub(r"(\d\.\d+)x\b", r"x\1", label)
    homes = sorted(known, key=lambda name: not name.startswith("timm:"))
    for spelled in (_plain(label), _plain(width_first), joined, joined + "100", joined + "224", "tf" + joined):
        same = [name for name in homes if spelled in _spellings(name)]
        of_size = size and len(best) == 1 and re.search(rf"_{size}$", best[0])
        if same and not of_size and not (best and same[0].startswith("torchvision:")):
            return Match(model=same[0])
    near = tuple(sorted((name for name, _ in holding), key=len))[:3]
    return Match(model=best[0] if len(best) == 1 else "", candidates=tuple(best[:3]) or near)


@lru_cache(maxsize=4096)
def _spellings(name: str) -> tuple[str, ...]:
    """A model's name without what parts its words, and with sizes written out; `1_6gf` is 1.6, and not 16."""
    bare = name.partition(":")[2]
    return _plain(re.sub(r"(?<!\d)(\d)_(\d)(?!\d)", r"\1.\2", bare)), "".join(tokens(name))


def _left(name: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...] | None:
    """The parts of a name that the label does not say; None where it says one that the name lacks."""
    rest = list(name)
    for part in wanted:
        if part not in rest:
            return None
        rest.remove(part)
    return tuple(rest) if wanted and name[0] == wanted[0] else None


def _newer(name: str, left: Sequence[str]) -> bool:
    """Whether a number that the label does not say comes right behind the family's name: EVA-02 is not EVA."""
    second = tokens(name)[1:2]
    return bool(second) and second[0] in left and second[0].isdigit() and not re.fullmatch(r"[01]\d[05]", second[0])


def _sized(names: Sequence[str], size: int) -> list[str]:
    """Of those, the ones that are named after this size; else those that are named after none, or after 224."""
    at = [name for name in names if size and re.search(rf"(?:_|to){size}$", name)]
    usual = [name for name in names if not re.search(r"(?:_|to)\d{3}$", name) or name.endswith("_224")]
    chosen = at or usual or list(names)
    shortest = min((len(tokens(name)) for name in chosen), default=0)
    brief = [name for name in chosen if len(tokens(name)) == shortest]
    return [name for name in brief if name.endswith("_100")] or brief  # a width that is not printed is 1.0


def _without_size(model: str) -> str:
    return re.sub(r"_\d{3}$", "", model)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "", re.sub(r"(?<=\w)\+", "plus", text.lower()))


@lru_cache(maxsize=1)
def _printed() -> dict[str, dict[str, frozenset[ImageSize]]]:
    """By label, as the shipped papers print it: the models that it names, and at which sizes."""
    from visionbench.reports import REPORTS

    labels: dict[str, dict[str, frozenset[ImageSize]]] = {}
    for tables in REPORTS.papers().values():
        for row in (row for table in tables.values() for row in table.rows if row.model):
            if not re.search(r"[a-z]{3}", _plain(row.label)):
                continue  # S24 or B0 is another network in the next paper
            models = labels.setdefault(_plain(row.label), {})
            models[row.model] = models.get(row.model, frozenset()) | {row.image_size}
    return labels
