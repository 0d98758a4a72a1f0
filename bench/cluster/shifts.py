"""From a request to shifts. A shift is one job: rows of the request, each once, on one GPU that is its alone.

Ten launches of a row are ten shifts, so that they can fall on ten nodes: equal cards differ by 8 % on average (Sinha et
al., SC 2022, arXiv 2208.11035), and ten launches on one node say nothing of that. Nothing here reads a clock or asks a
queue.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.files import read_typed, write_whole
from visionbench.record.record import Record
from visionbench.record.spec import Protocol, Spec, stored
from visionbench.record.units import plural

FOLDER = Path("visionbench-cluster")

TRIES = 3
"""How often a shift is sent before the rows that it lacks are failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows that are measured by one protocol."""

    protocol: Protocol
    specs: tuple[Spec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card by the word that the user typed, and its rows in pieces that each fit the queue's time limit."""

    word: str
    pieces: tuple[tuple[Part, ...], ...]

    @property
    def slug(self) -> str:
        """The word as part of a file's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.word.lower()).strip("-") or "card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Every card with its rows, and how often each row is launched.

    `device` is torch's word for where a job measures. `name` marks this request's jobs in the queue; `salt`, if there
    is one, hides the names of nodes. `release` is visionbench's. `cluster` is the engine, by the word of `--cluster`.
    `user` has asked, and sees its jobs.
    """

    cards: tuple[Card, ...]
    launches: int
    device: str = "cuda"
    threads: int | None = None
    release: str | None = None
    name: str = ""
    salt: str | None = None
    cluster: str = "slurm"
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Shift:
    """What one job reads: its rows, where to measure them, and the word for its card."""

    name: str
    card: str
    parts: tuple[Part, ...]
    device: str = "cuda"
    threads: int | None = None
    salt: str | None = None

    @cached_property
    def rows(self) -> frozenset[tuple[Spec, str]]:
        """Spec and protocol's name of every row."""
        return frozenset((spec, part.protocol.name) for part in self.parts for spec in part.specs)


def shifts_of(request: Request) -> tuple[Shift, ...]:
    """All shifts, every card's first launch before anybody's second."""
    digits = max(2, len(str(request.launches)))
    return tuple(
        Shift(
            name=f"{card.slug}-{launch:0{digits}}" + (f"-{piece}" if len(card.pieces) > 1 else ""),
            card=card.word,
            parts=parts,
            device=request.device,
            threads=request.threads,
            salt=request.salt,
        )
        for launch in range(1, request.launches + 1)
        for card in request.cards
        for piece, parts in enumerate(card.pieces, start=1)
    )


def pieces_of(
    parts: Sequence[Part], seconds: Mapping[Spec, float], limit: float | None
) -> tuple[tuple[Part, ...], ...]:
    """Cut the rows where half of the time `limit` (seconds; None: no limit) is full by what rows are expected to take.

    A row that takes longer than that by itself is a piece by itself.
    """
    room = None if limit is None else limit / 2
    pieces: list[list[tuple[Protocol, Spec]]] = [[]]
    used = 0.0
    for part in parts:
        for spec in part.specs:
            takes = seconds.get(spec, 0.0)
            if room is not None and pieces[-1] and used + takes > room:
                pieces.append([])
                used = 0.0
            pieces[-1].append((part.protocol, spec))
            used += takes
    return tuple(tuple(_parts(piece)) for piece in pieces)


def _parts(rows: Iterable[tuple[Protocol, Spec]]) -> Iterator[Part]:
    by_protocol: dict[Protocol, list[Spec]] = {}
    for protocol, spec in rows:
        by_protocol.setdefault(protocol, []).append(spec)
    for protocol, specs in by_protocol.items():
        yield Part(protocol=protocol, specs=tuple(specs))


def missing(shift: Shift, records: Iterable[Record]) -> tuple[Part, ...]:
    """The rows that have neither a record nor a failure yet."""
    done = {(record.spec, record.protocol.name) for record in records if record.protocol}
    parts = (
        replace(part, specs=tuple(spec for spec in part.specs if (spec, part.protocol.name) not in done))
        for part in shift.parts
    )
    return tuple(part for part in parts if part.specs)


class Spread:
    """Hands out nodes: the one that has had the fewest shifts of a card, in the order of the list.

    `taken` are shifts handed out before, by card and node.
    """

    def __init__(self, nodes: Mapping[str, Sequence[str]], taken: Mapping[tuple[str, str], int] | None = None) -> None:
        taken = taken or {}
        self._heaps = {
            card: [(taken.get((card, node), 0), place, node) for place, node in enumerate(names)]
            for card, names in nodes.items()
        }
        for heap in self._heaps.values():
            heapq.heapify(heap)

    def next(self, card: str) -> str | None:
        """A node for the next shift of that card; None where it has none."""
        heap = self._heaps.get(card)
        if not heap:
            return None
        count, place, node = heap[0]
        heapq.heapreplace(heap, (count + 1, place, node))
        return node


def hidden(node: str, salt: str) -> str:
    """A node's name behind a hash that only this request's salt makes."""
    return f"node-{hashlib.sha256(f'{salt}:{node}'.encode()).hexdigest()[:8]}"


