"""A judgement in words: one sentence for the whole, one for its rule, a phrase for a ratio. Every face of a gate (the
terminal, a job's summary, an annotation, a test report) says the same thing because it is said here.

A ratio is of time, candidate over baseline, so more than 1 is slower. It reads as percent of the baseline's time:
"4.9 % slower" takes 4.9 % more of it, "10 % faster" a tenth less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import median

from visionbench.comparison.comparison import TIMER_WORDS, First, Side, iteration_seconds
from visionbench.comparison.verdict import Change, Judgement, Rule, Verdict, Word
from visionbench.record import clean as cleaner
from visionbench.record.flags import meaning
from visionbench.record.record import Environment
from visionbench.record.statistics import Estimate, estimate
from visionbench.record.units import KILO, duration, first_of, plural, significant
from visionbench.reports.cells import CAUSES
from visionbench.reports.launches import grouped
from visionbench.reports.settings import device_name

ORDER: tuple[Word, ...] = ("regressed", "not measured", "inconclusive", "improved", "ok")
"""What a reader must see first."""

LONGEST = 500
"""Characters of a message that are shown: a failure may carry a whole traceback."""

SIDES: tuple[First, First] = ("baseline", "candidate")

NAMED = 3
"""Rows that a sentence names before it counts the rest."""


def clean(text: str) -> str:
    """One line of at most `LONGEST` printable characters: names and messages come from elsewhere."""
    line = " ".join(cleaner.clean(text).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def ranked(judgement: Judgement) -> tuple[Verdict, ...]:
    """The verdicts, the worst first: by word, then by how much slower; improved ones by how much faster."""

    def place(verdict: Verdict) -> tuple[int, float]:
        sign = {"regressed": -1, "inconclusive": -1, "improved": 1}.get(verdict.word, 0)
        return ORDER.index(verdict.word), sign * verdict.ratio.centre if verdict.ratio else 0.0

    return tuple(sorted(judgement.verdicts, key=place))


def signed(ratio: float) -> str:
    """A ratio of 1.049 as `+4.9`: percent, with a sign."""
    percent = (ratio - 1) * 100
    text = f"{abs(percent):,.1f}"
    return text if float(text.replace(",", "")) == 0 else f"{'+' if percent > 0 else '−'}{text}"


def change(ratio: Estimate) -> str:
    """`4.9 % slower [4.1, 5.6]`; an interval with both signs says them: `[0.2 % faster, 0.4 % slower]`."""
    told = _slower(ratio.centre)
    if ratio.low is None or ratio.high is None:
        return f"{told} (no interval)"
    bounds = sorted((ratio.low, ratio.high), key=lambda bound: abs(bound - 1))
    if (ratio.low - 1) * (ratio.high - 1) > 0 and signed(bounds[0]) != "0.0":
        return f"{told} [{signed(bounds[0])[1:]}, {signed(bounds[1])[1:]}]"
    return f"{told} [{_slower(ratio.low)}, {_slower(ratio.high)}]"


def _slower(ratio: float) -> str:
    text = signed(ratio)
    return "0.0 %" if text == "0.0" else f"{text[1:]} % {'slower' if ratio > 1 else 'faster'}"


def seconds(verdict: Verdict, side: First) -> Estimate | None:
    """Seconds of one iteration of a side, with their interval over launches: within this job, and for no other.

    None for a row that was not finished, which has no ratio either.
    """
    centre = iteration_seconds(verdict.comparison, side)
    if centre is None or verdict.ratio is None:
        return None
    values = [median(getattr(one, side) for one in launch.rounds) for launch in verdict.comparison.launches]
    return replace(estimate(values), centre=centre)


def half_width(found: Estimate) -> str:
    """`0.8 %`: the longer arm of the interval as a share of the centre; "" without one."""
    if found.low is None or found.high is None:
        return ""
    return f"{max(found.high - found.centre, found.centre - found.low) / found.centre * 100:.1f} %"


def rounded(value: float) -> float:
    """A number for machines: seven significant digits, beyond which no clock sees."""
    return float(f"{value:.7g}")


def p_of(verdict: Verdict) -> float | None:
    """The p-value of the claim: of being faster for an improved row, of being slower for all others."""
    return verdict.p_faster if verdict.word == "improved" else verdict.p_slower


def p_text(p: float) -> str:
    """Four decimals, so that a column lines up."""
    return f"{p:.4f}" if p >= 0.00005 else "<0.0001"


def why(verdict: Verdict) -> Iterator[str]:
    """Why a row is inconclusive, not measured, or has fewer launches than were asked for."""
    reason, failure = clean(verdict.reason), verdict.comparison.failure
    if reason:
        yield reason
    if failure is not None and clean(failure.message)[:80] not in (reason or "\0"):
        whose = verdict.comparison.failed or "both sides"
        yield clean(f"{whose}: {CAUSES[failure.kind]} in stage '{failure.stage}': {failure.message}")


def doubts(verdict: Verdict) -> tuple[str, ...]:
    """The flags of its launches, in words; not those that its reason names."""
    return tuple(meaning(flag) for flag in verdict.comparison.flags if flag not in verdict.reason)


def detail(verdict: Verdict) -> str:
    """All numbers of one row in one sentence, without its name and word."""
    comparison, parts = verdict.comparison, []
    base, head = (seconds(verdict, side) for side in SIDES)
    if verdict.ratio is not None and base is not None and head is not None:
        before, after = (significant(side.centre * KILO, 4) for side in (base, head))
        parts.append(change(verdict.ratio))
        parts.append(f"{before} → {after} ms per iteration by {TIMER_WORDS[comparison.timer]}")
    parts += [plural(len(comparison.launches), "launch", "launches")] if comparison.launches else []
    p = p_of(verdict)
    parts += [f"p {'' if p < 0.00005 else '= '}{p_text(p)}"] if p is not None else []
    return "; ".join(parts)


# --- the whole ---------------------------------------------------------------------------------------------------


def headline(judgement: Judgement) -> str:
    """The verdict in a few words, the worst news first, as `exit_code` sees it: `1 of 12 rows regressed`.

    A budget too small for one full look comes before it: what follows was then hardly asked.
    """
    if judgement.cut:
        shown = headline(replace(judgement, cut=""))
        return f"{clean(judgement.cut)}: {shown[:1].lower()}{shown[1:]}"
    rows = plural(len(judgement.verdicts), "row")
    slow, lost = len(judgement.rows("regressed")), len(judgement.rows("not measured"))
    parts = [f"{slow} of {rows} regressed"] if slow else []
    parts += [plural(len(judgement.changes), "structural change")] if judgement.changes else []
    parts += [f"{lost} of {rows} could not be measured" if not slow else f"{lost} not measured"] if lost else []
    if parts:
        return ", ".join(parts)
    if not judgement.verdicts:
        return structure(judgement).rstrip(".") or "Nothing was compared"
    if is_undecided(judgement):
        return f"Nothing was shown: {'all ' if len(judgement.verdicts) > 1 else ''}{rows} inconclusive"
    if vague := len(judgement.rows("inconclusive")):
        return f"No regression shown, but {vague} of {rows} {'is' if vague == 1 else 'are'} inconclusive"
    return "No regression"


def is_undecided(judgement: Judgement) -> bool:
    """Whether this green build says nothing: no row got another word than inconclusive."""
    return bool(judgement.verdicts) and len(judgement.rows("inconclusive")) == len(judgement.verdicts)


def sentence(judgement: Judgement) -> str:
    """What the headline is about, as sentences: the rows by name, then how many of the others got which word."""
    named = [*_rows(judgement, "regressed"), *_changed(judgement)] or [*lost(judgement)]
    named = named or [*_rows(judgement, "inconclusive")]
    parts = [f"{'; '.join(named)}."] if named else []
    told = {"regressed", "not measured"}  # the headline counts them
    if rest := tally(judgement, (word for word in ORDER if word not in told)):
        others = "Other rows: " if any(verdict.word in told for verdict in judgement.verdicts) else "Rows: "
        parts.append(f"{others if named else ''}{rest}.")
    if judgement.verdicts:
        parts += [structure(judgement)] if judgement.structures else []
    elif not judgement.changes:
        parts.append("no row was timed." if judgement.structures else "no row was timed, no structure counted.")
    return " ".join(parts)


def tally(judgement: Judgement, which: Iterable[Word] = ORDER) -> str:
    """`1 regressed, 2 inconclusive, 9 ok`: of all rows, by word."""
    counts = ((word, len(judgement.rows(word))) for word in which)
    return ", ".join(f"{number} {word}" for word, number in counts if number)


def changed_rows(judgement: Judgement) -> dict[str, list[Change]]:
    """The structural changes by row."""
    return grouped(judgement.changes, lambda change: change.row)


def structure(judgement: Judgement) -> str:
    """How the exact comparison came out; "" where none was asked for."""
    rows, changed = judgement.structures, len(changed_rows(judgement))
    if changed:
        of = f" of {rows}" if rows >= changed else ""
        return f"Structure changed in {changed}{of} {'row' if max(rows, changed) == 1 else 'rows'}."
    return f"Structure unchanged in {plural(rows, 'row')}." if rows else ""


def _rows(judgement: Judgement, word: Word) -> Iterator[str]:
    its = [verdict for verdict in ranked(judgement) if verdict.word == word]
    yield from _first([f"{clean(one.comparison.name)} is {change(one.ratio) if one.ratio else word}" for one in its])


def _changed(judgement: Judgement) -> Iterator[str]:
    rows = changed_rows(judgement).items()
    yield from _first([f"{clean(row)}: {', '.join(map(difference, its))}" for row, its in rows])


def lost(judgement: Judgement) -> Iterator[str]:
    """The rows that could not be measured, with their reasons."""
    named = []
    for verdict in judgement.rows("not measured"):
        cause = next(why(verdict), "no reason given").rstrip(".")
        named.append(f"{clean(verdict.comparison.name)} ({cause})")
    yield from _first(named)


def _first(names: Sequence[str]) -> list[str]:
    """At most `NAMED` of them, and how many more there are."""
    return [*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])]


def difference(one: Change) -> str:
    """`params 25,557,032 → 25,559,080`."""
    return f"{clean(one.what)} {clean(one.before)} → {clean(one.after)}"


def rule(its: Rule) -> Iterator[str]:
    """What the words mean, by the rule's own numbers."""
    looks = f" at each of {plural(its.looks, 'look')}" if its.looks > 1 else ""
    yield (
        f"regressed: over {share(its.margin)} slower (exact signed-rank test over launches, p < "
        f"{its.alpha / its.looks:g}{looks}, false discovery rate {share(its.fdr)}), and at least "
        f"{share(its.centre)} slower at the centre. improved: the same, faster."
    )
    yield (
        f"ok: less than {share(its.limit)} slower (whole 95 % interval); a smaller slow-down is possible. "
        "inconclusive: the launches could not tell. It does not mean ok."
    )


