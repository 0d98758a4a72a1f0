"""Figures show what is recorded and printed, nothing in them lies on anything, and a file holds the picture alone."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from visionbench.comparison.comparison import Comparison, Launch, Round, Side
from visionbench.record import store
from visionbench.record.devices import find
from visionbench.record.errors import BenchError
from visionbench.record.metrics import measurement
from visionbench.record.record import Environment, Failure, Measurement, Record
from visionbench.record.spec import STEADY, Spec
from visionbench.record.statistics import throughput
from visionbench.reports.figures import (
    FIGURES,
    THEMES,
    WIDTHS,
    Choice,
    Evidence,
    MissingError,
    accuracy_flops,
    canvas,
    draw,
    effects,
    memory_curve,
    roadmap,
    roofline,
    throughput_accuracy,
)
from visionbench.reports.figures.style import Look
from visionbench.reports.paper.counts import count_spec
from visionbench.reports.printed import rows
from visionbench.reports.records import __file__ as committed

GPU = Environment(
    device_type="cuda", device_key="a100-sxm4-80gb", device_name="NVIDIA A100-SXM4-80GB", torch="2.15.0", started="2026"
)
META = Environment(device_type="meta")
MODEL = "timm:convnext_tiny"


def _exact(metric: str, *values: float, unit: str = "count") -> Measurement:
    return Measurement(metric=metric, unit=unit, better="none", assume="exact", values=values)


def _computed(spec: Spec, *measurements: Measurement) -> Record:
    return Record(spec=spec, protocol=None, environment=META, measurements=measurements, source="computed")


def _step() -> Record:
    """A training step by hand: 4 GiB at its peak, in the backward pass."""
    gib = 2.0**30
    parts = {"parameters": 0.5, "optimizer": 1.0, "gradients": 0.25, "activations": 2.0, "temporaries": 0.25}
    return _computed(
        Spec(model=MODEL, task="train", batch_size=32),
        _exact("peak_memory_live", 4 * gib, unit="B"),
        *(_exact(f"peak_memory_live.{name}", part * gib, unit="B") for name, part in parts.items()),
        _exact("live_memory.forward", *(gib * (1.5 + k / 30) for k in range(60)), unit="B"),
        _exact("live_memory.backward", 4 * gib, *(gib * (3.9 - k / 30) for k in range(60)), unit="B"),
        _exact("live_memory.optimizer", *(gib * 2 for _ in range(20)), unit="B"),
    )


def _kinds() -> Record:
    """A forward pass by hand: a matmul right of the ridge of an A100 in TF32, a depthwise convolution left of it."""
    macs = {"matmul": 4e9, "conv": 2e8, "depthwise_conv": 1e8}
    moved = {"matmul": 2e9, "conv": 1e8, "depthwise_conv": 1.2e9, "norm": 1.3e9, "elementwise": 4e9, "reduction": 1e5}
    return _computed(
        Spec(model=MODEL, batch_size=64),
        _exact("macs", sum(macs.values())),
        _exact("bytes", sum(moved.values()), unit="B"),
        *(_exact(f"macs.{kind}", count) for kind, count in macs.items()),
        *(_exact(f"bytes.{kind}", count, unit="B") for kind, count in moved.items()),
    )


def _compared(model: str, ratio: float, *, launches: int = 10, scatter: float = 0.004, **rest: object) -> Comparison:
    """Channels-last at `ratio` times the time, or what `rest` sets of the candidate's spec."""
    failure, failed = rest.pop("failure", None), rest.pop("failed", None)
    base = Spec(model=model, batch_size=64)
    candidate = replace(base, **(rest or {"memory_format": "channels_last"}))  # type: ignore[arg-type]
    offs = [math.exp(scatter * (4 * k / max(launches - 1, 1) - 2)) for k in range(launches)]
    turns = [ratio * off * 0.01 for off in offs]
    made = tuple(
        Launch(rounds=(Round(first="baseline", baseline=0.01, candidate=t, baseline_wall=0.01, candidate_wall=t),))
        for t in turns
    )
    return Comparison(
        name=f"{model} {candidate}",
        baseline=Side(label="plain", spec=base),
        candidate=Side(label="switched", spec=candidate),
        environment=GPU,
        timer="device",
        seed=1,
        launches=() if failure else made,
        failure=failure,  # type: ignore[arg-type]
        failed=failed,  # type: ignore[arg-type]
    )


