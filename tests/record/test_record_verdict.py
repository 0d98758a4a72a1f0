"""What a gate's process ends with, for every mixture of verdicts."""

from __future__ import annotations

import pytest

from visionbench.comparison.comparison import Comparison, Side
from visionbench.comparison.verdict import Change, Judgement, Rule, Verdict, Word, exit_code
from visionbench.record.record import Environment
from visionbench.record.spec import Spec

SIDE = Side(label="main", spec=Spec(model="timm:resnet18"))
ROW = Comparison(
    name="row", baseline=SIDE, candidate=SIDE, environment=Environment(device_type="cpu"), timer="cpu", seed=0
)
CHANGE = Change(row="row", what="params", before="1", after="2")


def judgement(*words: Word, changes: int = 0, structures: int = 0) -> Judgement:
    verdicts = tuple(Verdict(word=word, comparison=ROW) for word in words)
    return Judgement(title="", rule=Rule(), verdicts=verdicts, changes=(CHANGE,) * changes, structures=structures)


@pytest.mark.parametrize(
    ("words", "plain", "strict"),
    [
        (["ok"], 0, 0),
        (["ok", "improved"], 0, 0),
        (["improved"], 0, 0),
        (["ok", "inconclusive"], 0, 3),
        (["inconclusive"], 0, 3),
        (["ok", "regressed"], 1, 1),
        (["inconclusive", "regressed"], 1, 1),
        (["not measured", "regressed"], 1, 1),
        (["not measured", "ok"], 4, 4),
        (["not measured", "inconclusive"], 4, 4),
        (["not measured"], 4, 4),
        ([], 4, 4),
    ],
)
def test_the_worst_row_decides(words: list[Word], plain: int, strict: int) -> None:
    assert exit_code(judgement(*words)) == plain
    assert exit_code(judgement(*words), strict=True) == strict


@pytest.mark.parametrize(
    ("words", "changes", "structures", "code"),
    [([], 0, 3, 0), ([], 1, 3, 1), (["ok"], 1, 3, 1), (["ok"], 0, 3, 0), (["not measured"], 0, 3, 4)],
)
def test_a_change_of_structure_is_a_regression(words: list[Word], changes: int, structures: int, code: int) -> None:
    assert exit_code(judgement(*words, changes=changes, structures=structures)) == code


def test_rows_by_their_words() -> None:
    found = judgement("ok", "regressed", "ok")
    assert [one.word for one in found.rows("ok", "improved")] == ["ok", "ok"]
    assert found.rows() == ()
