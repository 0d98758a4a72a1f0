"""Plain English, as far as a machine can read it: turns that slow a reader down, and sentences that are too long."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "models", "reports")
PAGES = ("README.md", "CONTRIBUTING.md", "mkdocs.yml", "action.yml", "docs/*.md", ".github/**/*.md", ".github/**/*.yml")
WORDS = 30

TERMS = "as in 2022(?: with EMA, DDP)?|today|tie|open|ok|runs|measured|improved|inconclusive|cannot tell|doubtful"
"""Words that a note explains, each in a sentence that begins with it in small letters."""

BANNED = {
    "what is told": r"\btold\b(?! apart)|\btells? of\b|\bgood news\b",
    "is none": r"\b(?-i:(?:is|are|was|were|be) none)\b(?! of\b)",
    "of its own": r"\bof (?:its|their|his|her|our|one's|ones|a model's) own\b",
    "lies": r"\b(?:lies|lie|lay|lain|lying)\b",
    "whoever": r"\bwho(?:so)?ever\b",
    "nobody": r"\bnobody\b|\bsomebody\b",
    "of ours": r"\bof (?:ours|theirs|yours)\b",
    "let go": r"\blet go\b|\bcut loose\b|\bleave[sd]? away\b|\bleft away\b",
    "among themselves": r"\b(?:among|against|between) (?:themselves|each other)\b",
    "moods": r"\bmoods?\b|\bbefell?\b|\bbefalls?\b|\bwhat becomes of\b|\bas in life\b",
    "hold to": r"\bholds? to\b|\bbegin no\b|\bin the way of\b|\bhas to do with\b|\bknows? no\b",
    "at hand": r"\bat hand\b|\bin sight\b|\bin force\b",
}  # fmt: skip
"""A turn of phrase and the pattern that finds it. Each has a plain word: say that."""

ANY_TURN = re.compile("|".join(f"(?:{pattern})" for pattern in BANNED.values()), re.IGNORECASE)
"""One look instead of twelve: few texts hold any."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The prose of a file with its line: a page's lines, or a program's strings; of an f-string what stands in braces
    counts as one word."""
    source = path.read_text(encoding="utf-8")
    yield from program(source)[0] if path.suffix == ".py" else page(source)


@functools.cache
def program(source: str) -> tuple[list[tuple[int, str]], set[int]]:
    """The strings of a program with their lines, and the lines on which its documentation begins."""
    tree, strings, inside = ast.parse(source), [], set()
    for node in ast.walk(tree):  # an f-string comes before its parts
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            strings.append((node.lineno, "".join(map(str, parts))))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            strings.append((node.lineno, node.value))
    return strings, documentation(tree)


def page(source: str) -> Iterator[tuple[int, str]]:
    """The paragraphs, list items and table cells of a page, without code, with the line on which each begins.

    Generated notes list settings, item by item: there a semicolon closes a sentence.
    """
    start, held, generated = 1, "", False
    for number, line in enumerate([*_without_code(source).splitlines(), ""], 1):
        generated = (generated or line.startswith("<!-- generated")) and not line.startswith("<!-- end")
        new = re.match(r"\s*(?:[-*#|>]|\d+\.|$|<)", line) is not None
        if new and held.strip():
            yield start, held.replace("; ", ".\n\n") if generated else held
        if new:
            start, held = number, ""
        if line.startswith("|"):
            yield from ((number, cell) for cell in line.split("|"))
        elif not line.startswith("<!--"):
            held = f"{held} {line}" if held else line


def _without_code(source: str) -> str:
    """The page with its blocks of code emptied, on as many lines."""
    return re.sub(
        r"^( *)```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), source, flags=re.DOTALL | re.MULTILINE
    )


def sentences(text: str) -> Iterator[str]:
    """A text's sentences. A paragraph, an item of a list and a colon at a line's end close one as well."""
    for paragraph in re.split(r"\n\s*\n|\n\s*(?=[-*] |\d+\. )|:\n|\n  (?=\S)", text):
        flat = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "X", " ".join(paragraph.split()))
        yield from re.split(rf"(?<=[.!?])[)\"*]*\s+(?=[\"*(`A-Z0-9\[–]|(?:{TERMS}): )", flat)


def documentation(tree: ast.AST) -> set[int]:
    """The lines on which the docstrings of modules, classes, functions and attributes begin."""
    bodies = [body for node in ast.walk(tree) if isinstance(body := getattr(node, "body", None), list)]
    return {
        part.value.lineno for body in bodies for part in body if isinstance(part, ast.Expr) and _is_text(part.value)
    }


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def files(root: Path = ROOT) -> list[Path]:
    """Everything that holds the product's prose."""
    code = [path for folder in FOLDERS for path in (root / folder).rglob("*.py")]
    pages = [path for pattern in PAGES for path in root.glob(pattern)]
    return sorted({path for path in (*code, *pages) if path.resolve() == path})


