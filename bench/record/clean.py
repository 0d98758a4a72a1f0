"""The one cleaner of text that came from a file, a model or a machine, before it is shown.

A terminal obeys control characters, a page obeys marks of direction, GitHub's runner obeys lines that begin with `::`
or hold `##[`. None of them is part of any name, so none of them is shown.
"""

from __future__ import annotations

import json
import re

_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
"""What a terminal takes as a command; without its first character the rest would be left as text."""

_BLANKS = re.compile(r"[\t-\r\x85\u2028\u2029]+")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff\ud800-\udfff]"
)
"""Controls, marks of direction and format, halves of surrogates: what Unicode calls Cc, Cf and Cs."""

_OLD_COMMAND = re.compile(r"##(?=\[)")
_COMMAND = re.compile(r"(?m)^([^\S\n]*):(?=:)")


def clean(text: str) -> str:
    """`text` as one line without characters that command instead of being seen."""
    if not text.isprintable():
        text = _UNSEEN.sub("", _BLANKS.sub(" ", _SEQUENCES.sub("", text)))
    return _OLD_COMMAND.sub("## ", text) if "##[" in text else text


def clean_lines(text: str) -> str:
    """As `clean`, line by line: a message of several lines, none of which GitHub's runner obeys."""
    return without_commands("\n".join(map(clean, text.split("\n"))))


def clean_json(text: str) -> str:
    """A JSON text whose strings keep what `clean` drops, written as escapes."""
    escaped = _UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text)
    return escaped.replace("##[", "\\u0023#[")


def without_commands(text: str) -> str:
    """A document of which no line is a command of GitHub's runner."""
    return _COMMAND.sub(r"\1: ", text) if "::" in text else text
