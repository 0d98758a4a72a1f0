"""Whether a printed count is the exact one, and if not, what it is: found by trying, on the row, what it may be.

The order is from what a row says itself to what it may be by chance: its own count; the convention that its paper
states; its rounding and other conventions, of which one that meets every digit wins, else the one that explains most
rows of the section and of the paper; another size; another network that fits everything that the row prints; a number
of another row. What nothing explains is "unexplained". A print of few digits is near many counts: a convention is
believed of it only where it explains several networks of the paper, and a good part of them or all of a section. A
convention that a print of six digits meets exactly needs no company.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from visionbench.record.profile import FIRST, FUSED, LAST, LESS, MORE, QUERIES, Profile
from visionbench.record.spec import sides
from visionbench.reports.audit import conventions
from visionbench.reports.audit.figures import (
    METRICS,
    ROUNDED_UP,
    Counted,
    Explanation,
    Figure,
    Finding,
    Kind,
    differs,
    fits,
    roundings,
    tolerance_of,
    zeros_added,
)
from visionbench.reports.audit.votes import EXACT, Votes, votes_of
from visionbench.reports.printed import SCALES, PaperRow

FORMS = {
    FUSED: "the fused form, branches merged for inference",
    FIRST: "the stride of a block in its first convolution",
    LAST: "the stride of a block in its last convolution",
    MORE: "a token more in every layer",
    LESS: "a token less in every layer",
    QUERIES: "class attention with queries of every token",
}
"""Forms of a network with (nearly) the same parameters, by the name of their profile: `record.profile`."""

FINE = 5e-4
"""Half a unit of the last printed digit as a share of the print: from here on composed conventions are tried, too."""

LONG = 1e-3
"""Half a unit as a share: from here on a print may be nearly what most networks of its section have."""

COARSE = 2.5e-3
"""Half a unit as a share: a print with fewer digits tells no networks apart."""

NEAR, ALIKE = 1e-4, 1e-3
"""Two counters of one network, and two programs of it, are as near as this: an operator, a bias or a norm differ."""

FAR = 0.2
"""Counts that differ by more than this, 2 x MACs and MACs, are not taken for each other by chance."""

AS_STATED = "as the paper states"
"""In the words of a finding: what is stated is honoured, also where an earlier paper prints the same."""

Refuted = Callable[[Figure, float], bool]
"""Whether a count is not what a figure prints, by what is known from elsewhere (`copied.refuting`)."""


def audit(
    paper: str,
    rows: Sequence[PaperRow],
    profiles: Counted,
    stated: str = "",
    refuted: Refuted = lambda _figure, _value: False,
) -> list[Finding]:
    """The findings of one paper's rows, in order; rows that say by which counter they were counted are left out.
    `stated` is the convention that it states for its FLOPs, or "".
    """
    figures = [
        Figure(paper=paper, row=row, metric=m) for row in rows if not row.counter for m in METRICS if m in row.printed
    ]
    tried = [list(_explanations(figure, profiles)) for figure in figures]
    for metric in METRICS:
        of_metric = [(figure, each) for figure, each in zip(figures, tried, strict=True) if figure.metric == metric]
        if any(_is_rounded_down(figure, profiles) for figure, _ in of_metric):
            for _, explanations in of_metric:
                explanations[:] = [e for e in explanations if e.name != ROUNDED_UP]
    votes = votes_of(figures, tried, profiles)
    findings = []
    for figure, explanations in zip(figures, tried, strict=True):
        left = [e for e in explanations if not refuted(figure, e.value)]
        finding = _finding(figure, left, votes, rows, profiles, stated)
        certain = finding.kind == "reproduced" or AS_STATED in finding.text or finding.text == FORMS[FUSED]
        if not certain and finding.explained is not None and refuted(figure, finding.explained):
            finding = Finding(figure=figure, kind="unexplained", exact=finding.exact)
        findings.append(finding)
    return findings


def _is_rounded_down(figure: Figure, profiles: Counted) -> bool:
    """Whether a print is the exact count, rounded down: a paper that has one does not round up."""
    own = profiles.of(figure.row)
    exact = own.parts[figure.metric] if own else 0
    return figure.printed.value < exact and fits(figure.printed, exact)


def _finding(
    figure: Figure,
    explanations: Sequence[Explanation],
    votes: Votes,
    rows: Sequence[PaperRow],
    profiles: Counted,
    stated: str,
) -> Finding:
    own = profiles.of(figure.row)
    if own is None:
        return Finding(figure=figure, kind="not built", text=profiles.cause(figure.row))
    exact = own.parts[figure.metric]
    if fits(figure.printed, exact):
        return Finding(figure=figure, kind="reproduced", exact=exact, explained=exact)
    found = _of_this_network(figure, explanations, votes, profiles, stated)
    for test in (_another_size, _another_row, _another_network):
        found = found or test(figure, rows, profiles, votes)
    kind, text, explained = found or ("unexplained", "", None)
    return Finding(figure=figure, kind=kind, text=text, exact=exact, explained=explained)


Found = tuple[Kind, str, float]
"""The kind of a finding, its words, and the count that explains the print."""


def _of_this_network(
    figure: Figure, explanations: Sequence[Explanation], votes: Votes, profiles: Counted, stated: str
) -> Found | None:
    """What the print is of the row's network at its size, as it is built or fused."""
    of_macs = figure.metric == "macs"
    if of_macs and stated and (found := _as_stated(figure, profiles, stated)):
        return found
    fused = profiles.of(figure.row, FUSED)
    if fused and _is_fused(figure.row, fused, stated):
        return "network", FORMS[FUSED], fused.parts[figure.metric]
    believed = [e for e in explanations if e.sure or votes.believes(figure, e)]
    if believed:
        best = min(believed, key=lambda e: votes.order(figure, e))
        return best.kind, best.name, best.value
    if fused and of_macs and figure.share <= FINE and _is_fused(figure.row, fused, stated, ALIKE):
        return "network", f"{FORMS[FUSED]}, within 0.1 %", fused.parts["macs"]
    return _nearly_so(figure, profiles, votes, stated) if of_macs else None


