"""A doubtful number is marked in every figure, as in tables: a hollow mark or a `?` behind it, and the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.reports.test_reports_figures import COMPARISONS, _kinds, _together
from visionbench.record.flags import meaning
from visionbench.record.record import Record
from visionbench.reports.figures import FIGURES, Evidence, canvas
from visionbench.reports.figures.style import Look
from visionbench.reports.paper.counts import count_spec

FLAGS = ("scattered", "noisy_env", "busy_machine", "cores_shared", "a_flag_of_tomorrow")
RESNET = "timm:resnet50"


def _flagged(record: Record, *flags: str) -> Record:
    return replace(record, measurements=tuple(replace(one, flags=flags) for one in record.measurements))


def _paint(name: str, evidence: Evidence) -> Figure:
    look = Look()
    with canvas.styled(look):
        return FIGURES[name].paint(evidence, look)


def _hollow(figure: Figure) -> int:
    ground = to_rgba(Look().theme.ground)
    marks = [line for axes in figure.axes for line in axes.lines if line.get_marker() not in ("None", None, "", "D")]
    return sum(len(line.get_xdata()) for line in marks if to_rgba(line.get_markerfacecolor()) == ground)


def _words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)).replace("\n", " ")


def _throughput(launches, flag: str | None) -> Evidence:
    rows = [launches(f"timm:{name}", rate=9.0) for name in ("swin_tiny_patch4_window7_224", "deit_small_patch16_224")]
    return Evidence(records=(*_with(rows[0], flag), *rows[1]))


def _with(launches: list[Record], flag: str | None) -> list[Record]:
    """A flag on one launch of several is enough."""
    return [_flagged(launches[0], flag), *launches[1:]] if flag else launches


def _history(launches, flag: str | None) -> Evidence:
    made = launches(RESNET, rate=9.0)
    states = [[replace(one, environment=replace(one.environment, git_commit=c * 40)) for one in made] for c in "ab"]
    return Evidence(records=(*_with(states[0], flag), *states[1]))


def _scaling(_launches, flag: str | None) -> Evidence:
    made = [_together(RESNET, number) for number in (2, 4)]
    return Evidence(records=(*_with(made[:1], flag), *made[1:]))


def _roofline(launches, flag: str | None) -> Evidence:
    return Evidence(records=(_kinds(), *_with(launches("timm:convnext_tiny", rate=2000.0, precision="tf32"), flag)))


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(
    ("name", "made", "marks"),
    [("throughput_accuracy", _throughput, 1), ("history", _history, 1), ("scaling", _scaling, 2),
     ("roofline", _roofline, 1)],
)  # fmt: skip
def test_a_flagged_throughput_is_hollow_and_the_figure_says_why(launches, name, made, marks, flag) -> None:
    sure, doubtful = (_paint(name, made(launches, one)) for one in (None, flag))
    assert _hollow(doubtful) == _hollow(sure) + marks
    assert meaning(flag) in _words(doubtful)
    assert meaning(flag) not in _words(sure)


@pytest.mark.parametrize("flag", ["scattered", "clocks_differ", "a_flag_of_tomorrow"])
def test_a_ratio_with_a_flag_has_a_mark_behind_it(flag: str) -> None:
    one = COMPARISONS[0]
    marked = replace(one, launches=tuple(replace(launch, flags=(flag,)) for launch in one.launches))
    sure, doubtful = (_words(_paint("effects", Evidence(comparisons=(row,)))) for row in (one, marked))
    assert "] ?" in doubtful
    assert f"?: doubtful, as {meaning(flag)}." in doubtful
    assert "?" not in sure


@pytest.mark.slow
def test_a_count_that_leaves_operators_out_is_hollow_and_has_a_footnote(counts: list[Record]) -> None:
    [whole] = [record for record in counts if record.spec == count_spec("timm:regnety_160", 224)]
    others = [record for record in counts if record is not whole]
    left_out = replace(
        whole,
        measurements=tuple(
            replace(one, flags=("products_missed",)) if one.metric == "macs" else one for one in whole.measurements
        ),
    )
    sure, doubtful = (_paint("figure1", Evidence(records=(*others, one))) for one in (whole, left_out))
    assert (_hollow(sure), _hollow(doubtful)) == (0, 1)
    assert meaning("products_missed") in _words(doubtful)
