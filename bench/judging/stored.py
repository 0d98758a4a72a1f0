"""Compares the recorded numbers of two files: exact counts exactly, times with their intervals and without a verdict.

What is compared must have been recorded alike: the same row, from the same source, by the same protocol, on machines
with one fingerprint. Anything else is refused with the fields that differ, because a warning above a number is not read
and the number is. The rest cannot be seen in the two files: times of two jobs differ by what the two machines, or
one machine at two hours, did differently, and no interval over launches of one job contains that. So a time is
`apart` or `overlapping`, never "regressed".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from visionbench.comparison.stored import Entry, Found, Provenance, Recorded, StoredComparison
from visionbench.judging.result_files import Facts, Number, Sample
from visionbench.record.fingerprint import Difference, differing
from visionbench.record.statistics import Estimate, over_nodes

Key = tuple[str, str, Facts, Facts]
"""Row, source, how, where: launches with one key are repetitions."""

Groups = dict[Key, list[Sample]]


def compare(
    baseline: Sequence[Sample],
    candidate: Sequence[Sample],
    *,
    labels: tuple[str, str] = ("baseline", "candidate"),
) -> StoredComparison:
    """Every number of either side, compared where both have it recorded alike. Pure."""
    groups = (_groups(baseline), _groups(candidate))
    entries = list(_entries(*groups, _told_apart({**groups[0], **groups[1]})))
    return StoredComparison(
        baseline=_provenance(labels[0], baseline),
        candidate=_provenance(labels[1], candidate),
        entries=tuple(entries),
    )


def _groups(samples: Iterable[Sample]) -> Groups:
    groups: Groups = {}
    for sample in samples:
        groups.setdefault((sample.row, sample.source, sample.how, sample.where), []).append(sample)
    return groups


def _told_apart(keys: Iterable[Key]) -> dict[Key, str]:
    """Of a row that a side has from several kinds of machine, or measured in several ways: what tells them apart."""
    rows: dict[tuple[str, str], list[Key]] = {}
    for key in keys:
        rows.setdefault(key[:2], []).append(key)
    apart: dict[Key, str] = {}
    for row in rows.values():
        facts = {key: dict((*key[2], *key[3])) for key in row}
        names = dict.fromkeys(name for of_key in facts.values() for name in of_key)
        differ = [name for name in names if len({of_key.get(name) for of_key in facts.values()}) > 1]
        apart |= {key: ", ".join(f"{name} {facts[key].get(name)}" for name in differ) for key in row}
    return apart


def _entries(baseline: Groups, candidate: Groups, among: Mapping[Key, str]) -> Iterator[Entry]:
    """In the baseline's order; then what only the candidate has."""
    lone = {key: its for key, its in candidate.items() if key not in baseline}
    for key, its in baseline.items():
        if key in candidate:
            yield from (replace(entry, among=among[key]) for entry in _row(its, candidate[key]))
        elif partner := _nearest(key, lone):
            del lone[partner]
            yield _whole(its[-1], "not comparable", differences=_differences(key, partner))
        elif any(sample.numbers for sample in its):
            gone = _whole(its[-1], "vanished", reason="the candidate has no record of it")
            yield replace(gone, among=among[key])
        else:
            yield _whole(its[-1], "failed", reason=its[-1].failure)
    for key, its in lone.items():
        failed = not any(sample.numbers for sample in its)
        entry = _whole(its[-1], "failed" if failed else "new", reason=its[-1].failure if failed else "")
        yield replace(entry, among=among[key])


def _whole(sample: Sample, word: Found, *, differences: tuple[Difference, ...] = (), reason: str = "") -> Entry:
    row, subject, source = sample.row, sample.subject, sample.source
    return Entry(row=row, subject=subject, source=source, word=word, differences=differences, reason=reason)


def _nearest(key: Key, others: Iterable[Key]) -> Key | None:
    """The same row as it was recorded otherwise, with the fewest differences; None where the row is not there."""
    same = [other for other in others if other[0] == key[0]]
    return min(same, key=lambda other: len(_differences(key, other)), default=None)