def _is_fused(row: PaperRow, fused: Profile, stated: str, near: float = 0.0) -> bool:
    """Whether everything that a row prints, params and FLOPs, is of the fused form."""
    if not all(metric in row.printed for metric in METRICS) or not fits(row.printed["params"], fused.parts["params"]):
        return False
    counts = [fused.parts["macs"], *([conventions.STATED[stated].count(fused.parts)] if stated else [])]
    return any(fits(row.printed["macs"], count, near=near) for count in counts)


def _as_stated(figure: Figure, profiles: Counted, stated: str) -> Found | None:
    """The print by the convention that its paper states, of the network as it is built or fused."""
    convention = conventions.STATED[stated]
    forms: tuple[tuple[str, Kind, str], ...] = (("", "convention", ""), (FUSED, "network", "the fused form: "))
    for form, kind, prefix in forms:
        profile = profiles.of(figure.row, form)
        if profile and fits(figure.printed, value := convention.count(profile.parts)):
            return kind, f"{prefix}{convention.name}, {AS_STATED}", value
    return None


def _nearly_so(figure: Figure, profiles: Counted, votes: Votes, stated: str) -> Found | None:
    """FLOPs by a convention of their paper, rounded once more: with zeros added to what it states, or a long print
    within 0.1 % of what its other networks have, as another program of this one gives it.
    """
    own = profiles.of(figure.row)
    found: list[tuple[float, str, float]] = []
    if own and stated:
        value, name = conventions.STATED[stated].count(own.parts), conventions.STATED[stated].name
        for rounding in zeros_added(figure.printed, value):
            if rounding.sure or votes.believes(figure, rounding):
                found.append((0, f"{name}, {AS_STATED}: {rounding.name}", value))
    for convention, value in profiles.macs(own, composed=False) if own else ():
        off = abs(value - figure.printed.value)
        alike = figure.share <= LONG and fits(figure.printed, value, near=ALIKE)
        if (alike or off <= figure.printed.half_unit + NEAR * value) and votes.is_usual(figure, convention.name):
            found.append((off, f"{convention.name}, within {'0.1' if alike else '0.01'} %", value))
    _, text, explained = min(found, default=(0, "", 0.0))
    return ("convention", text, explained) if found else None


