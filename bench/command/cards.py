"""What `trace` prints of one model: its card, and fvcore's opinion of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visionbench.command import output
from visionbench.record.record import Record
from visionbench.record.spec import Spec

if TYPE_CHECKING:
    from visionbench.tracing import Trace


def card(found: Trace, record: Record, depth: int) -> str:
    """The card of one model as text."""
    from visionbench.models import resolve
    from visionbench.reports import render
    from visionbench.reports.results import model_card
    from visionbench.tracing.summary import by_kind, by_stage, uncounted

    batch = found.spec.batch_size
    whole = "one step" if batch == 1 else f"one step of all {batch} images"
    environment = record.environment
    origin = f"{resolve(found.spec.model).origin}; counted by torch {environment.torch} on its meta device"
    parts = [
        model_card.facts(record, str(found.spec), origin),
        model_card.breakdown(f"By kind of operator, {whole}", by_kind(found)),
        model_card.breakdown(f"By stage, {whole}", by_stage(found, depth)),
    ]
    if found.curve:
        parts.insert(1, model_card.memory(record, found.curve.peak_phase, found.curve.totals))
    tables = [render(part, "terminal", output.width(None), colour=output.colour()) for part in parts]
    return "\n".join([*tables, model_card.not_counted(uncounted(found), record)])


def opinion(spec: Spec) -> str:
    """The count of fvcore beside ours, and what explains the difference."""
    from visionbench.tracing.second_opinion import second_opinion

    found = second_opinion(spec)
    verdict = "agree" if found.agrees else "DISAGREE"
    lines = [f"\nSecond opinion (fvcore, real tensors, one image): the counts {verdict}."]
    lines += [f"  ours {found.ours:,}; fvcore {found.theirs:,}"]
    lines += [f"  {d.operator}: ours {d.ours:,}, fvcore {d.theirs:,} ({d.reason})" for d in found.differences]
    return "\n".join(lines)
