"""Tables of effects, of configurations and of the road: every word in its place, and nothing claimed that is not so."""

from dataclasses import replace

import pytest

from tests.reports import paired
from tests.reports.paired import CPU, SWIN, TINY, effect, pair
from visionbench.comparison.switches import switched
from visionbench.record.record import Failure
from visionbench.record.spec import Spec
from visionbench.reports import REPORTS, printed
from visionbench.reports.paired_ratio import finding, newest
from visionbench.reports.paper import roadmap
from visionbench.reports.results import effects, effects_grid
from visionbench.reports.table import DASH


def column(table, key):
    at = [one.key for one in table.columns].index(key)
    return [row.cells[at] for row in table.rows]


def remarks(table):
    return " ".join(table.remarks)


# --- what may be said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed_up", "scatter", "word"),
    [
        (1.31, 0.003, "faster"),
        (0.9, 0.003, "slower"),
        (1.0, 0.003, "tie"),
        (1.004, 0.001, "tie"),  # the interval leaves 1 out, and no decision hangs on it
        (0.996, 0.001, "tie"),
        (1.02, 0.02, "cannot tell"),
        (1.0, 0.02, "cannot tell"),
        (1.02, 0.002, "faster"),
        (0.98, 0.002, "slower"),
    ],
)
def test_a_finding_is_one_of_four_words(speed_up, scatter, word):
    assert finding(effect(TINY, "bf16", speed_up, scatter=scatter)) == word


def test_too_few_launches_a_failure_and_a_clock_that_moved_are_no_finding():
    assert finding(effect(TINY, "bf16", launches=6)) == "too few launches"
    assert finding(effect(TINY, "bf16", launches=0)) == ""
    assert finding(effect(TINY, "bf16", failure=paired.NO_TF32)) == "", "what broke on the way shows no number"
    assert finding(effect(TINY, "bf16", flags=("clocks_differ",))) == "doubtful"
    assert finding(effect(TINY, "bf16", flags=("noisy_env",), environment=CPU)) == "tie", "CPU time does not see it"
    assert finding(replace(effect(TINY, "bf16", flags=("noisy_env",)), timer="wall")) == "doubtful"


# --- effects ---------------------------------------------------------------------------------------------------------


def test_a_section_per_switch_in_their_order():
    table = effects.layout([], paired.effects())
    assert [row.section.partition(":")[0] for row in table.rows] == [
        *["channels_last"] * 4, "tf32", "amp_bf16", "compile"
    ]  # fmt: skip
    assert [cell.text for cell in column(table, "finding")] == [
        "faster", "tie", "cannot tell", "doubtful", DASH, "too few launches", "faster"
    ]  # fmt: skip


def test_a_number_carries_its_interval_and_a_failure_its_cause():
    first, *_, failed, few, _ = column(effects.layout([], paired.effects()), "speed_up")
    assert (first.text, first.span, first.source) == ("×1.31", "[1.31, 1.31]", "measured")
    assert first.low < first.value < first.high
    assert (failed.text, failed.value, failed.notes) == ("unsupported", None, ("TF32 is made up here.",))
    assert few.notes == ("Fewer than 7 launches, so no interval.",)
    assert few.span == ""


def test_rates_are_those_of_the_turns():
    table = effects.layout([], [effect(TINY, "bf16", 2.0, seconds=0.1, batch_size=8)])
    assert column(table, "throughput_baseline")[0].value == pytest.approx(80)
    assert column(table, "throughput_candidate")[0].value == pytest.approx(160, rel=1e-3)


def test_what_rows_share_is_said_once_and_what_differs_is_a_column():
    one, other = effect(TINY, "bf16"), effect(TINY, "bf16", batch_size=1)
    assert [column.key for column in effects.layout([], [one]).columns][:2] == ["model", "throughput_baseline"]
    assert "Every row: inference, 224 px, batch 64." in remarks(effects.layout([], [one]))
    table = effects.layout([], [one, other])
    assert [cell.text for cell in column(table, "batch_size")] == ["64", "1"]
    assert "Every row: inference, 224 px." in remarks(table)


def test_only_the_newest_machine_is_shown_and_the_rest_counted():
    on_cpu = effect(TINY, "bf16", environment=CPU)
    table = effects.layout([], [effect(TINY, "bf16"), on_cpu])
    assert len(table.rows) == 1
    assert "A100-SXM4-80GB" in remarks(table)
    assert "1 comparison of other machines, software or clocks not shown." in remarks(table)
    assert newest([on_cpu]).comparisons == (on_cpu,)


def test_a_comparison_measured_again_is_shown_once():
    again = replace(effect(TINY, "bf16", 1.5), seed=8)
    assert newest([effect(TINY, "bf16"), again]).comparisons == (again,)


def test_what_is_no_switch_is_left_to_other_tables():
    table = effects.layout([], paired.steps())
    assert table.rows == ()
    assert "python bench.py effects" in table.remarks[0]


def test_compiling_says_what_it_cost_where_a_sweep_has_measured_it():
    spec = switched(Spec(model=TINY, batch_size=64), "compile")
    compiled = paired.run(spec, 100.0, compile_seconds=20.0)
    cell = column(effects.layout(compiled, [effect(TINY, "compile", 2.0, seconds=0.64)]), "speed_up")[0]
    # 64 images in 0.64 s and in 0.32 s: 5 ms less an image, of 20 s.
    [note] = cell.notes
    assert note.startswith("Compiling took 20.0 s from an empty cache, and pays after 4,0")
    slower = column(effects.layout(compiled, [effect(TINY, "compile", 0.9)]), "speed_up")[0]
    assert slower.notes == ("Compiling took 20.0 s from an empty cache, and is not shown to pay.",)
    assert column(effects.layout([], [effect(TINY, "compile", 2.0)]), "speed_up")[0].notes == ()


