"""The one exception that is the user's to mend.

Three kinds of error are never mixed: a user's mistake is a `BenchError` (one sentence with its remedy, exit code 2,
no traceback); a model's failure is a `Failure` in the record; our own bug crashes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """A user's mistake, in one sentence that contains the remedy."""


def choose(kind: str, word: str, known: Iterable[str]) -> str:
    """Return `word` if it is one of `known`; otherwise raise a `BenchError` that suggests near misses.

    `kind` names the list in the sentence: "precision", "table", ...
    """
    choices = known if isinstance(known, tuple) else tuple(known)
    if word in choices:
        return word
    near = difflib.get_close_matches(str(word), choices, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(choices)}."
    raise BenchError(f"there is no {kind} '{word}': {hint}")