def without_names(text: str, nodes: Iterable[str], salt: str | None) -> str:
    """The text with the hashes of these nodes in place of their names, if the request hides them."""
    known = sorted(filter(None, nodes), key=len, reverse=True)
    if not salt or not known:
        return text
    words = "|".join(map(re.escape, known))
    return re.sub(rf"(?<![\w-])({words})(?![\w-])", lambda name: hidden(name[1], salt), text)


# --- the folder ---


def request_file(folder: Path) -> Path:
    """Where a folder keeps what was asked for."""
    return folder / "request.json"


def records_file(folder: Path, name: str) -> Path:
    """The file that one shift alone writes."""
    return folder / "records" / f"{name}.jsonl"


def check_free(folder: Path) -> None:
    """Raise `BenchError` for a folder with other records: of a request's only those in `records` would be read."""
    if not request_file(folder).exists() and (others := sorted(folder.glob("*.jsonl"))):
        raise BenchError(f"{folder} holds {others[0].name} and no request: name a new folder with --records.")


def keep(folder: Path, request: Request) -> Request:
    """Write the request into its folder, or go on with the one that is there; more launches than before are added.

    Raises `BenchError` where the folder holds another request, with what differs.
    """
    check_free(folder)
    path = request_file(folder)
    for name in ("records", "shifts", "logs", "unfit"):
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BenchError(f"cannot make {folder / name} ({error.strerror}): name another folder.") from error
    if not path.exists():
        salt = request.salt and secrets.token_hex(8)
        request = replace(request, name=f"visionbench-{secrets.token_hex(4)}", salt=salt)
    else:
        kept = read_request(folder)
        if kept.user and request.user and kept.user != request.user:
            raise BenchError(
                f"{folder} is a request of {kept.user}, and the queue shows its jobs to {kept.user} alone: name "
                "another folder with --records. Reports read this one."
            )
        if differs := _differing(kept, request):
            raise BenchError(
                f"{folder} holds another request ({differs}): name another folder with --records, or remove this one."
            )
        if request.launches <= kept.launches:
            return replace(kept, launches=request.launches)
        request = replace(kept, launches=request.launches)
    write_whole(path, _text(request), "name another folder with --records")
    return request


def read_request(folder: Path) -> Request:
    """What a folder was made for. Raises `BenchError` where it holds no request."""
    return read_typed(request_file(folder), Request, "request", "remove the folder, or name another with --records")


def write_shift(folder: Path, shift: Shift) -> None:
    """Write what the shift's job reads. It can be written again at any time, so no disk is waited for.

    Raises `BenchError` where it cannot be written.
    """
    path = folder / "shifts" / f"{shift.name}.json"
    partial = path.with_suffix(".part")
    try:
        partial.write_text(_text(shift), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise BenchError(f"cannot write {path} ({error.strerror}): free some space, or name another folder.") from error


def read_shift(folder: Path, name: str) -> Shift:
    """What a job is to do. Raises `BenchError` where the folder does not say."""
    return read_typed(folder / "shifts" / f"{name}.json", Shift, "shift", "start the command again that made it")


def read_records(folder: Path, name: str) -> tuple[Record, ...]:
    """What a shift has written so far."""
    return store.read_if_there(records_file(folder, name)).records


def _text(data: Request | Shift) -> str:
    parts = asdict(data)
    for piece in [parts["parts"]] if isinstance(data, Shift) else [p for c in parts["cards"] for p in c["pieces"]]:
        for part in piece:
            part["specs"] = [stored(spec) for spec in part["specs"]]
    return json.dumps(parts, indent=1, ensure_ascii=False) + "\n"


def _differing(kept: Request, asked: Request) -> str:
    """What differs, in words; "" where it is one request. How rows are cut into pieces is not the user's."""
    words = [[card.word for card in request.cards] for request in (kept, asked)]
    if words[0] != words[1]:
        return f"its cards are {', '.join(words[0])}"
    rows, protocols = [], []
    for request in (kept, asked):
        parts = [(card.word, part) for card in request.cards for piece in card.pieces for part in piece]
        protocols.append({part.protocol for _, part in parts})
        rows.append({(word, spec) for word, part in parts for spec in part.specs})
    if rows[0] != rows[1]:
        return _differing_rows(rows[0] - rows[1], rows[1] - rows[0])
    if protocols[0] != protocols[1]:
        return "its protocol is " + ", ".join(sorted(protocol.name for protocol in protocols[0]))
    for word in ("cluster", "device", "threads", "release"):
        if getattr(kept, word) != getattr(asked, word):
            return f"its {word} is {getattr(kept, word)}"
    return "it names nodes otherwise" if bool(kept.salt) != bool(asked.salt) else ""


def _differing_rows(others: set[tuple[str, Spec]], lacking: set[tuple[str, Spec]]) -> str:
    """How many rows differ, with the first of each kind."""
    parts = [
        f"{said} {plural(len(rows), word)}, such as {min(str(spec) for _, spec in rows)}"
        for said, rows, word in (("it has", others, "other row"), ("it lacks", lacking, "row"))
        if rows
    ]
    return " and ".join(parts)
