"""The columns of a printed table: what the header says of each, in which unit, and what a cell below it says.

A cell is digits in the unit of a paper's file, or no number. A column may be one that a paper's file has no word for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from statistics import median

from visionbench.reports.paper.markup import SPAN, Cells
from visionbench.reports.printed import DIGITS

MEGA, GIGA = 6, 9
EXPONENTS = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
"""What a suffix, or a unit in the header, means as a power of ten."""

UNITS = {"params": MEGA, "flops": GIGA, "memory": GIGA}
"""The powers of ten that a paper's file has: params in M, FLOPs in G, memory in GB."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read: the key of a paper's file, and the power of ten that its header gives, None for none.
    Of a cell with several numbers, `82.1 / 95.9`, it is the `part`-th of `parts`.
    """

    key: str
    word: str
    exponent: int | None
    part: int = 0
    parts: int = 1


RAISED = str.maketrans({digit: f"^{i}" for i, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
"""Raised digits, as `^2` writes them."""


def part_of(text: str, column: Column) -> str:
    """The text of one column of a cell that may hold several."""
    if column.parts == 1 or text.lower() in _MISSING:
        return text
    parts = re.split(r"\s*[/|]\s*", text)
    return parts[column.part] if column.part < len(parts) else ""


_MISSING = frozenset(("", "-", "--", "---", "–", "—", "n/a", "na", "n.a", "nan", "none", "?", "/", "✗", "×"))

_DIGITS = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)(?:(?:[x×·]10\^?|e\+?)(\d{1,2}))?"
    r"(?:(k|m|b|g|t)(?:illions?|il|io|ln|flops?|macs?|madds?|params?|i?b)?)?"
    r"(?:flops|fps|(?:im|img|image|sample|frame)s?(?:/|per)s(?:ec(?:ond)?)?)?",
    re.ASCII,
)


_REFERENCE = re.compile(r"\s*\[(\d+(\s*[,–-]\s*\d+)*|paper|code|arxiv|link)\]")
"""What a label has in brackets and is no part of a name."""


def value_of(column: Column, text: str) -> str | None:
    """A cell's text as a paper's file has it, of an error the accuracy; "" for an empty cell, None for what cannot be
    read.
    """
    if column.key in ("label", "section", "variant", "images"):
        return _REFERENCE.sub("", text.replace("\u2009", " ")).strip()
    if column.key == "size":
        return _size(text)
    number = _number(column, text)
    if number and column.key == "error":
        number = f"{100 - Decimal(number):f}"
    return number if number == "" or (number and DIGITS.fullmatch(number)) else None


def _size(text: str) -> str | None:
    plain = re.sub(r"\^\{?2\}?|²|\*\*2|[†‡§¶*]|px|pixels", "", text.lower())
    plain = re.sub(r"\(.*?\)|\[.*?\]", "", plain).strip() or plain.strip(" ()[]")
    plain = re.sub(r"^([1-9]\d\d|10\d\d)2$", r"\1", plain)  # 224² that lost its height in a copy
    if plain in _MISSING:
        return ""
    sides = re.fullmatch(r"(?:3\s*[x×,]\s*)?(\d+)(?:\s*[x×,]\s*(\d+))?(?:\s*[x×,]\s*3)?", plain, re.ASCII)
    if not sides:
        return None
    height, width = int(sides.group(1)), int(sides.group(2) or sides.group(1))
    if not all(8 <= side <= 10_000 for side in (height, width)):
        return None
    return f"{height}" if height == width else f"{height}x{width}"


def _number(column: Column, text: str) -> str | None:
    """The digits of a printed number in the unit of its key.

    A comma parts thousands; `25,6` is no number.
    """
    plain = re.sub(r"\(.*?\)|\[.*?\]", "", text.translate(RAISED).replace("−", "-").replace("+-", "±").lower())
    plain = re.sub(r"(?<=[\w%])\s*[+↑↓▲▼±]\s*[\d.]+.*|[_^]?\s*±.*", "", plain)  # gains and errors
    plain = re.sub(r"\^?[%*†‡§¶↑↓▲▼~≈⚗]|(?<!10)[_^].*", "", plain)  # marks, and what is raised or lowered
    plain = re.sub(r"(?<=\d)[,'\u2009\u202f](?=\d{3}(?!\d))", "", plain.strip())
    if plain.strip(".") in _MISSING:
        return ""
    plain = re.sub(r"(?<=\d)\s+(?=[a-z×])|(?<=[x×])\s+(?=10)|(?<=[a-z])\s*(?=/|per)|(?<=/|r)\s+(?=s)", "", plain)
    plain = re.sub(r"^(\d[\d.]*[kmgbt])\s+(?=[a-z])", r"\1", plain)
    if not (match := _DIGITS.fullmatch(plain)):
        return None
    digits, power, suffix = match.groups()
    digits = re.sub(r"^0+(?=\d)", "", digits)  # `07.8` is padded, and TOML has no such number
    unit = UNITS.get(column.key)
    if column.key in ("top1", "error") and float(digits) > 100:
        return None  # no share is larger
    if unit is None:
        shift = {None: 0, "k": 3}.get(suffix if "img/s" in column.key else suffix and "no")
        if column.key in ("top1", "error") and float(digits) < 1 and "." in digits and "%" not in text:
            shift = 2  # a share of 1
        return None if shift is None or power else _moved(digits, shift)
    plainly_counted = column.exponent is None and column.key != "memory" and float(digits) >= A_COUNT
    exponent = column.exponent if column.exponent is not None else 0 if plainly_counted else unit
    if power or suffix:
        exponent = int(power or 0) + EXPONENTS[suffix or ""]
    if column.key == "flops" and suffix == "k":
        return None
    return _moved(digits, exponent - unit)


A_COUNT = 100_000
"""A number without a unit that is as large is no number of millions."""


def _moved(digits: str, places: int) -> str:
    """The decimal point moved and no digit lost: 305 M -> 0.305 G."""
    return f"{Decimal(digits).scaleb(places):f}" if places or digits.startswith(".") else digits


_RATE = r"through?put|\bth?r\.|\btp\b|fps|(img|im|image|images|imgs|samples?)\s*\.?\s*(/|per)\s*s|speed"

HEADERS: tuple[tuple[str, str], ...] = (
    (
        r"^(model|network|backbone|arch\w*|method|name)s?\W*(@|\(|/|\+|&|,|↑|at\b|and\b)"
        r"\W*(input|im(age|g))?\W*(res\w*|size)",
        "label",
    ),
    (r"latency|\bms\b|\bpct\b|energy|epoch|\bgain\b|error bar|\bbatch|\bpatch|\bwindow|\bkernel|clips?\s*/", ""),
    (r"^\W*((eval\w*|test|target|down\w*) ?)?(data( ?set)?s?|benchmark)\W*$", "images"),
    (r"\b([2-9]|\d\d+) ?[x×] ?(gpus?|cards?|[vahp]\d+|rtx|tpu)|\b([2-9]|\d\d+) ?(gpus|cards|tpus)\b", ""),
    (r"\b(gpus?|[vahp]\d+\w*) ?[x×] ?([2-9]|\d\d)|/ ?(hour|h|min)\b", ""),
    (r"pre.?train|fine.?tuned|supervised|\bdata(set)?s?\b", ""),
    (r"\b[mb]?ap\b|\bap_?\d|\bap\^|m?iou\b|\bfid\b|top.?[2-9]|(acc|prec|err)\w*\.?[ @_-]*5", ""),
    (r"imagenet.?(v2|real|[acr]\b|sketch)|\bv2\b|\breal\b|\bin-?[acr]\b|\b[arc][- ]acc", ""),
    (r"\b(?!top|acc|prec|in\d|in-\d|imagenet)[a-z]{2,}-?\d{1,3}\b.*(top.?1|acc)", ""),  # SSV1, UCF101, ...
    (r"cifar|kinetics|\bk[4-7]00\b|ssv2|places|\binat|image folder", ""),
    (rf"(?=.*\b(train|tr\.))(?=.*({_RATE}))", "train img/s"),
    (_RATE, "img/s"),
    (r"\bm?par(am|em|as?\b)|#\s*p(ar)?(\b|\(|$)|model size.*\(m\)", "params"),
    (r"flop|\b[mgt]?macs?\b|m-?adds?\b|mult.{0,6}add|\bmult\b", "flops"),
    (r"model size|disk|download|(?<!mem)(size|weights?).*\b[kmg]i?b\b", ""),
    (r"\b(size|res|resol\w*|inputs?|pixels?|px|crop)\b|^\W*(image|img)s?\W*$", "size"),
    (r"(top.?1|acc\w*|in-?1k)?.*\berr(or)?\b", "error"),
    (r"top.?1|\bacc|\bprec@|^\W*(imagenet|in)(-?1k)?\W*$", "top1"),
    (r"\bmem", "memory"),
    (r"^\W*(type|category|group|family|class|kind|paradigm|(model|network|arch\w*|backbone)\W*type)\W*$", "section"),
    (r"model|method|network|backbone|arch|name|variant|encoder|approach|\bnet\b", "label"),
)
"""What a column's header says, by the first pattern that it has: "" for what a paper's file has no word for."""

SECOND_NAME = re.compile(r"backbone|arch|variant|encoder", re.IGNORECASE)
"""A second column of names that says which network it is: `MAE | ViT-B`, `Swin | T`."""

OTHER_TASK = re.compile(r"coco|ade-?20k|detect|segm|mask r-?cnn|retinanet|upernet|cityscapes|\bvoc\b|kinetics")
"""Words of a header that speak of another network than the classifier."""

DENSE = re.compile(
    r"\b[mb]?ap\b|\bap_?\d|\bap\^|m?iou\b|\bframes?\b|\bclips?\b|\bviews\b|kinetics|\bk[4-7]00\b", re.IGNORECASE
)
"""Headers of a table of detectors, of networks for segmentation or for video."""

OTHER_IMAGES = re.compile(
    r"cifar|\bplaces|\bi-?nat|flowers|\bcars\b|\bpets\b|food-?101|svhn|\bmnist|tiny.?imagenet|imagenet-?100\b|\bcub\b|caltech"
    r"|imagenet-?(v2|real|a|r|c|sketch)\b|ucf-?101|ssv[12]|something|kinetics|\bvtab|objectnet",
    re.IGNORECASE,
)
"""Images on which an accuracy is not that on ImageNet's validation set."""

