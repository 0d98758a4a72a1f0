"""The verdict: what was found out about a comparison, in one of five words, and the rule by which.

Doubt is a verdict. `inconclusive` says that the launches could not tell; it is shown, and never counted as `ok`, which
is a claim too: shown to be less than `limit` slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visionbench.comparison.comparison import Comparison
from visionbench.record.errors import BenchError
from visionbench.record.statistics import Estimate

Word = Literal["regressed", "improved", "ok", "inconclusive", "not measured"]

OK, REGRESSED, USAGE, INCONCLUSIVE, NOT_MEASURED, BUG, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130
"""Exit codes: nothing worse; a regression; a mistake in what was asked; inconclusive rows under `--strict`; nothing
could be measured or compared; a fault of this program (EX_SOFTWARE); Ctrl-C. "0 rows compared" is never 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a row is called what. Ratios are of time, candidate over baseline; shares are of 1.

    `regressed`: "the ratio is at most 1 + `margin`" is rejected by the exact one-sided signed-rank test over launches
    (p < `alpha` of the look, and Benjamini-Hochberg over all rows of the gate at `fdr`), and the centre is at least
    1 + `centre`. `improved` is its mirror image. `ok`: the upper end of the 95 % interval is below 1 + `limit`, and
    neither the wall nor the mean of all readings says otherwise. `looks` is how often the rows may be looked at:
    `alpha` is split evenly between looks, `limit`'s 95 % hold for each. Raises `BenchError` for impossible shares.
    """

    margin: float = 0.01
    alpha: float = 0.01
    fdr: float = 0.05
    centre: float = 0.025
    limit: float = 0.05
    looks: int = 2

    def __post_init__(self) -> None:
        shares = (self.margin, self.alpha, self.fdr, self.centre, abs(self.limit))  # a limit below 0 wants a gain
        if not all(0 <= share <= 1 for share in shares) or not 1 <= self.looks <= 100:
            raise BenchError("a rule's shares are between 0 and 1, and it has 1 to 100 looks.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one comparison came to.

    `ratio` is the Hodges-Lehmann centre over launches with its 95 % interval; `wall` is the same by the wall clock and
    `mean` by the mean of all readings: where one of them parts from `ratio`, the row is not `ok`. `p_*` are one-sided
    p-values against the margin, `q_*` adjusted for the number of rows.
    `detectable` is the smallest slow-down (0.03: 3 %) of this row alone that launches scattering as these do would
    have shown; None where so few show nothing. `reason` is one sentence: why it is inconclusive or not measured, or "".
    """

    word: Word
    comparison: Comparison
    ratio: Estimate | None = None
    wall: Estimate | None = None
    mean: Estimate | None = None
    p_slower: float | None = None
    p_faster: float | None = None
    q_slower: float | None = None
    q_faster: float | None = None
    detectable: float | None = None
    looks: int = 1
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One exact difference between a baseline of structure and what the code does now.

    `row` is the spec in words, `what` the count that changed (`params`, `operators`, `graph breaks`, ...) or `row`
    itself where it is missing or new. `before` and `after` read as they are shown; `where` names the layers and
    operators behind it, one line each.
    """

    row: str
    what: str
    before: str
    after: str
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All that a gate found out: what a terminal, a job's summary and a test report show.

    `changes` are exact differences in structure, `structures` how many rows were compared for them (0: none was asked
    for). `suite` is the geometric mean of all rows' ratios with its interval over launches: it sees a small change of
    every row that no row can show. `remarks` are sentences about the whole (a dirty tree, a machine without a noise
    profile). `cut` says why there was not one full look (a small budget, a lost GPU), "" where there was; `lost` says
    that the GPU fell off the bus. `new` are allowed rows that the base does not have.
    `command` repeats this gate. It took `seconds`.
    """

    title: str
    rule: Rule
    verdicts: tuple[Verdict, ...] = ()
    changes: tuple[Change, ...] = ()
    structures: int = 0
    suite: Estimate | None = None
    remarks: tuple[str, ...] = ()
    cut: str = ""
    lost: bool = False
    new: tuple[str, ...] = ()
    command: str = ""
    seconds: float | None = None

    def rows(self, *words: Word) -> tuple[Verdict, ...]:
        """The verdicts of those words, in order."""
        return tuple(verdict for verdict in self.verdicts if verdict.word in words)


def exit_code(judgement: Judgement, *, strict: bool = False) -> int:
    """What the process ends with (see `OK` and its neighbours). A regression outweighs a row that failed."""
    compared = [verdict for verdict in judgement.verdicts if verdict.word != "not measured"]
    if judgement.changes or judgement.rows("regressed"):
        return REGRESSED
    if judgement.lost or judgement.rows("not measured") or not (compared or judgement.structures or judgement.new):
        return NOT_MEASURED
    return INCONCLUSIVE if strict and judgement.rows("inconclusive") else OK