OOM = Failure(kind="out_of_memory", stage="warm-up", message="made up")
COMPARISONS = (
    _compared(MODEL, 0.7),
    _compared("timm:swin_tiny_patch4_window7_224", 1.0, scatter=0.001),
    _compared("timm:deit_small_patch16_224", 1.02, scatter=0.05),
    _compared("timm:resnet50", 0.95, launches=3),
    _compared("user:research.experimental.backbones.vision:make_hierarchical_backbone", 1.6, precision="amp_bf16"),
    _compared("timm:resnetv2_152x4_bit", 1.0, failure=OOM, failed="baseline", precision="amp_bf16"),
    _compared("timm:convnext_base", 1.0, failure=OOM, failed="candidate", compile_mode="default"),
)


@pytest.fixture(scope="session")
def evidence(counts: list[Record]) -> Evidence:
    """The committed records, the counts of the fixture below them, and one made-up trace of each kind for theirs."""
    made_up = (_step(), _kinds())
    there = [record for path in sorted(Path(committed).parent.glob("*.jsonl")) for record in store.read(path).records]
    ours = [record for record in there if record.spec not in {one.spec for one in made_up}]
    known = {row.network for table in ("10", "11") for row in rows(table)}
    steps = [_computed(count_spec(*network), _exact("macs", 4.5e9)) for network in known]
    together = [_together(model, number) for model in (MODEL, "timm:resnet50") for number in (2, 4, 8)]
    records = (*steps, *counts, *ours, *_commits(ours), *together, *made_up)
    return Evidence(records=records, comparisons=COMPARISONS)


def _commits(ours: list[Record]) -> list[Record]:
    """What was measured with intervals, once more at another commit."""
    timed = [one for one in ours if one.source == "measured" and one.environment.device_type == "cpu"]
    where = {one.environment: replace(one.environment, git_commit="5" * 40) for one in timed}
    return [replace(one, environment=where[one.environment]) for one in timed]


def _together(model: str, processes: int) -> Record:
    """A launch of several processes that lose a tenth for each."""
    blocks = {"alone_time": 1.0, "unsynchronised_time": 1.0 + processes / 20, "throughput": 1.0 + processes / 10}
    return Record(
        spec=Spec(model=model, task="train", batch_size=64, processes=processes, parallel="ddp"),
        protocol=STEADY,
        environment=GPU,
        measurements=tuple(measurement(name, (seconds,)) for name, seconds in blocks.items()),
        source="measured",
    )


# --- what is shown ----------------------------------------------------------------------------------------------------


def _macs(evidence: Evidence, model: str, image_size: int) -> float:
    found = [one for one in evidence.records if one.spec == count_spec(model, image_size) and one.value("macs")]
    return found[-1].value("macs") or 0.0


def test_figure1_has_every_printed_network_at_its_printed_accuracy_and_its_exact_flops(evidence: Evidence) -> None:
    bubbles = accuracy_flops.data(evidence).bubbles
    assert [bubble.row for bubble in bubbles[2:]] == list(rows("1"))
    for bubble in bubbles:
        assert bubble.top1 == float(bubble.row.printed["top1"].text)
        assert bubble.macs == _macs(evidence, *bubble.row.network)
        assert bubble.family.name != "other"
    assert {bubble.panel for bubble in bubbles} == set(accuracy_flops.SECTIONS.values())
    assert accuracy_flops.radius(4e9) == pytest.approx(2 * accuracy_flops.radius(1e9))


def test_what_is_not_counted_is_told_and_not_drawn(evidence: Evidence) -> None:
    without = [one for one in evidence.records if one.spec.model != "timm:regnety_160"]
    shown = accuracy_flops.data(replace(evidence, records=without))
    assert shown.uncounted == ("RegNetY-16G",)
    assert len(shown.bubbles) == len(accuracy_flops.data(evidence).bubbles) - 1
    [need] = accuracy_flops.needs(replace(evidence, records=without))
    assert need.spec == count_spec("timm:regnety_160", 224)


