"""The whole zoo of timm as a table: exact counts, fvcore's, the memory of a training step, and what timm publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visionbench.record.profile import TRAINED, Profile
from visionbench.record.spec import ImageSize
from visionbench.record.units import GIB, GIGA, MEGA, plural
from visionbench.reports import cells
from visionbench.reports.audit.conventions import STATED
from visionbench.reports.audit.published_zoo import PublishedZoo
from visionbench.reports.audit.roundings import fits
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.printed import Number
from visionbench.reports.table import Cell, Table

FVCORE = STATED["fvcore"]

SCALES = {"params": MEGA, "macs": GIGA, "activations": MEGA}
WORDS = {"params": "params (M)", "macs": "FLOPs (G)", "activations": "activations (M)"}

Steps = Mapping[tuple[str, ImageSize], Profile]
"""What a training step needs, by network."""


def zoo(profiles: Sequence[Profile], trained: Sequence[Profile] = (), published: PublishedZoo | None = None) -> Table:
    """Every network of a zoo with its exact counts and fvcore's, with what is `published` of it, and with the memory of
    a training step of those `trained`; one that cannot be counted is a row with its cause.
    """
    steps = {(each.model, each.size): each for each in trained}
    columns: list[Column[Profile]] = [
        label("model", "model", lambda profile: profile.model.partition(":")[2]),
        label("family", "family", lambda profile: profile.family.rpartition(".")[2]),
        label("image_size", "size", lambda profile: str(profile.size), align="right"),
    ]
    for metric in SCALES:
        columns.append(_exact(metric))
        columns += _published(metric, published) if published else ()
        columns += [_fvcore()] if metric == "macs" else []
    columns += [_training_memory(steps)] if steps else []
    columns.append(label("cause", "cause", lambda profile: profile.error or _untrained(profile, steps)))
    failed = sum(bool(profile.error) for profile in profiles)
    networks = len({profile.model for profile in profiles})
    return lay_out(
        "audit_timm",
        f"Exact counts of timm's {plural(networks, 'network')}, each at the size that it is trained on"
        + (", and at the sizes that timm publishes" if published else ""),
        profiles,
        columns,
        subject=lambda profile: profile.model,
        dash="not counted, or not published" if published else "not counted",
        remarks=(
            "FLOPs: multiply-accumulates. fvcore: norms, global pools and resizing, too, computed from the trace.",
            *(_compared(profiles, published) if published else ()),
            *([f"training memory: the peak of live tensors over a step of {TRAINED} images, AdamW."] if steps else []),
            *([f"{plural(failed, 'network')} cannot be counted."] if failed else []),
        ),
    )


def _exact(metric: str) -> Column[Profile]:
    return Column(
        key=metric,
        head=(WORDS[metric],),
        unit="count",
        source="computed",
        fill=lambda profile: cells.computed(profile.parts.get(metric), SCALES[metric], 2),
    )


def _fvcore() -> Column[Profile]:
    def fill(profile: Profile) -> Cell:
        macs = profile.parts.get("macs")
        return _percent(FVCORE.count(profile.parts) / macs - 1) if macs else cells.word("")

    return Column(key="fvcore", head=("fvcore - exact",), align="right", fill=fill)


def _percent(share: float) -> Cell:
    return cells.word(f"{share * 100:+.1f} %", share)


def _published(metric: str, published: PublishedZoo) -> tuple[Column[Profile], Column[Profile]]:
    """The figure of timm, and by how much it differs from the exact count."""

    def number(profile: Profile) -> Number | None:
        return published.figures.get((profile.model, profile.size), {}).get(metric)

    def difference(profile: Profile) -> Cell:
        printed, exact = number(profile), profile.parts.get(metric)
        if printed is None or not exact:
            return cells.word("")
        return cells.word("reproduced", 0.0) if fits(printed, exact) else _percent(printed.value / exact - 1)

    shown: Column[Profile] = Column(
        key=f"{metric}_timm",
        head=(f"timm's {WORDS[metric]}",),
        unit="count",
        source="published",
        fill=lambda profile: cells.published(number(profile)),
    )
    return shown, Column(key=f"{metric}_difference", head=("timm - exact",), align="right", fill=difference)


def _compared(profiles: Sequence[Profile], published: PublishedZoo) -> tuple[str, ...]:
    """Whose figures they are and by which convention, and how many of them are the exact counts."""
    names = " and ".join(published.files)
    pairs = [
        (metric, printed, profile)
        for profile in profiles
        for metric, printed in published.figures.get((profile.model, profile.size), {}).items()
        if profile.parts
    ]
    exact = []
    for metric, word in (("params", "params"), ("macs", "FLOPs"), ("activations", "activations")):
        of_metric = [(printed, profile) for name, printed, profile in pairs if name == metric]
        if of_metric:
            same = sum(fits(printed, profile.parts[metric]) for printed, profile in of_metric)
            exact.append(f"{same} of {len(of_metric)} {word}")
    others = [
        fits(printed, FVCORE.count(profile.parts))
        for metric, printed, profile in pairs
        if metric == "macs" and not fits(printed, profile.parts["macs"])
    ]
    known = {profile.model for profile in profiles}
    unknown = list(dict.fromkeys(model.partition(":")[2] for model, _ in published.figures if model not in known))
    named = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return (
        f"timm: {names}. Its FLOPs are counted with fvcore or deepspeed, which count norms and global pools, too.",
        f"To the digit that timm prints, the exact counts are {', '.join(exact) or 'none'}."
        + (
            f" Of the other {plural(len(others), 'FLOPs figure')} fvcore's count gives {sum(others)}." if others else ""
        ),
        *([f"{plural(len(unknown), 'network')} of {names} not in this timm: {named}."] if unknown else []),
    )


def _training_memory(steps: Steps) -> Column[Profile]:
    def fill(profile: Profile) -> Cell:
        step = steps.get((profile.model, profile.size))
        return cells.computed(step.parts.get("peak_memory_live") if step else None, GIB, 2)

    return Column(key="train_memory", head=("training memory (GiB)",), unit="B", source="computed", fill=fill)


def _untrained(profile: Profile, steps: Steps) -> str:
    step = steps.get((profile.model, profile.size))
    return f"training: {step.error}" if step and step.error else ""