# --- conventions and roundings ---------------------------------------------------------------------------------------


def _explanations(figure: Figure, profiles: Counted) -> Iterator[Explanation]:
    """Everything that gives the print of a figure that is not reproduced."""
    own = profiles.of(figure.row)
    if own is None or fits(figure.printed, own.parts[figure.metric]):
        return
    yield from roundings(figure.printed, figure.row.label, own.parts[figure.metric])
    yield from _counted(figure, own, "", profiles)
    for form, name in FORMS.items():
        profile = profiles.of(figure.row, form)
        if profile is None or profile.parts[figure.metric] == own.parts[figure.metric]:
            continue
        if fits(figure.printed, value := profile.parts[figure.metric], near=NEAR):
            sure = figure.share <= (COARSE if form == FUSED else FINE)
            sure = sure or (form == FUSED and _far(value, own.parts[figure.metric]))
            yield Explanation(name=name, value=value, cost=1, sure=sure, kind="network")
        yield from _counted(figure, profile, f"{name.partition(',')[0]}: ", profiles)


def _counted(figure: Figure, profile: Profile, prefix: str, profiles: Counted) -> Iterator[Explanation]:
    kind: Kind = "network" if prefix else "convention"
    fine = figure.share <= FINE
    exact = profile.parts[figure.metric]
    if fine and not prefix and fits(figure.printed, exact, near=ALIKE):
        yield Explanation(name="the same within 0.1 %", value=exact, cost=0, sure=True)
    params = ((each, each.count(profile.parts)) for each in conventions.PARAMS if differs(each, profile))
    tried = params if figure.metric == "params" else profiles.macs(profile, composed=fine)
    target, tolerance = figure.printed.value, tolerance_of(figure.printed, NEAR if fine else 0.0)
    seen = {float(exact)}  # what adds nothing, as ReLUs do where there are none, is not said
    for convention, value in tried:
        if abs(value - target) <= tolerance and value not in seen:
            seen.add(value)
            sure = abs(value - target) <= EXACT * target and figure.share <= EXACT
            sure = sure or (figure.share <= COARSE and _far(value, exact))
            cost = convention.cost + bool(prefix)
            yield Explanation(name=prefix + convention.name, value=value, cost=cost, sure=sure, kind=kind)
            if figure.share <= EXACT and fits(figure.printed, value):
                return  # it meets every digit of a long print: no other would go before it


def _far(value: float, exact: float) -> bool:
    """Whether two counts differ by more than chance would meet."""
    return abs(value - exact) > FAR * exact


# --- another size, network or row ------------------------------------------------------------------------------------

SIZES = (160, 192, 224, 240, 256, 260, 288, 299, 300, 320, 336, 380, 384, 448, 456, 475, 480, 512, 528, 576, 600, 800)
"""Sides of images, in pixels, at which papers count."""

USUAL = 224
"""The side at which a count is taken that no size is given for, in pixels."""


def _ratio(finding: Finding) -> float:
    """Printed FLOPs over the exact ones; 0 where another size or form explains nothing."""
    if finding.figure.metric != "macs" or not finding.exact:
        return 0.0
    return finding.figure.printed.value / finding.exact


def sizes_worth_counting(finding: Finding) -> tuple[int, ...]:
    """At which other sizes the network of an unexplained print would have about its count."""
    ratio, pixels = _ratio(finding), math.prod(sides(finding.figure.row.image_size))
    others = [size for size in SIZES if size**2 != pixels and ratio]
    return tuple(size for size in others if 0.8 < size**2 / pixels / ratio < 1.1)