def _differences(a: Key, b: Key) -> tuple[Difference, ...]:
    """What keeps two keys of one row apart. Of another source nothing else matters."""
    if a[1] != b[1]:
        return (Difference(field="source", baseline=a[1], candidate=b[1]),)
    return (*differing(dict(a[3]), dict(b[3])), *differing(dict(a[2]), dict(b[2])))


def _row(baseline: Sequence[Sample], candidate: Sequence[Sample]) -> Iterator[Entry]:
    """One entry per metric that either side has; one for the row where a side has none at all."""
    sides = [[sample for sample in side if sample.numbers] for side in (baseline, candidate)]
    if not (sides[0] and sides[1]):
        word: Found = "vanished" if sides[0] else "new" if sides[1] else "failed"
        failed = candidate if sides[0] or not sides[1] else baseline
        side = "the candidate: " if sides[0] else "the baseline: " if sides[1] else ""
        yield _whole(candidate[-1], word, reason=side + failed[-1].failure)
        return
    metrics = dict.fromkeys(number.metric for side in sides for sample in side for number in sample.numbers)
    for metric in metrics:
        yield _number(metric, baseline, candidate)


def _number(metric: str, baseline: Sequence[Sample], candidate: Sequence[Sample]) -> Entry:
    a, b = _numbers(metric, baseline), _numbers(metric, candidate)
    known = (b or a)[-1]
    one = _recorded(metric, baseline) if a else None
    other = _recorded(metric, candidate) if b else None
    return Entry(
        row=candidate[-1].row,
        subject=candidate[-1].subject,
        source=candidate[-1].source,
        word=_word(one, other, exact=known.exact),
        metric=metric,
        unit=known.unit,
        better=known.better,
        baseline=one,
        candidate=other,
        cost=_cost(one, other, known) if one and other else None,
        reason="" if a and b else f"only the {'baseline' if a else 'candidate'} has this number",
    )


def _numbers(metric: str, samples: Sequence[Sample]) -> list[Number]:
    return [number for sample in samples if (number := sample.get(metric))]


def _recorded(metric: str, launches: Sequence[Sample]) -> Recorded:
    """A side's number: of an exact count the newest (a file may hold the counts of several commits), else over all."""
    numbers = _numbers(metric, launches)
    values = [(launch.node, number.value) for launch in launches if (number := launch.get(metric))]
    return Recorded(
        estimate=_single(values[-1][1], 1) if numbers[-1].exact else _estimate(values),
        spread=numbers[0].spread if len(numbers) == 1 else None,
        flags=tuple(dict.fromkeys(flag for number in numbers for flag in number.flags)),
        failed=sum(bool(launch.failure) for launch in launches),
    )


def _estimate(values: Sequence[tuple[str | None, float]]) -> Estimate:
    """Over nodes or launches, by logarithms; where a value is zero (graph breaks) that has none: the median."""
    numbers = [value for _, value in values]
    return over_nodes(values) if min(numbers) > 0 else _single(median(numbers), len(numbers))


def _single(value: float, launches: int) -> Estimate:
    return Estimate(centre=value, low=None, high=None, launches=launches)


def _word(baseline: Recorded | None, candidate: Recorded | None, *, exact: bool) -> Found:
    if baseline is None or candidate is None:
        return "new" if baseline is None else "vanished"
    a, b = baseline.estimate, candidate.estimate
    if exact:
        return "equal" if a.centre == b.centre else "changed"
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return "no interval"
    return "apart" if a.high < b.low or b.high < a.low else "overlapping"


def _cost(baseline: Recorded, candidate: Recorded, number: Number) -> float | None:
    """The candidate's cost over the baseline's: the ratio of times also where a rate is shown."""
    a, b = baseline.estimate.centre, candidate.estimate.centre
    if number.better == "higher":
        a, b = b, a
    return b / a if a > 0 else None


def _provenance(label: str, samples: Sequence[Sample]) -> Provenance:
    started = sorted(sample.started for sample in samples if sample.started)
    return Provenance(
        label=label,
        launches=len(samples),
        started=(started[0], started[-1]) if started else (),
        commits=tuple(dict.fromkeys(sample.commit for sample in samples if sample.commit)),
        dirty=any(sample.dirty for sample in samples),
    )