SAID = "size, params, FLOPs, img/s, training img/s, top-1 and memory"

_LETTER = r"(k|m|b|g|t)(?:illions?|io|ln|flops?|macs?|madds?|params?|ib|b)?"
_UNIT = re.compile(
    rf"[(\[][^)\]]*?(?<![a-z]){_LETTER}(?![a-z/])[^)\]]*[)\]]|\b([kmgt])(?:flops?|macs?|madds?|b)\b|[,/]\s*{_LETTER}\s*$"
)
_POWER = re.compile(r"(?:10\s*\^?\s*|1?e)(6|9|12)\b")
"""A unit in a column's header, in small letters: `FLOPs (M)`, `GMACs`, `#params (x10^6)`."""


Group = dict[int, list[Column]]
"""The columns of one network, by their place; a line of two networks has two groups."""


@dataclass(frozen=True, slots=True)
class Head:
    """The header of a table: its groups of columns, what it leaves out, what was `said` of its units, its words."""

    groups: tuple[Group, ...]
    left_out: tuple[str, ...]
    said: tuple[str, ...]
    words: tuple[str, ...]


def other_images(head: Head, title: str) -> tuple[Head, list[str]]:
    """The header without the accuracies that are not on ImageNet, by the table's title, and what to say of it."""
    found = OTHER_IMAGES.search(title)
    if not found or re.search(r"imagenet(?!-?(v2|real|[arc]\b|sketch|100\b))|\bin-?1k\b", title.lower()):
        return head, []
    left_out: list[str] = []
    for group in head.groups:
        for i, columns in group.items():
            kept = [column for column in columns if column.key not in ("top1", "error")]
            if len(kept) < len(columns):
                left_out.append(columns[0].word)
            group[i] = kept
    said = f"the title speaks of {found.group()}: its accuracies ({', '.join(left_out)}) are left out"
    return head, [said] if left_out else []