TOKEN = 0.02
"""A token more or less of at least a hundred, squared in attention, changes a count by no more."""

CLASS_ATTENTION = ("timm:cait_", "timm:xcit_")
"""Networks whose last layers have one query, the class token's."""


def forms_worth_counting(finding: Finding) -> tuple[str, ...]:
    """In which forms, strided elsewhere or with a token more or less, the network may have the count."""
    ratio = _ratio(finding)
    if not 0.7 < ratio < 1.5:
        return ()
    forms = [FIRST if ratio < 1 else LAST]  # an early stride saves, a late one costs
    if abs(ratio - 1) <= TOKEN:
        forms.append(LESS if ratio < 1 else MORE)
    if 1 < ratio < 1 + 2 * TOKEN and finding.figure.row.model.startswith(CLASS_ATTENTION):
        forms.append(QUERIES)
    return tuple(forms)


def _another_size(figure: Figure, _rows: Sequence[PaperRow], profiles: Counted, votes: Votes) -> Found | None:
    row = figure.row
    same = [p for p in profiles.kin(row) if p.model == row.model and not p.variant and p.size != row.image_size]
    for profile in sorted(same, key=lambda profile: _apart(profile, row)):
        if not _fits_params(row, profile) or (figure.metric == "params" and not _fits_macs(row, profile, profiles)):
            continue
        text = f"its count at {profile.size} px"
        if fits(figure.printed, value := profile.parts[figure.metric]):
            return "size", text, value
        for explanation in _counted(figure, profile, "", profiles):
            usual = profile.size == USUAL and figure.share <= COARSE and votes.believes(figure, explanation)
            if explanation.sure or usual:
                return "size", f"{text}: {explanation.name}", explanation.value
    return None


def _fits_macs(row: PaperRow, profile: Profile, profiles: Counted) -> bool:
    """Whether the printed FLOPs, where there are any, are those of that size by some convention."""
    if "macs" not in row.printed:
        return True
    figure = Figure(paper="", row=row, metric="macs")
    return fits(figure.printed, profile.parts["macs"]) or any(e.sure for e in _counted(figure, profile, "", profiles))


def _apart(profile: Profile, row: PaperRow) -> int:
    """By how many pixels a profile's image is larger or smaller than a row's."""
    return abs(math.prod(sides(profile.size)) - math.prod(sides(row.image_size)))


def _fits_params(row: PaperRow, profile: Profile) -> bool:
    """Whether the printed params, where there are any, are those of that size, too (position tables grow with it)."""
    printed = row.printed.get("params")
    return printed is None or fits(printed, profile.parts["params"], near=ALIKE)


def _another_network(figure: Figure, _rows: Sequence[PaperRow], profiles: Counted, _votes: Votes) -> Found | None:
    """A network of the same family that fits everything the row prints, where that is enough to tell it."""
    row = figure.row
    shares = [Figure(paper=figure.paper, row=row, metric=metric).share for metric in METRICS if metric in row.printed]
    if max(shares) > 0.02 or (len(shares) < 2 and figure.share > COARSE):
        return None
    printed = [(metric, row.printed[metric]) for metric in METRICS if metric in row.printed]
    kin = (p for p in profiles.kin(row) if p.model != row.model)
    fitting = [p for p in kin if all(fits(number, p.parts[metric]) for metric, number in printed)]
    if not fitting:
        return None
    other = min(fitting, key=lambda p: (_apart(p, row), bool(p.variant), p.model))
    at = f" at {other.size} px" if other.size != row.image_size else ""
    form = f", {other.variant}" if other.variant else ""
    return "network", f"{other.model}{form}{at}", other.parts[figure.metric]


