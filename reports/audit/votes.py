"""How many networks of a paper a convention explains, and when that is enough to believe it.

A print of few digits is near many counts. So a convention is believed of it only where it explains several networks of
the paper and a good part of them, or all of a section, or where a program's count fits all of a family in a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visionbench.record.profile import Profile
from visionbench.reports.audit import conventions
from visionbench.reports.audit.figures import IN_NAME, METRICS, Counted, Explanation, Figure, fits
from visionbench.reports.printed import Network

EXACT = 2e-6
"""A print with six digits that a convention meets so closely is its count, and not near it by chance."""

ENOUGH, SHARE, MANY = 3, 0.25, 10
"""A convention is believed of a paper if it explains so many networks, and this share of those that are not reproduced;
or many, whatever their share; of a section if it explains so many, and all of those there."""

PAIR = 2
"""So many networks of a section have a convention that a long print there meets nearly."""


Key = tuple[str | Network, ...]
"""A metric and a convention's name, of a paper; with a section behind them, of that; or with a table and a network."""


@dataclass(frozen=True, slots=True)
class Votes:
    """How many networks a convention explains, of the paper and of one section of it; and where these are enough."""

    networks: Mapping[Key, int]
    believed: frozenset[Key]
    mostly: frozenset[Key]

    def believes(self, figure: Figure, explanation: Explanation) -> bool:
        """Whether enough networks of the paper are explained so, or of its section all that can be explained, or a
        program's count fits a family in a table.
        """
        key, row = (figure.metric, explanation.name), figure.row
        return not self.believed.isdisjoint((key, (*key, row.section), (*key, row.table, row.network)))

    def is_usual(self, figure: Figure, name: str) -> bool:
        """Whether a believed convention has two networks of the section, or most of the paper."""
        key = (figure.metric, name)
        company = self.networks.get((*key, figure.row.section), 0) >= PAIR or key in self.mostly
        return key in self.believed and company

    def order(self, figure: Figure, explanation: Explanation) -> tuple[bool, bool, int, int, int, float]:
        """The better explanation is the smaller: it meets every digit; more networks of its section, of its paper have
        it; it is nearer to the usual.
        """
        key = (figure.metric, explanation.name)
        paper, section = self.networks[key], self.networks[*key, figure.row.section]
        off = abs(explanation.value - figure.printed.value)
        every_digit = figure.share <= EXACT and fits(figure.printed, explanation.value)
        return (not every_digit, explanation.name != IN_NAME, -section, -paper, explanation.cost, off)


def votes_of(
    figures: Sequence[Figure],
    tried: Sequence[Sequence[Explanation]],
    profiles: Counted,
) -> Votes:
    """What the explanations that were `tried` on each figure explain of one paper."""
    paper: dict[tuple[str, str], set[Network]] = {}
    section: dict[tuple[str, str, str], set[Network]] = {}
    whole: dict[str, set[Network]] = {metric: set() for metric in METRICS}
    differing: dict[tuple[str, str], set[Network]] = {}
    for figure, explanations in zip(figures, tried, strict=True):
        own = profiles.of(figure.row)
        if own and not fits(figure.printed, own.parts[figure.metric]):
            whole[figure.metric].add(figure.row.network)
        if explanations:
            differing.setdefault((figure.metric, figure.row.section), set()).add(figure.row.network)
        for explanation in explanations:
            key = (figure.metric, explanation.name)
            paper.setdefault(key, set()).add(figure.row.network)
            section.setdefault((*key, figure.row.section), set()).add(figure.row.network)
    of_paper = {
        key
        for key, networks in paper.items()
        if len(networks) >= MANY or ENOUGH <= len(networks) >= SHARE * len(whole[key[0]])
    }
    of_section = {
        key for key, networks in section.items() if len(networks) >= ENOUGH and networks == differing[key[0], key[2]]
    }
    return Votes(
        networks={key: len(networks) for key, networks in (*paper.items(), *section.items())},
        believed=frozenset((*of_paper, *of_section, *_in_families(figures, tried, profiles))),
        mostly=frozenset(key for key, networks in paper.items() if len(networks) >= len(whole[key[0]]) / 2),
    )


def _in_families(figures: Sequence[Figure], tried: Sequence[Sequence[Explanation]], profiles: Counted) -> set[Key]:
    """The networks of a family in a table whose FLOPs are all fvcore's, of the network or of one form of it, where two
    at least are not the exact ones: which program counted them is then no guess from one print.
    """
    fvcore = conventions.STATED["fvcore"]
    groups: dict[tuple[str, str], list[tuple[Figure, set[str], Profile]]] = {}
    for figure, explanations in zip(figures, tried, strict=True):
        own = profiles.of(figure.row)
        if own and figure.metric == "macs":
            names = {e.name for e in explanations if e.name.endswith(fvcore.name)}
            if fits(figure.printed, fvcore.count(own.parts)):
                names.add(fvcore.name)
            groups.setdefault((figure.row.table, own.family), []).append((figure, names, own))
    believed: set[Key] = set()
    for (table, _), group in groups.items():
        differing = {f.row.network for f, _, own in group if not fits(f.printed, own.parts["macs"])}
        for name in set.intersection(*(names for _, names, _ in group)) if len(differing) >= PAIR else ():
            believed |= {("macs", name, table, figure.row.network) for figure, *_ in group}
    return believed