def turned(lines: Sequence[Cells]) -> list[Cells]:
    """The lines of a table whose networks are its columns, as one whose networks are its lines; none for another.

    Each line has the number of the line that names the networks.
    """
    metrics = [i for i, (_, cells) in enumerate(lines) if _key_of(cells[0]) in _MEASURED and has_numbers(cells[1:])]
    if len(metrics) < 2 or metrics[0] == 0:
        return []
    *kinds, (number, names) = lines[: metrics[0]]
    columns: list[tuple[str, Sequence[str]]] = [("Model", names)]
    for _, cells in kinds[-1:]:
        spread: list[str] = []
        for cell in cells:
            spread.append(spread[-1] if spread and cell == SPAN else cell)  # a wide cell is of all its places
        columns += [("Type", spread)] if SPAN in cells else []
    columns += [(cells[0], cells) for _, cells in lines[metrics[0] :] if cells[0] and SPAN not in cells]
    width = len(names)
    body = [[cells[i] if i < len(cells) else "" for _, cells in columns] for i in range(1, width)]
    return [(number, [word for word, _ in columns]), *((number, cells) for cells in body if cells[0])]


_MEASURED = frozenset(("size", "params", "flops", "img/s", "train img/s", "error", "top1", "memory"))
"""What a line of a turned table may be of."""