def test_figure2_has_both_regimes_step_by_step(evidence: Evidence) -> None:
    shown = roadmap.data(evidence)
    assert len(shown) == len(rows("10")) == len(rows("11"))
    for place, rung in enumerate(shown):
        for bar, table in zip(rung.bars, ("10", "11"), strict=True):
            row = rows(table)[place]
            assert bar.row == row
            assert bar.top1 == float(row.printed["top1"].text)
            assert bar.macs == _macs(evidence, *row.network)
            assert (bar.std is None) == ("top1_std" not in row.printed)
    words = [(rung.words.split()[-1].lower(), rung.bars[0].row.label.lower()) for rung in shown]
    assert all(word.rstrip(",") in label or word in ("recipe", "ln", "gelu", "stem") for word, label in words), words
    assert [rung.words for rung in shown if not rung.kept] == ["kernel size 9", "kernel size 11"]


def test_throughput_is_the_printed_or_the_measured_one_and_no_panel_mixes_them(evidence: Evidence) -> None:
    v100, a100, *others = throughput_accuracy.data(evidence)
    for panel in (v100, a100):
        assert panel.source == "published"
        assert all(point.rate == float(point.row.printed["throughput"].text) for point in panel.points)
        assert all(point.low is None for point in panel.points)
    assert {point.row.table for point in a100.points} == {"12"}
    measured = [panel for panel in others if panel.source == "measured"]
    assert measured
    for panel in measured:
        for point in panel.points:
            launches = [
                record
                for record in evidence.records
                if record.source == "measured"
                and (record.spec.model, record.spec.image_size, record.spec.task) == (*point.row.network, "inference")
                and (record.environment.device_type == "cuda") == ("H100" in panel.name)
            ]
            estimate = throughput(launches)
            assert estimate is not None
            assert (point.rate, point.low, point.high) == (estimate.centre, estimate.low, estimate.high)
            assert point.top1 == float(point.row.printed["top1"].text)


def test_predictions_have_panels_of_their_own_with_their_intervals(evidence: Evidence) -> None:
    shown = throughput_accuracy.data(evidence)
    assert [panel.source for panel in shown[:4]] == ["published", "published", "predicted", "predicted"]
    for panel in shown[2:4]:
        assert panel.name in ("v100-sxm2-16gb: predicted", "a100-sxm4-40gb: predicted")
        assert "not measured" in panel.note
        assert all(point.low < point.rate < point.high for point in panel.points if point.low and point.high)
        assert {"DeiT-S", "V2-L@480"} <= {point.label for point in panel.points}
    assert all(panel.source == "measured" for panel in shown[4:])


def test_the_front_is_what_nothing_beats_in_both(evidence: Evidence) -> None:
    for panel in throughput_accuracy.data(evidence):
        comparable = [point for point in panel.points if point.comparable]
        beaten = [a for a in comparable if any(b.rate > a.rate and b.top1 > a.top1 for b in comparable)]
        assert not set(map(id, panel.front)) & set(map(id, beaten))
        assert len(panel.front) + len(beaten) >= len(comparable) - 1  # one tie in accuracy: ViT-L and its ConvNeXt
    [v100] = [panel for panel in throughput_accuracy.data(evidence) if "V100" in panel.name]
    assert [point.label for point in v100.points if not point.comparable] == ["Y-16G", "B7@600"]


def test_the_memory_curve_is_the_records(evidence: Evidence) -> None:
    shown = memory_curve.data(evidence)
    record = evidence.records[-2]
    assert [phase for phase, _ in shown.phases] == ["forward", "backward", "optimizer"]
    for phase, values in shown.phases:
        measurement = record.get(f"live_memory.{phase}")
        assert measurement is not None
        assert values == measurement.values
    assert max(shown.totals) == shown.peak == sum(value for _, value in shown.parts)
    assert shown.standing == 1.5 * 2**30


