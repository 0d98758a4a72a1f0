"""The page: well formed, closed to the network, deaf to hostile text, and alive in a browser where there is one."""

import base64
import contextlib
import functools
import hashlib
import re
import shlex
import sys
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from tests.reports import gates, paired
from tests.reports.chromium import PROGRAM, Browser
from visionbench.command.inputs import read_records
from visionbench.command.main import command_line
from visionbench.record.spec import Spec
from visionbench.reports import REPORTS, render
from visionbench.reports.figures import Evidence as Drawable
from visionbench.reports.render.html import FOLDER, Picture, anchors, page, parts, pictures
from visionbench.reports.render.html import evidence as behind
from visionbench.reports.render.html.picture import BUDGET
from visionbench.reports.results.runs import layout as runs
from visionbench.reports.results.verdicts import layout as verdicts
from visionbench.reports.table import DASH, Cell, Heading, Note, Row, Table

VOID = {"meta", "br", "img", "input", "link", "hr"}
LIMIT = 3_000_000
NASTY = "</style></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'` `<b>` & \x00\u202e</td>"
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20" role="img"><title>t</title>'
    b"<desc>A &lt;bar&gt; at 100 %.</desc><g><path d='M 0 0 \nL 9 9' style=\"fill: #123456\"/></g></svg>"
)