_DEEPEST = 3
"""So many lines a header may have."""


def header_at(lines: Sequence[Cells], at: int) -> int:
    """How many lines from there on are a header; 0 for none."""
    deep = 0
    while deep < _DEEPEST and at + deep < len(lines) and _may_be_header(lines[at + deep][1]):
        deep += 1
        joined = _joined(lines[at : at + deep])
        keys = {_key_of(word) for word in joined} - {""}
        if len(keys) < 2:
            continue
        while deep < _DEEPEST and at + deep < len(lines) and _continues(lines[at + deep][1], joined):
            deep += 1
        return deep
    return 0


def _may_be_header(cells: Sequence[str]) -> bool:
    """Whether no number stands in the line, and it is no title of what follows: one cell, as wide as the table."""
    title = cells[1:] and cells[0] and all(cell in ("", SPAN) for cell in cells[1:])
    return not title and not has_numbers(cells)


def has_numbers(cells: Sequence[str]) -> bool:
    """Whether one of the cells is a number."""
    return any(re.fullmatch(r"[~≈<>]?\s*\d[\d.,]*\s*(%|[kmgbt]\w{0,5})?", cell.lower()) for cell in cells)


def _continues(cells: Sequence[str], above: Sequence[str]) -> bool:
    """Whether a line says more about the columns: it names no other network, and no number stands in it."""
    filled = [cell for cell in cells if cell not in ("", SPAN)]
    label = next((i for i, word in enumerate(above) if _key_of(word) == "label"), -1)
    own = cells[label] if 0 <= label < len(cells) else ""
    return len(filled) > 1 and (own in ("", SPAN) or own == above[label]) and not has_numbers(cells)


def _joined(lines: Sequence[Cells]) -> list[str]:
    """What the lines of a header say of each column; a wide cell speaks of all below it."""
    width = max((len(cells) for _, cells in lines), default=0)
    words: list[list[str]] = [[] for _ in range(width)]
    for _, cells in lines:
        spread = ""
        for i, cell in enumerate(cells):
            spread = spread if cell == SPAN else cell
            if spread and spread not in words[i]:
                words[i].append(spread)
    return [" ".join(parts) for parts in words]


def _key_of(word: str) -> str:
    plain = re.sub(r"[_\s]+", " ", word[:200].lower()).strip()
    return next((key for pattern, key in HEADERS if plain and re.search(pattern, plain)), "")


def _parts(word: str) -> list[str]:
    """The names of a header for several numbers, `Params / FLOPs`; one part for `img / s`."""
    parts = [part.strip() for part in re.split(r"\s*[/|]\s*", word)]
    named = len(parts) > 1 and all(re.search(r"param|flop|mac|madd|top|acc|size", part.lower()) for part in parts)
    return parts if named else [word]


def heading(lines: Sequence[Cells], body: Sequence[Cells]) -> Head:
    """The columns of a header: one group of them for each network that a line holds."""
    words = [word[:200] for word in _joined(lines)]
    # Where the columns of each network of a line begin: at the label, where the header says it again.
    labels = [i for i, word in enumerate(words) if _key_of(word) == "label"]
    same = [i for i in labels if words[i] == words[labels[0]]]
    again = len(same) > 1 and all(b - a > 1 for a, b in pairwise(same))
    starts = [0, *same[1:]] if again else [0]
    mixed = any(OTHER_TASK.search(word.lower()) for word in words)
    groups: list[Group] = []
    left_out: list[str] = []
    said: list[str] = []
    for first, last in zip(starts, [*starts[1:], len(words)], strict=True):
        group, rest = _group(words, first, last, mixed=mixed)
        group, taken = _stated(group, body)
        groups.append(group)
        left_out += rest if first == starts[0] else []
        said += taken
    return Head(tuple(groups), tuple(dict.fromkeys(left_out)), tuple(dict.fromkeys(said)), tuple(words))