def test_the_roofline_is_the_data_sheets(evidence: Evidence) -> None:
    shown = roofline.data(evidence)
    sheet = find("a100-sxm4-80gb")
    assert sheet is not None
    assert (shown.precision, shown.peak, shown.device) == ("tf32", sheet.tf32, sheet)
    kinds = {kind.name: kind for kind in shown.kinds}
    assert kinds["matmul"].attainable == sheet.tf32
    depthwise = kinds["depthwise_conv"]
    assert depthwise.intensity == pytest.approx(2 * 1e8 * 64 / 1.2e9)
    assert depthwise.attainable == pytest.approx(sheet.bandwidth * depthwise.intensity)
    assert kinds["norm"].attainable is None
    assert sum(kind.share for kind in shown.kinds) == pytest.approx(1)
    assert not shown.measured


def test_the_roofline_shows_a_measurement_of_that_device_and_precision_only(evidence: Evidence, launches) -> None:
    there = launches(MODEL, rate=2000.0, precision="tf32")
    elsewhere = launches(MODEL, rate=9.0, precision="fp32")
    [one] = roofline.data(replace(evidence, records=(*evidence.records, *there, *elsewhere))).measured
    estimate = throughput(there)
    assert estimate is not None
    assert estimate.low is not None
    macs = _kinds().value("macs")
    assert macs is not None
    assert (one.flops, one.low) == (2 * macs * estimate.centre, 2 * macs * estimate.low)


def test_a_device_without_the_precision_is_a_sentence(evidence: Evidence) -> None:
    v100 = Choice(device="v100-sxm2-16gb", precision="tf32")
    with pytest.raises(BenchError, match="has no tf32"):
        roofline.data(replace(evidence, choice=v100))
    assert roofline.precision(Choice(device="v100-sxm2-16gb")) == "fp32"


def test_effects_are_the_comparisons(evidence: Evidence) -> None:
    shown = effects.data(evidence).effects
    assert len(shown) == len(COMPARISONS)
    found = {effect.model: effect for effect in shown}
    assert found["convnext_tiny"].speedup is not None
    assert found["convnext_tiny"].speedup.centre == pytest.approx(1 / 0.7, rel=1e-6)
    told = {name: effect.finding for name, effect in found.items() if effect.speedup}
    assert told["convnext_tiny"] == "faster"
    assert told["swin_tiny_patch4_window7_224"] == "tie"
    assert told["deit_small_patch16_224"] == "cannot tell"
    assert found["resnetv2_152x4_bit"].cause == "out of memory without it"
    assert found["convnext_base"].cause == "out of memory"
    assert max(len(effect.model) for effect in shown) == effects.LONGEST


def test_a_comparison_of_revisions_is_no_effect(evidence: Evidence) -> None:
    one = COMPARISONS[0]
    revisions = replace(one, candidate=replace(one.baseline, commit="1" * 40))
    with pytest.raises(MissingError):
        effects.data(replace(evidence, comparisons=(revisions,)))


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "throughput_accuracy"])
def test_without_evidence_there_is_a_sentence_and_no_picture(name: str) -> None:
    with pytest.raises(MissingError, match=r"`python bench\.py [^`]+`"):
        draw(name, Evidence())


# --- how it is shown --------------------------------------------------------------------------------------------------

LOOKS = [Look(theme=theme, width=width) for theme in THEMES.values() for width in WIDTHS.values()]


_DRAWN: dict[tuple[str, float], Figure] = {}


def _painted(name: str, evidence: Evidence, look: Look) -> Figure:
    """The figure of the committed evidence at that width, drawn once for all tests."""
    if (name, look.width) not in _DRAWN:
        _DRAWN[name, look.width] = _paint(name, evidence, look)
    return _DRAWN[name, look.width]


def _paint(name: str, evidence: Evidence, look: Look) -> Figure:
    with canvas.styled(look):
        figure = FIGURES[name].paint(evidence, look)
        figure.canvas.draw()
    return figure


def _texts(figure: Figure) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Every text that is drawn, with its box in pixels; of ticks those within their axis."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip():
            box = Text.get_window_extent(text)
            yield text.get_text(), (box.x0, box.y0, box.x1, box.y1)


