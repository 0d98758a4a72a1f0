"""What a terminal, a page or GitHub's runner would obey is not shown, whoever wrote it."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from visionbench.record.clean import clean, clean_json, clean_lines, without_commands


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ResNet-50 é – 網", "ResNet-50 é – 網"),
        ("a\x1b[31mred\x1b[0m\x07b", "aredb"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
        ("a\x00\x7f\x9b31mb", "a31mb"),
        ("\u202egnp.exe\u2066\u2069\u200f\u200b\ufeff", "gnp.exe"),
        ("one\r\n\ttwo\u2028three\x85four", "one two three four"),
        ("\ud800x\U000e0041", "x"),
        ("##[error]x", "## [error]x"),
        ("#\u200b#[error]x", "## [error]x"),
    ],
)
def test_only_what_can_be_seen_is_shown(text, shown):
    assert clean(text) == shown


@pytest.mark.parametrize(
    "text", ["::error::x", "a\n::error::x", "a\n \t::set-output name=x::y", "a\n\u200b::stop-commands::z"]
)
def test_no_line_is_a_command(text):
    assert not any(line.strip().startswith("::") for line in clean_lines(text).split("\n"))


def test_no_character_of_control_or_format_is_shown():
    unseen = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs")]
    assert len(unseen) > 2000
    assert clean("".join(unseen)).strip() == ""


def test_a_colon_within_a_line_stays():
    assert without_commands("tests/a.py::test_b\nx") == "tests/a.py::test_b\nx"


def test_json_keeps_what_it_holds():
    text = json.dumps({"a": "x\x1b\u202e\x85##[error]", "b": [1.5]}, ensure_ascii=False, indent=1)
    assert json.loads(clean_json(text)) == json.loads(text)
    assert clean_json(text).replace("\n", "").isprintable()
    assert "##[" not in clean_json(text)
