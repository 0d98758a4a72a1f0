"""Slides, chosen panels, a user's own points, and history over commits."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from visionbench.command.main import main
from visionbench.command.verbs import figures
from visionbench.record.record import Record, to_json
from visionbench.reports import load_paper
from visionbench.reports.figures import Evidence, MissingError, draw, history, throughput_accuracy
from visionbench.reports.figures.figure import Choice, Need
from visionbench.reports.figures.panels import of_files
from visionbench.reports.printed import Number, PaperRow

T, SWIN = "paper:convnext_original_tiny", "timm:swin_tiny_patch4_window7_224"


def at(
    records: list[Record], commit: str, day: int, *, dirty: bool = False, network: str | None = None
) -> list[Record]:
    """The same launches of another commit."""
    where = replace(
        records[0].environment, git_commit=commit * 10, git_dirty=dirty, started=f"2026-01-{day:02}T00:00:00Z"
    )
    return [replace(record, environment=where, network=network) for record in records]


def own(label: str, model: str, top1: str) -> PaperRow:
    number = Number(text=top1, unit="%", gpu="", protocol="", source="mine", note="", remark="")
    return PaperRow(
        table="mine", number=1, section="", marker="", label=label, model=model, image_size=224, check_sizes=(),
        printed={"top1": number}, own=True,
    )  # fmt: skip


# --- slides and panels ------------------------------------------------------------------------------------------------


def test_a_slide_is_16_to_9_with_300_dots_per_inch_and_without_notes(launches) -> None:
    evidence = Evidence(records=launches(T, rate=50.0), choice=Choice(panels=("V100, as", "A100, as")))
    png = draw("throughput_accuracy", evidence, file_format="png", slide=True)
    assert struct.unpack(">II", png[16:24]) == (4000, 2250)
    physical = png.index(b"pHYs") + 4
    assert struct.unpack(">I", png[physical : physical + 4])[0] == pytest.approx(300 / 0.0254, abs=1)
    svg = draw("throughput_accuracy", evidence, slide=True).decode()
    assert 'width="960.00pt" height="540.00pt"' in svg
    assert "<desc></desc>" in svg
    assert "Accuracy: as published" in draw("throughput_accuracy", evidence).decode()


@pytest.mark.parametrize(
    ("words", "names"), [(("v100, AS",), ["V100, as published"]), (("a100", "V100"), ["A100", "V100"])]
)
def test_panels_are_chosen_by_parts_of_their_names_in_the_order_asked_for(words, names) -> None:
    from visionbench.reports.figures import panels
    from visionbench.reports.figures.style import Look

    named = {panel.name: panel.name for panel in throughput_accuracy.data(Evidence())}
    chosen = panels.chosen("f", named, words, Look())
    assert [name[: len(begin)] for name, begin in zip(chosen, names, strict=True)] == names


@pytest.mark.parametrize(
    ("words", "slide", "remedy"),
    [(("K80",), False, "'V100, as published'"), ((), True, "a slide holds 2"), (("0",), True, "a slide holds 2")],
)
def test_a_panel_that_there_is_not_and_too_many_for_a_slide_are_one_sentence(launches, words, slide, remedy) -> None:
    records = launches(T, rate=50.0)
    with pytest.raises(MissingError, match=re.escape(remedy)):
        draw("throughput_accuracy", Evidence(records=records, choice=Choice(panels=words)), slide=slide)


# --- one's own points -------------------------------------------------------------------------------------------------


def test_a_users_own_network_is_a_point_wherever_it_was_measured(launches) -> None:
    records = [*launches(T, rate=50.0), *launches("user:my.nets:make", rate=70.0)]
    plain = throughput_accuracy.data(Evidence(records=records))[-1]
    assert [point.label for point in plain.points] == ["T"]
    mine = own("MyNet-T", "user:my.nets:make", "82.6")
    panel = throughput_accuracy.data(Evidence(records=records, rows=(mine,)))[-1]
    assert [(point.label, point.top1, point.row.own) for point in panel.front] == [("MyNet-T", 82.6, True)]
    here = Choice(panels=("measured",))
    assert "user:my.nets:make" in draw("throughput_accuracy", Evidence(records=records, choice=here)).decode()
    with_mine = Evidence(records=records, choice=here, rows=(mine,))
    assert "user:my.nets:make" not in draw("throughput_accuracy", with_mine).decode()


TABLE = """\
title = "Mine beside others"
cite = "arXiv 2103.14030"
[[table]]
name = "mine"
title = "Mine beside others"
gpu = "V100"
[[table.row]]
model = "swin_tiny_patch4_window7_224"
label = "Swin-T"
"img/s" = 755.2
top1 = 81.3
[[table.row]]
model = "user:no_such_module:make"
label = "MyNet-T"
"img/s" = 900
top1 = 82.6
own = true
"""


def test_a_users_table_with_rows_of_others_is_drawn_alone_and_imports_nothing(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(TABLE)
    assert main(["figures", "figure1", "throughput_accuracy", "--rows", "mine.toml"]) == 0
    assert "not counted now: user:no_such_module:make" in capsys.readouterr().err
    flops, rates = Path("figure1.svg").read_text(), Path("throughput_accuracy.svg").read_text()
    assert "Mine beside others" in flops
    assert "Not shown, because not counted: MyNet-T." in flops
    assert "V100, as printed" in rates
    assert "disc" not in flops  # a mark hides that of a small network
    for drawn in (flops, rates):
        assert "Accuracy: as printed (arXiv 2103.14030)" in drawn
        assert "Emphasised" not in drawn  # the sentence before says it
        assert "ConvNeXt" not in drawn
    assert ">predicted" not in rates  # a panel without one's own point


def test_only_the_rows_that_are_set_apart_are_emphasised() -> None:
    rate = Number(text="900", unit="img/s", gpu="V100", protocol="", source="mine", note="", remark="")
    rows = [own("Swin-T", SWIN, "81.3"), own("MyNet-T", "user:my.nets:make", "82.6")]
    rows = [replace(row, printed={**row.printed, "throughput": rate}, own=row.label != "Swin-T") for row in rows]
    [panel] = throughput_accuracy.data(Evidence(rows=tuple(rows), alone=True))
    assert [(point.label, point.row.own) for point in panel.points] == [("T", False), ("MyNet-T", True)]


def test_a_file_without_accuracy_has_no_place_in_a_figure(tmp_path, capsys) -> None:
    (tmp_path / "mine.toml").write_text(TABLE.replace("top1", "params"))
    assert main(["figures", "figure1", "--rows", str(tmp_path / "mine.toml")]) == 2
    assert "no row has a top1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"), [(10.5, "10.5"), (1000.0, "1,000"), (0.5, "0.5"), (12.25, "12.25"), (9, "9")]
)
def test_a_tick_is_called_what_it_is(value, text) -> None:
    from visionbench.reports.figures import panels

    assert panels.number(value) == text


# --- history ----------------------------------------------------------------------------------------------------------


def test_history_has_a_point_per_commit_with_its_interval_oldest_first(launches) -> None:
    new, old = at(launches(T, rate=80.0), "b", 9), at(launches(T, rate=100.0), "a", 2)
    few = at(launches(T, rate=90.0, number=3), "e", 5)
    once = at(launches(SWIN), "b", 9)
    [track] = history.data(Evidence(records=[*new, *once, *old, *few]))
    assert [point.label for point in track.points] == ["aaaaaaa", "eeeeeee", "bbbbbbb"]
    assert [round(point.rate.centre) for point in track.points] == [100, 90, 80]
    assert [point.rate.low is None for point in track.points] == [False, True, False]
    with pytest.raises(MissingError, match="two commits"):  # one of the two has no interval
        history.data(Evidence(records=[*new, *few]))
    assert draw("history", Evidence(records=[*new, *old])).startswith(b"<svg")


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        ({"commit": "a"}, {"commit": "a", "dirty": True}, ["aaaaaaa", "aaaaaaa+"]),
        ({"commit": "a", "network": "1" * 12}, {"commit": "a", "network": "2" * 12}, ["1111111", "2222222"]),
        ({"commit": "a"}, {"commit": "c"}, ["aaaaaaa", "ccccccc"]),
    ],
)
def test_what_is_another_state_of_the_code_is_another_point(launches, first, second, labels) -> None:
    records = [*at(launches("user:my.nets:make"), day=1, **first), *at(launches("user:my.nets:make"), day=2, **second)]
    [track] = history.data(Evidence(records=records))
    assert [point.label for point in track.points] == labels


@pytest.mark.parametrize("other", [{"precision": "amp_bf16"}, {"batch_size": 8}, {"image_size": 96}])
def test_rows_of_other_settings_are_no_history(launches, other) -> None:
    records = [*at(launches(T), "a", 1), *at(launches(T, **other), "b", 2)]
    with pytest.raises(MissingError, match="two commits"):
        history.data(Evidence(records=records))


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_figure_that_is_taller_than_a_page_says_so(tmp_path: Path, monkeypatch, capsys, launches) -> None:
    monkeypatch.chdir(tmp_path)
    Path("visionbench.jsonl").write_text("".join(to_json(record) + "\n" for record in launches(T)), encoding="utf-8")
    assert main(["figures", "throughput_accuracy", "--width", "column"]) == 0
    assert "a page's text about 230: choose panels with --panels" in capsys.readouterr().err
    for form in ("pdf", "png"):
        assert (
            main(["figures", "throughput_accuracy", "--width", "column", "--format", form, "--panels", "published"])
            == 0
        )
        assert "--panels" not in capsys.readouterr().err


def test_an_own_row_comes_from_a_tables_file(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    row = '[[table.row]]\nlabel = "MyNet"\nmodel = "timm:swin_tiny_patch4_window7_224"\nsize = 224\ntop1 = 85.0\n'
    Path("mine.toml").write_text(f'title = "Mine"\ncite = "me"\n[[table]]\nname = "mine_t"\ntitle = "T"\n{row}')
    assert main(["figures", "figure1", "--rows", "mine.toml", "--panels", "1K", "--width", "slide"]) == 0
    assert capsys.readouterr().out == "figure1.svg\n"
    assert Path("figure1.svg").read_text().startswith("<svg")
    assert main(["figures", "figure1", "--rows", "none.toml"]) == 2
    assert "none.toml" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", [False, True])
def test_a_file_of_rows_decides_not_what_is_imported(tmp_path: Path, monkeypatch, capsys, wanted) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "_traced", lambda _name, needs: counted.extend(needs) or [])
    counted: list[Need] = []
    models = ("user:nets_of_rows:make", "timm:resnet18")
    rows = [f'[[table.row]]\nlabel = "{one}"\nmodel = "{one}"\nsize = 224\ntop1 = 85.0\n' for one in models]
    Path("mine.toml").write_text(f'title = "Mine"\ncite = "me"\n[[table]]\nname = "t"\ntitle = "T"\n{"".join(rows)}')
    assert main(["figures", "figure1", "--rows", "mine.toml", *["--user-models"] * wanted]) == 0
    assert {need.spec.model for need in counted} - {"timm:resnet18"} == ({models[0]} if wanted else set())
    said = capsys.readouterr().err
    assert ("not counted now: user:nets_of_rows:make" in said) is not wanted
    assert "a disc's area is in proportion" in Path("figure1.svg").read_text()


def test_a_figure_speaks_of_the_panels_that_it_shows(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = '[[table.row]]\nlabel = "MyNet"\nmodel = "timm:swin_tiny_patch4_window7_224"\nsize = 224\ntop1 = 85.0\n'
    Path("mine.toml").write_text(f'title = "Mine"\ncite = "me"\n[[table]]\nname = "t"\ntitle = "T"\n{row}')
    for panel, is_said in (("22K", False), ("1K", True)):
        assert main(["figures", "figure1", "--rows", "mine.toml", "--panels", panel]) == 0
        assert ("states it: MyNet (me)." in Path("figure1.svg").read_text()) is is_said


def test_whose_accuracy_an_own_point_has_is_said(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    row = '[[table.row]]\nlabel = "MyNet"\nmodel = "timm:resnet18"\nsize = 224\ntop1 = 85.0\n'
    path.write_text(f'title = "Mine"\ncite = "my thesis"\n[[table]]\nname = "t"\ntitle = "T"\n{row}')
    [report] = load_paper(path).values()
    own = replace(report.rows[0], own=True)
    assert of_files([own]) == "Emphasised: accuracy as their own table states it: MyNet (my thesis)."
    assert of_files([replace(own, own=False)]) == ""
