"""What a notebook shows of records and judgements: their tables, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from visionbench.comparison.verdict import Judgement
from visionbench.record.record import Record
from visionbench.reports.table import Table


def of_records(records: Sequence[Record]) -> str:
    """The table of what was measured, one of what was predicted, and one for each count."""
    return "".join(_fragment(table, sentences) for table, sentences in _tables(records)) or "<p>No records.</p>"


def of_judgement(judgement: Judgement) -> str:
    """The table of verdicts."""
    from visionbench.reports.results import verdicts

    return _fragment(verdicts.layout(judgement), ())


def _tables(records: Sequence[Record]) -> Iterable[tuple[Table, Sequence[str]]]:
    from visionbench.command.runs_table import spreads
    from visionbench.reports.results import model_card, predictions, runs

    measured = [record for record in records if record.source == "measured"]
    if measured:
        yield runs.layout(records), tuple(spreads(measured))
    predicted = [record for record in records if record.source == "predicted"]
    if predicted:
        yield predictions.layout(predicted, "Predicted"), ()
    for record in records:
        if record.source == "computed" and record.failure is None and not measured:
            origin = f"counted by torch {record.environment.torch} on its meta device"
            yield model_card.facts(record, str(record.spec), origin), ()


def _fragment(table: Table, sentences: Sequence[str]) -> str:
    """A table without a style sheet: a notebook has one."""
    from visionbench.reports.render.fragment import fragment
    from visionbench.reports.table import cleaned

    return fragment(cleaned(table)) + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