def _group(words: Sequence[str], first: int, last: int, *, mixed: bool) -> tuple[Group, list[str]]:
    """The columns of one network, and the words of those that are left out."""
    group: Group = {}
    seen: dict[str, int] = {}
    left_out: list[str] = []
    for i in range(first, last):
        for part, word in enumerate(parts := _parts(words[i])):
            key = _key_of(word)
            foreign = mixed and OTHER_TASK.search(word.lower()) and key not in ("label", "section", "size")
            tested = key == "size" and key in seen and re.search(r"test|eval|infer", word.lower())
            if key == "error":
                key = "" if "top1" in {_key_of(other) for other in words[first:last]} else key
            if key == "label" and key in seen and SECOND_NAME.search(word) and "variant" not in seen:
                key = "variant"
            if key in seen and "img/s" in key and (gpu := _card_of(word)) not in ("", _card_of(words[seen[key]])):
                key = f"{key} {gpu}"
            if tested:
                left_out += [group.pop(seen[key])[0].word]
            elif not key or foreign or key in seen:
                left_out += [word] if word else []
                continue
            seen[key] = i
            group.setdefault(i, []).append(Column(key, word, _exponent(word), part, len(parts)))
    if "label" not in seen:
        free = [i for i in range(first, last) if i not in group]
        if free:
            place = next((i for i in free if not words[i]), free[0])
            group[place] = [Column("label", words[place], None)]
            left_out = [word for word in left_out if word != words[place]]
    return group, left_out


def _exponent(word: str) -> int | None:
    lower = word.lower().translate(RAISED)
    if power := _POWER.search(lower):
        return int(power.group(1))
    match = _UNIT.search(lower[:200])
    return EXPONENTS[next(filter(None, match.groups()))] if match else None


_CARD = re.compile(
    r"\b([VAHPTLB]\d{1,4}[GS]?|(?:RTX|GTX|TITAN) ?\w+(?: Ti)?|[1-5]0[5-9]0(?: ?Ti)?|GH?B?200|TPU\w*|CPU)\b"
)


def card(head: Head) -> str:
    """The card that a header names for the images per second that are read."""
    rates = (column.word for columns in head.groups[0].values() for column in columns if column.key == "img/s")
    return next(filter(None, map(_card_of, rates)), "")


def _card_of(word: str) -> str:
    match = _CARD.search(word)
    return match.group(1) if match else ""


def is_dense(head: Head) -> bool:
    """Whether a header speaks of detection, segmentation or video, and of no accuracy on ImageNet."""
    keys = {column.key for columns in head.groups[0].values() for column in columns}
    return "top1" not in keys and "error" not in keys and any(DENSE.search(word) for word in head.words)


_MILLIONS = 20
"""FLOPs in G over params in M: classifiers have 0.02 to 2, so where the quotient is larger, the FLOPs are in M."""


def _stated(group: Group, body: Sequence[Cells]) -> tuple[Group, list[str]]:
    """The columns with the units that their numbers can only have, and what was taken for granted."""
    bare = {column.key: _bare_numbers(i, column, body) for i, cs in group.items() for column in cs}
    said: list[str] = []
    changed: Group = {}
    for i, columns in group.items():
        changed[i] = list(columns)
        for at, column in enumerate(columns):
            numbers = bare[column.key]
            if column.key not in UNITS or column.exponent is not None or not numbers:
                continue
            word, middle = column.word, median(numbers)
            params = bare.get("params") or [0.0]
            if column.key == "memory":
                changed[i][at] = replace(column, exponent=MEGA if middle >= _MEGABYTES else None)
                said += [f"'{word}' has no unit and is taken as MB: write {word} (GB)"] if middle >= _MEGABYTES else []
                continue
            if middle >= A_COUNT:
                continue
            if column.key == "flops" and median(params) and middle / median(params) > _MILLIONS:
                changed[i][at] = replace(column, exponent=MEGA)
                said.append(f"'{word}' has no unit and is taken as millions: write {word} (M) or {word} (G) there")
            elif middle > (_MANY if column.key == "flops" else 10 * _MANY):
                unit = "G" if column.key == "flops" else "M"
                said.append(f"'{word}' has no unit and is taken as {unit}: write {word} (M) or {word} (G) there")
    return changed, said


_MEGABYTES = 300
"""No card has as many GB."""

_MANY = 200
"""Few networks have more FLOPs in G, or ten times as many params in M."""


def _bare_numbers(place: int, column: Column, body: Sequence[Cells]) -> list[float]:
    """The numbers of a column that stand without a unit."""
    texts = (part_of(cells[place], column) for _, cells in body if place < len(cells))
    plain = (re.sub(r",(?=\d{3}(?!\d))|[*†‡%]|\(.*?\)", "", text).strip() for text in texts)
    return [float(text) for text in plain if re.fullmatch(r"\d+(\.\d+)?", text)]