def share(value: float) -> str:
    """`0.025` -> `2.5 %`."""
    return f"{value * 100:g} %"


def facts(judgement: Judgement) -> Iterator[str]:
    """Sentences about the whole: all rows together, who was compared, where, what else to know, how to repeat it."""
    if judgement.suite is not None:
        yield f"All rows together (geometric mean of their ratios): {change(judgement.suite)}."
    compared = [verdict.comparison for verdict in judgement.verdicts]
    if compared:
        baselines, candidates = ([getattr(one, side) for one in compared] for side in SIDES)
        yield f"Baseline: {_who(baselines)}; candidate: {_who(candidates)}."
    yield from dict.fromkeys(_where(one.environment) for one in compared)
    yield from map(clean, judgement.remarks)
    took = f" It took {duration(judgement.seconds)}." if judgement.seconds is not None else ""
    command = " ".join(judgement.command.split())
    if command:
        yield f"Repeat with {command if '`' in command else f'`{command}`'}.{took}"
    elif took:
        yield took.strip()


def _who(sides: Iterable[Side]) -> str:
    told: dict[str, None] = {}
    for side in sides:
        known = [side.commit[:12]] if side.commit else []
        known += ["with uncommitted changes"] if side.dirty else []
        told[clean(side.label) + (f" ({', '.join(known)})" if known else "")] = None
    return " and ".join(told) if len(told) <= NAMED else first_of(tuple(told))


def _where(environment: Environment) -> str:
    known = [device_name(environment), environment.device_name or environment.cpu or ""]
    known += [f"{name} {version}" for name in ("torch", "timm", "python") if (version := getattr(environment, name))]
    return f"Measured on {clean('; '.join(dict.fromkeys(part for part in known if part)))}."
