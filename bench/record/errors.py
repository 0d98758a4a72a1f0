"""The one exception that is the user's to mend.

Three kinds of error are never mixed: a user's mistake is a `BenchError` (one sentence with its remedy, exit code 2,
no traceback); a model's failure is a `Failure` in the record; our own bug crashes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class BenchError(Exception):
    """A user's mistake, in one sentence that contains the remedy."""


class DeviceLostError(BenchError):
    """The device stopped answering: what was measured is kept, and the command ends as one that could not measure."""


def choose(kind: str, word: str, known: Iterable[str]) -> str:
    """Return `word` if it is one of `known`; otherwise raise a `BenchError` that suggests near misses.

    `kind` names the list in the sentence: "precision", "table", ...
    """
    choices = known if isinstance(known, tuple) else tuple(known)
    if word in choices:
        return word
    raise BenchError(f"there is no {kind} '{word}': {hint(word, choices)}")


def hint(word: str, choices: Iterable[str], most: int = 3) -> str:
    """The remedy for a word that is none of the choices: those that are near, or else all of a short list."""
    known = tuple(choices)
    if found := near(word, known, most):
        return f"did you mean {' or '.join(found)}?"
    more = f", ... ({len(known)} in all)" if len(known) > LISTED else ""
    return f"choose one of {', '.join(known[:LISTED])}{more}."


ALIKE = 0.62
"""From this likeness on (1 is the same spelling) a choice is suggested."""

LISTED = 40
"""So many choices a sentence lists."""

OTHERWISE = {
    "md": "markdown", "tex": "latex", "nhwc": "channels_last", "nchw": "contiguous", "float32": "fp32",
    "float16": "fp16", "half": "fp16", "bfloat16": "bf16", "amp": "amp_bf16", "autocast": "amp_bf16", "jpg": "png",
    "eval": "inference", "training": "train", "ls": "list", "sdpa": "fused",
}  # fmt: skip
"""What people write -> what it is called here; a suggestion only where it is among the choices."""


def near(word: str, choices: Iterable[str], most: int = 3, alike: float = ALIKE) -> list[str]:
    """Choices that may be meant, the likeliest first: with another name, that begin or end so, that are spelt alike.

    A table's name is also found without its paper's (`table1`). Equally near ones keep their order.
    """
    typed = str(word).lower()
    if not typed.strip():
        return []
    ranked = [(-_likeness(typed, choice.lower()), choice) for choice in choices]
    kept = sorted((pair for pair in ranked if pair[0] <= -alike), key=lambda pair: pair[0])
    return [choice for _, choice in kept[:most]]


def _likeness(typed: str, choice: str) -> float:
    """1 for equal spelling, more for another name of it, its beginning or its end, less for letters that differ."""
    if OTHERWISE.get(typed) == choice or typed == choice:
        return 4.0
    if typed.isdigit() and re.search(rf"[a-z_]{typed}$", choice):  # the first table, that figure
        return 2.0
    if len(typed) > 1 and choice.startswith(typed):
        return 2.0 + len(typed) / len(choice)
    tail = choice.partition("_")[2]
    if len(typed) > 2 and typed == tail:
        return 2.0
    matcher = difflib.SequenceMatcher(None, typed, choice)
    return max(matcher.ratio(), difflib.SequenceMatcher(None, typed, tail).ratio() if "_" not in typed and tail else 0)