def test_memory_of_a_training_step_is_exact_and_only_there_where_it_is_counted(counts):
    table2 = printed.rows("2")[0]
    spec = Spec(model=table2.model, task="train", batch_size=32, attention="math")
    one = pair(spec, switched(spec, "amp_bf16"), 2.0)
    table = effects.layout(counts, [one])
    assert [cell.text for cell in column(table, "memory_baseline")] == ["1.00"]
    assert [cell.text for cell in column(table, "memory_candidate")] == [DASH]
    assert "memory_baseline" not in [column.key for column in effects.layout([], [one]).columns]


# --- configurations --------------------------------------------------------------------------------------------------


def test_a_grid_names_the_fastest_and_what_needs_least_memory():
    table = effects_grid.layout(paired.grid())
    words = dict(zip((cell.text for cell in column(table, "configuration")), column(table, "best"), strict=True))
    assert words["amp_bf16"].text == "fastest; least memory"
    assert words["fp32"].text == ""


def test_what_cannot_be_told_from_the_fastest_is_said():
    spec = Spec(model=TINY, batch_size=64)
    records = [*paired.run(spec, 100.0), *paired.run(switched(spec, "channels_last"), 100.1)]
    best = [cell.text for cell in column(effects_grid.layout(records), "best")]
    assert best == ["as fast, within the intervals; least memory", "fastest"]


def test_few_launches_name_the_fastest_by_its_centre_alone():
    spec = Spec(model=TINY, batch_size=64)
    records = [
        record for name in ((), ("bf16",)) for record in paired.run(switched(spec, *name), 100 + len(name), launches=1)
    ]
    assert column(effects_grid.layout(records), "best")[1].text == "fastest, by its centre; least memory"


def test_compiling_has_its_price_beside_it():
    table = effects_grid.layout(paired.grid())
    eager, compiled, *_ = column(table, "pays_after")
    assert (eager.text, compiled.text) == (DASH, "9,000")
    assert [cell.text for cell in column(table, "compile_seconds")][:2] == [DASH, "30.0"]


def test_one_configuration_is_no_grid():
    table = effects_grid.layout(paired.run(Spec(model=TINY), 100.0))
    assert table.rows == ()
    assert "--grid" in table.remarks[0]


def test_grids_of_two_protocols_never_meet():
    spec = Spec(model=TINY, batch_size=64)
    one, other = paired.run(spec, 100.0), paired.run(switched(spec, "bf16"), 200.0)
    smoke = [replace(record, protocol=replace(record.protocol, name="smoke")) for record in other]
    assert effects_grid.grids([*one, *smoke]) == ()


# --- the road --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["10", "11"])
def test_a_step_starts_where_the_road_does(table):
    steps = {row.label: before.label for before, row in roadmap.steps(table)}
    assert len(steps) == 16
    assert steps["ReLU->GELU (k=7)"] == "kernel size 7"
    assert steps["kernel size 11"] == "kernel size 9"
    assert not any("recipe" in label for label in steps), "the same network trained otherwise is no step"


def test_steps_stand_in_their_rows():
    table = REPORTS["convnext_table10"].layout([], paired.steps())
    cells = zip(table.rows, column(table, "step_inference"), strict=True)
    texts = {row.cells[0].text: cell.text for row, cell in cells}
    assert texts["stage ratio (3,3,9,3)"] == "×0.93"
    assert texts['"patchify" stem 4x4/4'] == "×1.00"
    assert texts["depthwise conv"] == "out of memory"
    assert texts["inverting dimensions"] == DASH, "an older setting is not mixed in"
    assert "1 comparison of steps under other settings not shown." in remarks(table)


def test_a_step_of_two_settings_is_none():
    before, after = roadmap.steps("10")[0]
    one = pair(Spec(model=before.model), Spec(model=after.model, precision="bf16"))
    assert roadmap.compared("10", [one]).by_row == {}


def test_training_has_a_column_of_its_own():
    before, after = roadmap.steps("10")[0]
    one = pair(Spec(model=before.model, task="train"), Spec(model=after.model, task="train"), 0.8)
    table = REPORTS["convnext_table10"].layout([], [*paired.steps(), one])
    assert [column.key for column in table.columns if column.key.startswith("step")] == [
        "step_inference",
        "step_train",
    ]
    assert column(table, "step_train")[2].text == "×0.80"


def test_the_slips_of_table_10_are_explained_by_the_traces_own_numbers(counts):
    table = REPORTS["convnext_table10"].layout(counts)
    cells = zip(table.rows, column(table, "macs_published"), strict=True)
    explained = {row.cells[0].text: " ".join(cell.notes) for row, cell in cells if cell.notes}
    assert list(explained) == ["BN->LN", "separate d.s. conv (ConvNeXt-T)", "Swin-T"]
    assert "4.46 is the count of the next row" in explained["BN->LN"]
    assert "4.49 is the count of the next row" in explained["separate d.s. conv (ConvNeXt-T)"]
    clean = REPORTS["convnext_table11"].layout(counts)
    assert not any(cell.notes for cell in column(clean, "macs_published"))


def test_a_failure_has_its_message():
    failure = Failure(kind="error", stage="warm-up", message="no gcc\x1b[31m")
    broken = effect(SWIN, "compile", launches=0, failure=failure)
    [cell] = column(effects.layout([], [broken]), "speed_up")
    assert cell.notes == ("No gcc.",), "a records file may come from anywhere, and a terminal obeys"
