"""What a terminal without Unicode shows instead: rules stay rules, and a footnote keeps its letter."""

from __future__ import annotations

import codecs
import unicodedata

HANDLER = "visionbench-plain"

PLAIN = {
    "━": "=", "─": "-", "–": "-", "—": "-", "−": "-", "×": "x", "±": "+-", "→": "->", "≤": "<=", "≥": ">=", "·": ".",
    "✓": "+", "✗": "x", "●": "*", "○": "o", "•": "*", "’": "'", "‘": "'", "“": '"', "”": '"', "█": "#", "▏": "|",
    "░": ".", "µ": "u", "√": "sqrt",
}  # fmt: skip
"""Characters that have no plain letter in them, with what is written for them in plain text."""


def plain(text: str) -> str:
    """`text` in ASCII: signs as in `PLAIN`, letters without their accents, `?` for what has neither.

    >>> plain("14.0 [11.1, 15.6]ᵃ  ±3 % …")
    '14.0 [11.1, 15.6]a  +-3 % ...'
    """
    return "".join(map(_plain, text))


def _plain(character: str) -> str:
    if character.isascii():
        return character
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return PLAIN.get(character) or letters or "?"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


codecs.register_error(HANDLER, _replaced)