class Reader(HTMLParser):
    """What a parser sees: elements in order, their nesting, their ids, all of their words."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.faults: list[str] = []
        self.words: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, name):
        return [attributes[name] for _, attributes in self.found if name in attributes]

    def tags(self, tag):
        return [attributes for found, attributes in self.found if found == tag]


reader = functools.cache(Reader)
"""Of the same page once: whole ones take more than a second."""


def faults(document):
    """Everything that is wrong with a page; nothing for a good one."""
    read = reader(document)
    ids = read.all("id")
    inside = [address[1:] for address in read.all("href") if address.startswith("#")]
    named = [*inside, *(word for words in read.all("aria-labelledby") for word in words.split())]
    outside = [
        (tag, attributes[name])
        for tag, attributes in read.found
        for name in ("src", "srcset", "href", "action", "data", "poster", "background")
        if name in attributes and not attributes[name].startswith(("#", "data:image/svg+xml,", "data:text/csv;"))
    ]
    return [
        *read.faults,
        *(f"<{tag}> is not closed" for tag in read.open),
        *(f"two ids {one}" for one in sorted({one for one in ids if ids.count(one) > 1})),
        *(f"#{one} is nowhere" for one in set(named) - set(ids)),
        *(f"<{tag}> fetches {url}" for tag, url in outside if tag != "a" or not url.startswith("https://")),
        *(f"<{tag}> has {name}" for tag, its in read.found for name in its if name == "style" or name.startswith("on")),
        *(f"style fetches {url}" for url in re.findall(r"@import|url\(\s*['\"]?(?!data:|%23)", document)),
    ]


@pytest.fixture(scope="module")
def evidence(measured):
    return [*measured, *paired.grid()], [*paired.effects(), *paired.steps()]


@pytest.fixture(scope="module")
def tables(evidence):
    records, comparisons = evidence
    # As the whole page has them, and one table of another paper: all of them would be minutes in a browser.
    shown = [report for report in REPORTS.values() if report.paper_table or not report.paper]
    laid_out = [report.layout(records, comparisons) for report in (*shown, REPORTS["swin_table1"])]
    return [*laid_out, verdicts(gates.typical()), verdicts(gates.nasty())]


@pytest.fixture(scope="module")
def drawn():
    return (
        Picture(name="one", title="A figure", wide=(SVG, SVG), narrow=(SVG, SVG)),
        Picture(name="two", title="Another", wide=(SVG, SVG)),
    )


@pytest.fixture(scope="module")
def document(tables, drawn, evidence):
    return page(tables, drawn, *evidence, version="1.2.3")


@pytest.fixture(scope="module")
def short_document(tables, drawn, evidence):
    """A page with the last tables alone: all that there can be is in them, and it is read in no time."""
    return page(tables[-3:], drawn, *evidence, version="1.2.3")


# --- what it is -------------------------------------------------------------------------------------------------------


def test_a_page_is_well_formed_and_closed_and_every_mark_leads_somewhere(document):
    assert faults(document) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("</caption>", ""), "</table>"),
        (('id="environments"', 'id="top"'), "two ids top"),
        ((':note-a"><sup>', ':note-zz"><sup>'), "is nowhere"),
        (("<h1>", '<h1><img src="https://example.org/x.png">'), "<img> fetches"),
        (("<h1>", "<h1 onclick='x()'>"), "<h1> has onclick"),
        (("<h1>", "<h1 style='color: red'>"), "<h1> has style"),
        (("<style>", "<style>@import 'x.css';"), "style fetches"),
    ],
)
def test_a_fault_is_seen(short_document, change, fault):
    assert change[0] in short_document
    assert any(fault in told for told in faults(short_document.replace(*change, 1)))


def test_a_table_says_what_its_cells_are(document):
    read = reader(document)
    assert len(read.tags("h1")) == 1
    assert len(read.tags("caption")) == len(read.tags("table")) > 8
    assert {its.get("scope") for its in read.tags("th")} == {"col", "colgroup", "row", "rowgroup"}
    assert all(its.get("alt") for its in read.tags("img"))
    assert [its["lang"] for its in read.tags("html")] == ["en"]


def test_the_policy_lets_in_our_own_style_and_script_and_nothing_else(document):
    [policy] = [its["content"] for its in reader(document).tags("meta") if "http-equiv" in its]
    for tag in ("style", "script"):
        [inline] = re.findall(rf"<{tag}>(.*?)</{tag}>", document, flags=re.DOTALL)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert document.index("Content-Security-Policy") < document.index("<style>")


def test_it_is_made_of_its_records_and_of_no_clock(tables, drawn, evidence, document):
    assert page(tables, drawn, *evidence, version="1.2.3") == document
    words = " ".join(reader(document).words)
    assert "visionbench 1.2.3, newest record of 2026-01-02" in words
    assert "Fixture CPU" in words
    assert "NVIDIA A100-SXM4-80GB" in words
    assert "warmup iterations" in words


def test_every_number_says_where_it_comes_from(tables, document):
    read = reader(document)
    titles, words = read.all("title"), " ".join(read.words)
    for table in tables:
        for cell in (cell for row in table.rows for cell in row.cells[1:] if cell.source and cell.text != DASH):
            assert cell.text in words
            assert cell.origin
    numbers = sum(bool(cell.source) and cell.text != DASH for t in tables for r in t.rows for cell in r.cells[1:])
    assert len(titles) >= numbers
    assert any(title.startswith("Published: arXiv 2201.03545v2, Table 1") for title in titles)
    assert any("Flags: the device slowed its clock meanwhile" in title for title in titles)
    assert any("Exactly 28,589,128." in title for title in titles)


def test_without_records_it_is_a_page_all_the_same(tables):
    for table in tables:
        text = render(table, "html")
        assert faults(text) == []
        assert text.endswith("</html>\n")
    assert faults(page(())) == []


def test_the_typography_is_that_of_the_source():
    sources = ("published", "computed", "measured", "predicted")
    cells = (Cell(text="x"), *(Cell(text="1", value=1.0, source=source, origin="o") for source in sources))
    columns = tuple(Heading(key=str(number)) for number in range(5))
    text = render(Table(name="t", title="T", columns=columns, rows=(Row(cells=cells),)), "html")
    for dressed in ('<span class="p">1</span>', '<code class="c">1<', '<b class="m">1<', '<i class="e">1<'):
        assert f'data-v="1.0">{dressed}' in text


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(document):
    found = re.findall(r'<code class="cmd">(.*?)</code>', document, flags=re.DOTALL)
    return dict.fromkeys("".join(Reader(one).words) for one in found)


def test_every_command_is_one_that_the_command_line_takes(document):
    found, parser_of = commands(document), functools.cache(command_line)
    for line in found:
        python, script, *words = shlex.split(line)
        assert (python, script) == ("python", "bench.py")
        options = parser_of(words[0]).parse_args(words)
        made = {name: getattr(options, name, None) for name in ("task", "image_size", "batch_size")}
        assert Spec(model="timm:x", **{name: value for name, value in made.items() if value})
    for begin in ("run timm:", "trace timm:", "effects timm:", "effects --roadmap t"):
        assert any(line.startswith(f"python bench.py {begin}") for line in found), begin


@pytest.mark.parametrize(
    ("title", "link"),
    [
        ("Classification on ImageNet-1K (Table 1 of the ConvNeXt paper)", "Table 1"),
        ("ImageNet-1K (Table 1 of ResMLP)", "ResMLP, Table 1"),
        ("ResMLP (README)", "ResMLP (README)"),
        ("Fastest: which network at which accuracy", "Fastest"),
        ("My table", "My table"),
    ],
)
def test_a_link_of_the_contents_says_whose_table_it_is(title, link):
    assert parts._short(title) == link


def test_the_first_sentence_says_whose_prints_they_are():
    swin, convnext = (REPORTS[name].layout([]) for name in ("swin_table1", "convnext_table2"))
    assert "A ConvNet for the 2020s</a> prints, beside" in parts.lead([convnext])
    assert "A ConvNet for the 2020s</a> and other papers print, beside" in parts.lead([convnext, swin])
    assert ": what papers print, beside" in parts.lead([swin])
    assert re.search(r"\d,\d{3} numbers in 60 tables", parts.lead([convnext] * 60))
    assert ">1 number in 1 table." in parts.lead([plain("a", [1.0])])


def test_a_doubt_is_not_followed_by_its_denial(launches):
    column = Heading(key="throughput", head=("img/s",), unit="1/s", source="measured")
    cell = Cell(
        text="9", value=9.0, source="measured", notes=("It varied.",), evidence=tuple(launches("timm:resnet18"))
    )
    assert not any("No flags" in line for line in behind.lines(column, cell))
    assert "No flags." in behind.lines(column, replace(cell, notes=()))


def test_a_measured_row_is_reproduced_as_it_was_measured(launches):
    how = {"precision": "amp_bf16", "memory_format": "channels_last", "compile_mode": "max-autotune", "task": "train"}
    records = launches("user:my.nets:make it", image_size=384, batch_size=8, attention="math", **how)
    assert list(commands(page([runs(records)], (), records))) == [
        "python bench.py run 'user:my.nets:make it' --image-size 384 --batch-size 8 --task train --precision amp_bf16 "
        "--memory-format channels_last --compile max-autotune --attention math --protocol steady --launches 7 "
        "--gpu a100-sxm4-80gb"
    ]


def test_of_two_settings_each_cell_finds_its_own(launches):
    mine = launches("paper:convnext_original_tiny", flags=("throttled",))
    other = replace(mine[0].environment, device_key="v100-sxm2-16gb")
    theirs = [replace(record, environment=other) for record in launches("paper:convnext_original_tiny", number=3)]
    found = list(commands(page([REPORTS["convnext_table1"].layout([*mine, *theirs])], (), [*mine, *theirs])))
    assert sum("--launches 7 --gpu a100-sxm4-80gb" in line for line in found) == 1
    assert sum("--launches 3 --gpu v100-sxm2-16gb" in line for line in found) == 1


# --- hostile text, size -----------------------------------------------------------------------------------------------


def test_hostile_text_is_text_everywhere(launches):
    cell = Cell(text=NASTY, value=1.5, source="measured", span=NASTY, notes=(NASTY,), origin=NASTY)
    note = Note(term=NASTY, text=NASTY, source="measured")
    column = Heading(key=NASTY, group=NASTY, head=(NASTY,), source="measured", notes=(note,))
    row = Row(cells=(Cell(text=NASTY), cell), section=NASTY, subject=NASTY)
    columns = (Heading(key=NASTY, head=(NASTY,)), column)
    table = Table(name=NASTY, title=NASTY, columns=columns, rows=(row,), legend=(note,), remarks=(NASTY,))
    records = launches(NASTY, flags=(NASTY,))
    where = replace(records[0].environment, device_name=NASTY, platform=NASTY, git_commit=NASTY, started=NASTY)
    records = [replace(record, environment=where) for record in records]
    picture = Picture(name="x", title=NASTY, wide=(SVG, SVG))
    text = page([table, runs(records)], [picture], records, title=NASTY, version=NASTY)
    assert faults(text) == []
    assert len(Reader(text).tags("script")) == len(Reader(text).tags("style")) == 1
    assert not {"\x00", "\u202e"} & set(text)


def test_it_is_small_and_needs_no_torch():
    records = read_records([])
    shown = [report for report in REPORTS.values() if report.paper_table or not report.paper]  # as `report` makes it
    text = page([report.layout(records) for report in shown], (), records)
    assert len(text.encode()) + BUDGET < LIMIT


@pytest.mark.slow
def test_pictures_are_drawn_in_both_dresses_and_missing_ones_left_out(counts):
    from visionbench.reports.render.html import picture

    drawn = pictures(Drawable(records=counts), ("figure1", "effects"))
    assert [one.name for one in drawn] == ["figure1"]
    assert drawn[0].narrow
    assert drawn[0].wide[0] != drawn[0].wide[1]
    assert "Table 1" in drawn[0].description
    text = page((), drawn)
    assert faults(text) == []
    assert len(text) < 5 * 160_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "BUDGET", 300_000)
        assert [one.narrow for one in pictures(Drawable(records=counts), ("figure1",))] == [()]


# --- files, anchors, comparison ---------------------------------------------------------------------------------------


def plain(name, values, spans=()):
    bounds = dict(spans)
    cells = [
        Cell(text=f"{value:g}", value=value, source="measured", origin="o",
             low=bounds.get(value, (None, None))[0], high=bounds.get(value, (None, None))[1],
             level=0.95 if value in bounds else None, span="[ ]" if value in bounds else "")
        for value in values
    ]  # fmt: skip
    rows = tuple(Row(cells=(Cell(text=f"n{at}"), cell)) for at, cell in enumerate(cells))
    columns = (Heading(key="model", head=("model",)), Heading(key="rate", head=("img/s",), source="measured"))
    return Table(name=name, title=name, columns=columns, rows=rows)


@pytest.mark.parametrize("name", ["convnext_table1", "swin_table1", "runs", "verdicts"])
def test_a_table_is_taken_away_as_the_csv_that_report_prints(document, tables, name):
    [address] = [its["href"] for its in Reader(document).tags("a") if its.get("download") == f"{name}.csv"][:1]
    start = "data:text/csv;charset=utf-8,"
    assert address.startswith(start)
    [table, *_] = [table for table in tables if table.name == name]
    assert unquote(address.removeprefix(start)) == render(table, "csv")


def test_a_table_is_found_under_its_name(document, tables):
    ids = [its["id"] for its in Reader(document).tags("section") if its.get("class") == "table"]
    assert ids[:5] == ["convnext_table1", "convnext_table2", "convnext_table3", "convnext_table4", "convnext_table12"]
    assert ids.count("swin_table1") == 1
    assert anchors(["figures", "a", "a", "a b/c", "", "a-2", "tip"]) == [
        "figures-2", "a", "a-2", "a-b-c", "x", "a-2-2", "tip-2"
    ]  # fmt: skip
    assert faults(page([plain("a", [1.0, 2.0]), plain("a-1", [1.0]), plain("a", [3.0])])) == []


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ({10.0: (9.0, 11.0), 20.0: (19.0, 21.0)}, "95 % intervals apart"),
        ({10.0: (9.0, 20.0), 20.0: (19.0, 21.0)}, "95 % intervals overlap: no order shown"),
        ({10.0: (9.0, 11.0)}, "no interval"),
        ({}, "no interval"),
    ],
)
def test_two_rows_stand_beside_each_other_with_what_their_intervals_say(browser, tmp_path, spans, said):
    file = tmp_path / "two.html"
    file.write_text(page([plain("t", [10.0, 20.0, 5.0], spans.items())]), encoding="utf-8")
    browser.look(file, 390, 844)
    browser.run("document.querySelectorAll('select').forEach((one, at) => { one.value = at; })")
    assert browser.run("document.querySelectorAll('.beside').length") == 0
    browser.run("document.querySelector('select').dispatchEvent(new Event('change'))")
    words = browser.run("[...document.querySelectorAll('.beside tbody :is(td, th)')].map((one) => one.textContent)")
    assert (words[0], words[3], words[4]) == ("img/s", "×2.00", said)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.complaints() == []


def test_a_wide_table_fits_a_window_and_shows_all_when_asked(browser, path):
    browser.look(path, 1440, 900)
    wide = "(() => { const s = document.getElementById('convnext_table2'), t = s.querySelector('table'); return "
    assert browser.run(wide + "t.scrollWidth <= t.parentElement.clientWidth || s.matches('.fits') })()")
    more = "document.querySelector('#convnext_table2 .tools button')"
    assert "left out" in browser.run(f"{more}.textContent")
    count = "[...document.querySelectorAll('#convnext_table2 thead [data-col]')].filter((one) => one.hidden).length"
    assert browser.run(count) > 0
    browser.run(f"{more}.click()")
    assert browser.run(count) == 0
    assert browser.run(f"{more}.hidden")
    spanned = "[...document.querySelectorAll('#convnext_table2 .group')].reduce((sum, one) => sum + one.colSpan, 0)"
    grouped = "document.querySelectorAll('#convnext_table2 thead tr:last-child [data-col]').length"
    assert browser.run(spanned) == browser.run(grouped)


# --- colours ----------------------------------------------------------------------------------------------------------


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_all_text_can_be_read():
    css = (FOLDER / "page.css").read_text(encoding="utf-8")
    dresses = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in css.split(":root")[1:3]]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for dress in dresses:
        for ground in ("ground", "raised", "mark"):
            for ink in ("ink", "muted", "link", "exact", "measured", "predicted", "fail"):
                assert contrast(dress[ink], dress[ground]) >= 4.5, (ink, ground)
        assert contrast(dress["focus"], dress["ground"]) >= 3


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.skip("no Chromium here: how the page behaves in a browser is not tested")
    made = Browser(tmp_path_factory.mktemp("profile"))
    with contextlib.closing(made):
        yield made


@pytest.fixture(scope="module")
def path(document, tmp_path_factory):
    made = tmp_path_factory.mktemp("page") / "page.html"
    made.write_text(document, encoding="utf-8")
    return made


@pytest.mark.parametrize("dark", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844), pytest.param(320, 640, marks=pytest.mark.slow)])
def test_nothing_but_tables_is_wider_than_the_window(browser, path, width, height, dark):
    browser.look(path, width, height, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") <= width
    shown = "[...document.images].filter((one) => one.getClientRects().length).map((one) => one.className)"
    sizes = ("narrow", "only") if width < 600 else ("wide", "only")
    assert browser.run(shown) == [f"{'dark' if dark else 'light'} {size}" for size in sizes]
    assert browser.run("[...document.images].every((one) => one.naturalWidth > 0)")
    assert browser.complaints() == []
    assert browser.fetched() == []


COLUMN = """
(() => {
  const table = document.querySelector("table");
  const heads = [...table.querySelectorAll("thead [data-col]")];
  const head = heads.find((one) => one.dataset.name === NAME);
  for (let clicks = 0; clicks < CLICKS; clicks++) head.querySelector("button").click();
  const rows = [...table.tBodies[0].rows].filter((row) => row.dataset.find);
  const cells = rows.map((row) => row.cells[head.dataset.col]);
  return [head.getAttribute("aria-sort"), cells.map((one) => one.dataset.v ? Number(one.dataset.v) : one.textContent)];
})()
"""


def clicked(browser, name, clicks):
    sorting, values = browser.run(COLUMN.replace("NAME", repr(name)).replace("CLICKS", str(clicks)))
    return sorting, [one for one in values if isinstance(one, (int, float))], values


def test_a_column_is_sorted_as_numbers_and_a_third_click_brings_back_the_order(browser, path):
    browser.look(path, 1440, 900)
    _, _, first = clicked(browser, "FLOPs (G), exact", 0)
    sorting, numbers, _ = clicked(browser, "FLOPs (G), exact", 1)
    assert sorting == "ascending"
    assert numbers == sorted(numbers)
    assert len(numbers) > 10
    sorting, numbers, values = clicked(browser, "img/s, paper, A100", 1)
    assert (sorting, numbers) == ("descending", sorted(numbers, reverse=True))
    assert values[len(numbers) :] == [DASH] * (len(values) - len(numbers)) != []
    assert browser.run("document.querySelector('table').querySelectorAll('[aria-sort]').length") == 1
    sorting, numbers, values = clicked(browser, "img/s, paper, A100", 1)
    assert (sorting, numbers) == ("ascending", sorted(numbers))
    assert values[-1] == DASH
    assert clicked(browser, "img/s, paper, A100", 1)[0] is None
    assert clicked(browser, "FLOPs (G), exact", 0)[2] == first


def test_rows_are_filtered_and_groups_of_columns_hidden(browser, path):
    browser.look(path, 1440, 900)
    browser.run("document.querySelector('input[type=search]').value = 'CONVNEXT-b 384'")
    browser.run("document.querySelector('input[type=search]').dispatchEvent(new Event('input'))")
    shown = "[...document.querySelector('table').tBodies].flatMap((b) => [...b.rows]).filter((r) => r.offsetHeight)"
    assert browser.run(f"{shown}.filter((r) => r.dataset.find).map((r) => r.cells[0].textContent)") == [
        "● ConvNeXt-B",
        "● ConvNeXt-B",
    ]
    assert browser.run("document.querySelector('output').value") == "2 of 35 rows"
    before = browser.run("document.querySelector('table').offsetWidth")
    browser.run("document.querySelector('input[type=checkbox]').click()")
    seen = f"[...({shown}).at(-1).cells].filter((c) => c.offsetWidth).length"
    heads = (
        "[...document.querySelector('table').tHead.querySelectorAll('[data-col]')].filter((c) => c.offsetWidth).length"
    )
    assert browser.run(seen) == browser.run(heads) == browser.run(f"({shown}).at(-1).cells.length") - 2
    assert browser.run("document.querySelector('table').offsetWidth") <= before
    assert browser.complaints() == []


def test_a_cell_answers_the_keyboard_and_a_row_shows_its_command(browser, path):
    browser.look(path, 1440, 900)
    browser.run("document.querySelector('tbody td[tabindex=\"0\"]').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key=key)
    browser.run("new Promise((done) => setTimeout(done, 200))")
    assert browser.run("document.activeElement.getAttribute('aria-describedby')") == "tip"
    told = browser.run("document.getElementById('tip').innerText")
    assert told.startswith("● EffNet-B7: params (M), exact\n")
    assert "Exactly 66,347,960." in told
    assert browser.run("document.getElementById('tip').offsetHeight") > 20
    browser.ask("Input.dispatchKeyEvent", type="keyDown", key="Escape")
    assert browser.run("document.getElementById('tip').hidden") is True
    browser.run("document.querySelector('tbody th[scope=row] a').click()")
    assert "python bench.py run timm:regnety_160" in browser.run("document.querySelector('.open .cmd').textContent")
    browser.run("document.querySelector('.open .copy').click()")
    browser.run("document.querySelector('tbody th[scope=row] a').click()")
    assert browser.run("document.querySelectorAll('.open').length") == 0
    assert browser.complaints() == []


def test_the_policy_holds_in_a_browser(browser, path):
    """What would fetch, and what an escaped text could have been, are stopped; the tests above would see them."""
    browser.look(path, 1440, 900)
    caught = (
        "new Promise((done) => { addEventListener('securitypolicyviolation', (e) => done(e.effectiveDirective)); %s })"
    )
    assert browser.run(caught % "new Image().src = 'https://visionbench.invalid/x.png'") == "img-src"
    assert browser.run(caught % "fetch('https://visionbench.invalid/').catch(() => 0)") == "connect-src"
    inject = "document.body.insertAdjacentHTML('beforeend', '<i id=z onclick=\"window.stolen = 1\"></i>'); z.click()"
    assert browser.run(caught % inject) == "script-src-attr"
    assert browser.run("window.stolen") is None
    assert browser.complaints() != []


def test_importing_it_loads_neither_torch_nor_matplotlib():
    import subprocess

    code = "import sys, reports.render.html; print({'torch', 'matplotlib'} & set(sys.modules) or 'light')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "light"
