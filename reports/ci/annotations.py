"""A judgement as GitHub's workflow commands: what a pull request shows beside its checks.

GitHub shows ten annotations of a kind per step and drops the rest without a word. So at most ten errors are written,
one per row that regressed or changed its structure; what they leave out, and rows that could not be measured, get one
warning each, which is another kind.
"""

from __future__ import annotations

from collections.abc import Iterator

from visionbench.comparison.verdict import Judgement
from visionbench.record.units import plural
from visionbench.reports.results import verdict_text as words

SHOWN = 10
"""Annotations of one kind that GitHub shows per step."""


def commands(judgement: Judgement) -> str:
    """One command per line, "" where there is nothing to say."""
    errors = [*_regressed(judgement), *_changed(judgement)]
    lines = [_command("error", title, message) for title, message in errors[:SHOWN]]
    if (rest := len(errors) - SHOWN) > 0:
        more = f"{words.headline(judgement)}. GitHub shows {SHOWN} annotations; the job's summary names all rows."
        lines.append(_command("warning", plural(rest, "more error"), more))
    lines += [_command("warning", *told) for told in _unmeasured(judgement)]
    return "".join(f"{line}\n" for line in lines)


def _command(kind: str, title: str, message: str) -> str:
    """`::error title=...::...`, escaped as GitHub's runner unescapes it: data, and properties, which end at `,`."""
    return f"::{kind} title={_data(title).replace(':', '%3A').replace(',', '%2C')}::{_data(message)}"


def _data(text: str) -> str:
    # The percent sign first: the others bring new ones.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _regressed(judgement: Judgement) -> Iterator[tuple[str, str]]:
    for verdict in words.ranked(judgement):
        if verdict.word == "regressed":
            doubts = "".join(f" Doubt: {doubt}." for doubt in words.doubts(verdict))
            yield f"{words.clean(verdict.comparison.name)} regressed", f"{words.detail(verdict)}.{doubts}"


def _changed(judgement: Judgement) -> Iterator[tuple[str, str]]:
    """One per row, however many of its counts changed."""
    for row, its in words.changed_rows(judgement).items():
        where = list(dict.fromkeys(words.clean(place) for change in its for place in change.where))
        named = f" ({'; '.join(where[: words.NAMED])}{'; …' if len(where) > words.NAMED else ''})" if where else ""
        yield f"{words.clean(row)} changed its structure", f"{'; '.join(map(words.difference, its))}{named}"


def _unmeasured(judgement: Judgement) -> Iterator[tuple[str, str]]:
    if judgement.cut or words.is_undecided(judgement):
        yield "The gate could not decide", f"{words.headline(judgement)}. {words.sentence(judgement)}"
    if lost := judgement.rows("not measured"):
        title = f"{len(lost)} of {plural(len(judgement.verdicts), 'row')} not measured"
        yield title, f"{'; '.join(words.lost(judgement))}."
    if not judgement.verdicts and not judgement.structures and not judgement.changes:
        yield "Nothing was compared", "No row was timed and no structure counted, so this says nothing about the code."
