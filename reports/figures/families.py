"""Families of networks: one hue and one shape each, and how a printed label reads beside a legend that names them."""

from __future__ import annotations

from dataclasses import dataclass

from visionbench.record.spec import ImageSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A family's name, the beginnings of its models' printed labels, its hue of the palette and its marker's shape.

    `whole`: its members' labels stay whole, because their beginnings tell them apart.
    """

    name: str
    begins: tuple[str, ...]
    hue: str
    marker: str
    whole: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(name="ConvNeXt (isotropic)", begins=(), hue="sky", marker="P"),
    Family(name="ConvNeXt", begins=("ConvNeXt-",), hue="blue", marker="o"),
    Family(name="Swin", begins=("Swin-",), hue="vermillion", marker="s"),
    Family(name="DeiT, ViT", begins=("DeiT-", "ViT-"), hue="green", marker="^", whole=True),
    Family(name="EfficientNet", begins=("EffNet-", "EffNet"), hue="purple", marker="D"),
    Family(name="ResNet", begins=("ResNet-", "R-"), hue="grey", marker="v"),
    Family(name="RegNet", begins=("RegNet",), hue="orange", marker="X"),
)

OTHER = Family(name="other", begins=(), hue="black", marker="*")

_ISOTROPIC = " (iso.)"


def family(label: str) -> Family:
    """The family of a printed label: `Swin-T` -> Swin. What is none of them is `OTHER`."""
    if label.endswith(_ISOTROPIC):
        return FAMILIES[0]
    return next((one for one in FAMILIES if label.startswith(one.begins or "\0")), OTHER)


def short(label: str, image_size: ImageSize) -> str:
    """What the legend does not say: `ConvNeXt-B` at 384 px -> `B@384`; 224 px goes without saying."""
    plain = label.removesuffix(_ISOTROPIC)
    its = family(plain)
    begin = next((begin for begin in its.begins if plain.startswith(begin)), "")
    name = plain if its.whole else plain.removeprefix(begin) or plain
    return name if image_size == 224 else f"{name}@{image_size}"