QUICK_OR_SLOW = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("throughput_accuracy", "figure1") else name
    for name in FIGURES
]
"""Figures with many labels take seconds to lay out."""


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    slack = 0.5  # of a pixel of a 200 dpi grid
    return a[0] < b[2] - slack and b[0] < a[2] - slack and a[1] < b[3] - slack and b[1] < a[3] - slack


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_no_text_lies_on_another_or_leaves_the_canvas(evidence: Evidence, name: str, width: float) -> None:
    figure = _painted(name, evidence, Look(width=width))
    texts = list(_texts(figure))
    across, up = figure.get_size_inches() * figure.dpi
    assert len(texts) > 10
    outside = [text for text, box in texts if box[0] < 0 or box[1] < 0 or box[2] > across or box[3] > up]
    assert not outside
    clashes = [(a[0], b[0]) for a, b in itertools.combinations(texts, 2) if _overlap(a[1], b[1])]
    assert not clashes


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_no_text_is_smaller_than_six_points_and_every_label_found_room(evidence: Evidence, name, width) -> None:
    figure = _painted(name, evidence, Look(width=width))
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= 6.0
    assert not [text.get_text() for text in texts if "without a label" in text.get_text()]


def test_every_network_of_figure1_is_named_in_the_picture(evidence: Evidence) -> None:
    written = sorted(text for text, _ in _texts(_painted("figure1", evidence, Look())))
    for bubble in accuracy_flops.data(evidence).bubbles:
        assert bubble.label in written
        written.remove(bubble.label)


def test_labels_do_not_lie_on_marks(evidence: Evidence) -> None:
    figure = _painted("figure1", evidence, Look())
    labels = {bubble.label for bubble in accuracy_flops.data(evidence).bubbles}
    boxes = [box for text, box in _texts(figure) if text in labels]
    marks = [
        axes.transData.transform(point)
        for axes in figure.axes
        for line in axes.lines
        if line.get_marker() not in ("None", None, "")
        for point in line.get_xydata()
    ]
    assert len(marks) == len(accuracy_flops.data(evidence).bubbles)
    reach = accuracy_flops.DOT / 25.4 * canvas.DPI - 1
    for x, y in marks:
        mark = (x - reach, y - reach, x + reach, y + reach)
        assert not [box for box in boxes if _overlap(box, mark)]


@pytest.mark.parametrize("name", QUICK_OR_SLOW)
@pytest.mark.parametrize("look", LOOKS[1:3], ids=["light, column", "dark, page"])
def test_an_svg_holds_the_picture_alone_and_says_what_it_is(evidence: Evidence, name: str, look: Look) -> None:
    svg = draw(name, evidence, theme=look.theme.name, width=look.width).decode()
    assert svg.startswith("<svg")
    bare = re.sub(r'xmlns(:\w+)?="[^"]+"', "", svg)
    told = bare[bare.index("</desc>") :]
    assert "http" not in told
    assert not re.findall(r'(?:href|src)="(?!#)', told)
    assert "@import" not in told
    assert "url(" not in re.sub(r"url\(#\w+\)", "", told)
    assert f"<title>{FIGURES[name].title}" in svg
    assert 'role="img"' in svg
    assert re.search(r"<desc>\S.{40}", svg)


def test_a_name_out_of_hell_makes_no_broken_svg(evidence: Evidence) -> None:
    name = "user:net|a <b> & 50 %, $x_1$ --> `z`\n\x1b[31m\x00]]>:make"
    step = replace(_step(), spec=replace(_step().spec, model=name))
    svg = draw("memory_curve", replace(evidence, records=(step,), choice=Choice(model=name)))
    ET.fromstring(svg)
    assert b"\x1b" not in svg


@pytest.mark.parametrize("file_format", ["svg", "pdf", "png"])
def test_the_same_evidence_gives_the_same_bytes(evidence: Evidence, file_format) -> None:
    once, again = (draw("effects", evidence, file_format=file_format) for _ in range(2))
    assert once == again
    assert once[:4] == {"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}[file_format]


def test_drawing_leaves_matplotlib_as_it_was(evidence: Evidence) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 23.0, "axes.facecolor": "pink"}):
        before = dict(mpl.rcParams)
        ours = draw("effects", evidence, file_format="png")
        assert dict(mpl.rcParams) == before
    assert draw("effects", evidence, file_format="png") == ours
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_listing_figures_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'timm', 'numpy', 'pandas', 'matplotlib', 'rich'}"
    program = f"import sys, visionbench.reports.figures; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