def _another_row(figure: Figure, rows: Sequence[PaperRow], profiles: Counted, votes: Votes) -> Found | None:
    """A number that belongs to another row, or to another of its columns."""
    row, printed = figure.row, figure.printed
    own = profiles.of(row)
    if own is None:
        return None
    if (number := _swapped(figure, own) or _twin(figure, rows, profiles, own, votes)) is not None:
        return number
    off = {metric for metric in METRICS if metric in row.printed and _is_off(row, own, metric)}
    if figure.metric not in off:
        return None
    for neighbour in rows:
        if row.model == neighbour.model or row.label == neighbour.label:
            continue
        profile = profiles.of(neighbour)
        theirs = profile.parts[figure.metric] if profile else None
        both = all(metric in off and _same(row, neighbour, metric) for metric in METRICS)
        beside = neighbour.table == row.table and abs(neighbour.number - row.number) == 1
        if both if theirs is None else fits(printed, theirs) and (both or (beside and figure.share <= COARSE)):
            at = f" at {neighbour.image_size} px" if neighbour.image_size != row.image_size else ""
            return "row", f"the number of {neighbour.label}{at} ({neighbour.table})", printed.value
    return None


def _twin(figure: Figure, rows: Sequence[PaperRow], profiles: Counted, own: Profile, votes: Votes) -> Found | None:
    """What the paper prints twice under one label, where it is the count of the other variant, as the paper counts, or
    about the count of the same network at the other row's size and far from it at this one's.
    """
    row, off = figure.row, _is_off(figure.row, own, figure.metric)
    for other in rows if figure.share <= COARSE or off else ():
        profile = profiles.of(other) if other.label == row.label and _same(row, other, figure.metric) else None
        if profile is None or (other.model == row.model) == (other.image_size == row.image_size):
            continue
        count, place = float(profile.parts[figure.metric]), f"({other.table})"
        if other.model == row.model:
            if off and not _is_off(other, profile, figure.metric):
                return "row", f"the number of {other.label} at {other.image_size} px {place}", figure.printed.value
        elif figure.share <= COARSE:
            text = f"the number of the other {row.label}, {other.model} {place}"
            if fits(figure.printed, count):
                return "row", text, count
            theirs = Figure(paper=figure.paper, row=other, metric=figure.metric)
            if figure.metric == "macs" and (near := _nearly_so(theirs, profiles, votes, "")):
                return "row", f"{text}: {near[1]}", near[2] or count
    return None


def _swapped(figure: Figure, own: Profile) -> Found | None:
    """Params and FLOPs in each other's column, one of them perhaps with its decimal point one place off."""
    row, text = figure.row, "params and FLOPs of this row are swapped"
    if not all(metric in row.printed for metric in METRICS):
        return None
    params, macs = row.printed["params"], row.printed["macs"]
    as_params = own.parts["macs"] / SCALES[macs.unit] * SCALES[params.unit]
    as_macs = own.parts["params"] / SCALES[params.unit] * SCALES[macs.unit]
    for places, tail in ((1, ""), (10, ", and a decimal point is off"), (0.1, ", and a decimal point is off")):
        for of_params, of_macs in ((places, 1), (1, places)):
            if fits(params, as_params * of_params, near=SWAPPED) and fits(macs, as_macs * of_macs, near=SWAPPED):
                explained = as_params * of_params if figure.metric == "params" else as_macs * of_macs
                return "row", f"{text}{tail}", explained
    return None


SWAPPED = 0.02
"""Two columns that are met so nearly crosswise are swapped: they are far from that in most rows."""

OFF = 0.05
"""A number of another row is off by more than counters differ."""


def _is_off(row: PaperRow, own: Profile, metric: str) -> bool:
    exact = own.parts[metric]
    return abs(row.printed[metric].value - exact) >= OFF * exact


def _same(row: PaperRow, neighbour: PaperRow, metric: str) -> bool:
    return metric in neighbour.printed and neighbour.printed[metric].value == row.printed[metric].value
