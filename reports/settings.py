"""What was measured, in groups that may share a column: one device, one protocol, one way of running.

Numbers of different settings are never averaged and never share a column. A failure is a cell of its group:
it says its cause instead of a number. Launches of one key are repetitions, and the interval is over them
(`visionbench.record.statistics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from visionbench.record.clean import clean
from visionbench.record.flags import meaning
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import Task
from visionbench.record.units import plural
from visionbench.reports.launches import Launches, Records, Setting
from visionbench.reports.printed import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All records of one setting, by network (model and image size), in the order of the file."""

    setting: Setting
    launches: dict[Network, Launches]
    newest: tuple[str, int]

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The different environments of its records; one, unless software or machine changed in between."""
        return tuple(dict.fromkeys(place for launches in self.launches.values() for place in launches.environments))


def groups(records: Sequence[Record], networks: Iterable[Network], task: Task) -> tuple[Group, ...]:
    """The groups that have something to say about these networks, the newest first. One pass over the records."""
    wanted = frozenset(networks)
    made = []
    for setting, rows in Records.of(records).measured.items() if wanted else ():
        found = {network: row for network, row in rows.items() if network in wanted and setting.task == task}
        if found:
            launches = {network: row.launches for network, row in found.items()}
            newest = max(row.newest for row in found.values())
            made.append(Group(setting=setting, launches=launches, newest=newest))
    return tuple(sorted(made, key=lambda group: group.newest, reverse=True))


def of_every_card(found: Sequence[Group], newest: int, each: int) -> tuple[Group, ...]:
    """The `newest` groups, and `each` newest of every device: a card that was measured first has its column, too."""
    of_device: dict[str, int] = {}
    shown = []
    for place, group in enumerate(found):
        device = group.environments[-1].device
        of_device[device] = of_device.get(device, 0) + 1
        if place < newest or of_device[device] <= each:
            shown.append(group)
    return tuple(shown)


def device_name(environment: Environment) -> str:
    """Short enough to stand over a column: `A100-SXM4-80GB`, `CPU, 2 threads`; the column's note has the full name."""
    if environment.device_type == "cpu":
        return f"CPU, {plural(environment.threads, 'thread')}" if environment.threads else "CPU"
    if environment.device_key:
        return environment.device_key.upper()
    return clean(environment.device_name or environment.device_type).removeprefix("NVIDIA ")


def heads(shown: Sequence[Group]) -> list[tuple[str, ...]]:
    """The headers of groups that stand beside each other: what two of them do not share is always in the header."""
    words = [group.setting.words() for group in shown]
    short = [
        (device_name(group.environments[-1]), ", ".join(its[field] for field in IN_HEAD))
        for group, its in zip(shown, words, strict=True)
    ]
    lines = []
    for mine, head in zip(words, short, strict=True):
        twins = [its for its, other in zip(words, short, strict=True) if other == head]
        telling = [mine[field] for field in mine if mine[field] and len({twin[field] for twin in twins}) > 1]
        lines.append((*head, *telling))
    return lines


IN_HEAD = ("precision", "batch_size")
"""What every measured column says of its setting in its header."""


def describe(group: Group) -> str:
    """What a column's header does not say of its measurements: machine, settings, software, launches, day."""
    seen = group.environments
    numbers = sorted({launches.successes for launches in group.launches.values()} - {0})
    words = [word for field, word in group.setting.words().items() if word and field not in IN_HEAD]
    parts = [
        _all(clean(environment.device_name or environment.cpu or "") for environment in seen),
        ", ".join(words),
        _all(f"CUDA {environment.cuda}" for environment in seen if environment.cuda),
        f"{ends(numbers)} launch{'' if numbers == [1] else 'es'} a row" if numbers else "",
        f"newest of {day}" if (day := group.newest[0][:10]) else "",
    ]
    return "; ".join(part for part in parts if part)


def _all(words: Iterable[str | None]) -> str:
    """Two versions in one column are said, not hidden."""
    return " and ".join(dict.fromkeys(word for word in words if word))


def ends(ascending: Sequence[object]) -> str:
    """`7 to 10`; `7` where that is the first and the last of them."""
    return " to ".join(map(str, dict.fromkeys((*ascending[:1], *ascending[-1:]))))


def failure(launches: Sequence[Record]) -> Failure | None:
    """The newest failure among launches of which none has a number; None if one has."""
    if any(record.failure is None for record in launches):
        return None
    return launches[-1].failure if launches else None


def flags(launches: Sequence[Record], metric: str) -> tuple[str, ...]:
    """Every flag of a cell's launches, in words."""
    return tuple(map(meaning, Launches.of(launches).flags(metric)))


def doubts(launches: Sequence[Record]) -> tuple[str, ...]:
    """Why a throughput is doubtful, in words: what gives its cell a mark in a table, and its dot a hollow face."""
    factor = Launches.of(launches).scatter_factor
    scattered = (f"blocks or launches differ by a factor of {factor:.1f}",) if factor else ()
    return (*scattered, *flags(launches, "throughput"))


def doubted(which: str, found: Iterable[tuple[str, ...]]) -> str:
    """One sentence below a figure: what `which` marks mean, every doubt once; "" where nothing is doubtful."""
    words = dict.fromkeys(word for words in found for word in words)
    return f"{which}: doubtful, as {'; '.join(words)}." if words else ""