def banned(path: Path) -> list[str]:
    """Every banned turn of a file's strings, docstrings or paragraphs, as `file:line: turn: text`."""
    return [
        f"{path.name}:{line}: {turn!r}: {flat[:200]}"
        for line, text in texts(path)
        if not text.startswith(REASONS) and ANY_TURN.search(flat := " ".join(text.split()))
        for turn, pattern in BANNED.items()
        if re.search(pattern, flat, re.IGNORECASE)
    ]


def long_sentences(path: Path) -> list[str]:
    """Sentences of over 30 words of a page, or of a program's help, notes and errors, as `file:line: words: text`."""
    left_out = program(path.read_text(encoding="utf-8"))[1] if path.suffix == ".py" else set()
    return [
        f"{path.name}:{line}: {words} words: {sentence}"
        for line, text in texts(path)
        if line not in left_out and not text.startswith(REASONS)
        if text.count(" ") + text.count("\n") >= WORDS
        for sentence in sentences(text)
        if (words := sum(bool(re.search(r"\w", word)) for word in sentence.split())) > WORDS
    ]


REASONS = (
    "\n        _to_copy copy clone",  # torch's operators that copy: names, no sentence
    "\n        relu relu6 prelu",  # and those that work on each element
    "\n    textbf textit textsl",  # TeX's macros
    "<!doctype html>",  # a page's markup
    "targets should not be none",  # a pattern of torchvision's own message
)
"""Texts that are no prose of ours, by their beginning, each with its reason."""


def test_plain_words() -> None:
    complaints = [complaint for path in files() for complaint in banned(path)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_sentences_are_short() -> None:
    complaints = [complaint for path in files() if path.suffix in (".py", ".md") for complaint in long_sentences(path)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_every_reason_is_needed() -> None:
    code = [path for path in files() if path.suffix == ".py"]
    for reason in REASONS:
        holding = [path for path in code if reason.strip() in path.read_text(encoding="utf-8")]
        begun = [text for path in holding for _, text in texts(path)]
        assert any(text.startswith(reason) for text in begun), f"shorten the list by {reason!r}"


@pytest.mark.parametrize(
    "text",
    [
        "This is told of the launches.",
        "There is none.",
        "Rows that are none, are dropped.",
        "It has a clock of its own.",
        "Networks with weights of\ntheir own.",
        "The truth lies between.",
        "whoever asks",
        "Nobody knows.",
        "a file of ours",
        "gradients let go of",
        "they differ among themselves",
        "the machine's moods",
        "no trace is at hand",
        "begin no suite",
    ],
)
@pytest.mark.parametrize(
    "form", ['"""A module.\n\n{}\n"""\n', 'raise E(f"{{x}}: "\n  """{}""")\n', "# Page\n\nText. {}\n", "| a | {} |\n"]
)
def test_a_turn_is_seen(tmp_path: Path, text: str, form: str) -> None:
    path = tmp_path / ("x.md" if form[0] in "#|" else "x.py")
    path.write_text(form.format(text if form[0] != "|" else text.replace("\n", " ")))
    assert banned(path)


@pytest.mark.parametrize(
    "text", ["x is None", "two rows can be told apart", "none of them", "its own file", "a belief"]
)
def test_ordinary_words_are_not_banned(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.py").write_text(f'"""{text}"""\n')
    assert banned(tmp_path / "x.py") == []


@pytest.mark.parametrize("form", ['x = "{}"\n', 'x = f"{{y}} {}"\n', "{}\n", "- {}\n", "| a | {} |\n", "1. {}\n"])
def test_a_long_sentence_is_seen(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("x.py" if "x =" in form else "x.md")
    path.write_text(form.format("word " * 31 + "end."))
    assert len(long_sentences(path)) == 1
    path.write_text(form.format(("word " * 27 + "end. ").capitalize() * 2))
    assert long_sentences(path) == []


def test_code_and_docstrings_may_hold_long_lines(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(f'"""{"word " * 40}"""\n')
    (tmp_path / "x.md").write_text(f"```text\n{'word ' * 40}\n```\n")
    assert long_sentences(tmp_path / "x.py") == long_sentences(tmp_path / "x.md") == []


def test_contributing_stays_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 120
