"""From a user's words to specs: which models, at which sizes, run how. Raises `BenchError` for what cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from visionbench.command import inputs
from visionbench.command.requests import HowToRun, Selection
from visionbench.record.errors import BenchError, near
from visionbench.record.spec import SUITES, ImageSize, MemoryFormat, Precision, Spec, Task

if TYPE_CHECKING:
    from visionbench.record.devices import DeviceSpec
    from visionbench.reports.printed import PaperRow

PAPER_BATCH = 64
"""Images per batch of the paper's throughput numbers ("following Swin")."""

PAPER_SIZE = 224
"""Pixels of a side of most of the paper's rows."""

SURELY = 0.85
"""From this likeness on a word that is no model was meant for a table or a suite: their names share words."""

Row = tuple[str, ImageSize]
"""A model's qualified name and the size of its input in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a spec is where the user says nothing."""

    precision: Precision = "fp32"
    memory_format: MemoryFormat = "contiguous"
    batch_size: int = 1


def defaults_for(model: str, defaults: Defaults, task: Task = "inference") -> Defaults:
    """The defaults of one model: our detectors and segmentors run as the papers ran them, contiguous, one image in
    inference and two in training (norms over one position need two).
    """
    from visionbench.models import is_dense

    images = 2 if task == "train" else 1
    return replace(defaults, batch_size=images, memory_format="contiguous") if is_dense(model) else defaults


def defaults_in_turns(device: str) -> Defaults:
    """What takes turns runs one image on a CPU and the paper's batch on a GPU."""
    return Defaults(batch_size=1 if device.startswith("cpu") else PAPER_BATCH)


def specs_to_run(selection: Selection, how: HowToRun, defaults: Defaults) -> tuple[Spec, ...]:
    """The specs of `run`: models (with wildcards), tables and suites, each once, in the order given.

    A bare word may be any of the three: no table and no suite has the name of a model.
    """
    tables = [*selection.tables, *filter(_is_table, selection.words)]
    suites = [*selection.suites, *(word for word in selection.words if word in SUITES)]
    words = [word for word in selection.words if word not in SUITES and not _is_table(word)]
    size = selection.size
    rows = [*_model_rows(words, size, all_names), *_table_rows(tables, size), *_suite_rows(suites, size)]
    if not rows:
        raise BenchError(
            "nothing to run: name a model, a table or a suite (`list models`, `list tables`, `list suites`)."
        )
    return _specs(rows, selection, how, defaults)


def specs_to_gate(selection: Selection, how: HowToRun, device: str) -> tuple[Spec, ...]:
    """The specs of `gate`: models and suites as named, by default the suite `ci`.

    Its 64 pixels are for one core; on a GPU they would time the host's launches, so there `PAPER_SIZE` is taken.
    """
    words = [*selection.words, *selection.suites]
    size = selection.size or (None if words or device.startswith("cpu") else PAPER_SIZE)
    return _specs(_rows_or_ci(words, size), selection, how, defaults_in_turns(device))


def specs_to_trace(selection: Selection, how: HowToRun) -> tuple[Spec, ...]:
    """The specs of `trace`: one per model."""
    return _specs(_model_rows(selection.words, selection.size), selection, how, Defaults())


def specs_to_count(selection: Selection) -> tuple[Spec, ...]:
    """The specs of `compare --exact`: one image, at the default of everything else; by default the suite `ci`.

    A loss is that of the training step which is counted with each of them.
    """
    plain = replace(selection, loss=None)
    specs = _specs(_rows_or_ci(selection.words, selection.size), plain, HowToRun(), Defaults())
    return tuple(replace(spec, loss=selection.loss) for spec in specs)


def specs_to_predict(selection: Selection, how: HowToRun, device: DeviceSpec) -> tuple[Spec, ...]:
    """The specs of `predict`: models and tables as named, by default Table 1, run as the paper ran them on such a card.

    That is TF32 and channels_last on a card with TF32, fp32 and contiguous on another.
    """
    modern = device.tf32 is not None
    defaults = Defaults(
        precision="tf32" if modern else "fp32",
        memory_format="channels_last" if modern and not how.precision else "contiguous",
        batch_size=PAPER_BATCH,
    )
    words = [word for word in selection.words if not _is_table(word)]
    tables = [*selection.tables, *filter(_is_table, selection.words)]
    tables = tables if tables or words else ["convnext_table1"]
    size = selection.size
    return _specs([*_model_rows(words, size), *_table_rows(tables, size)], selection, how, defaults)


def specs_to_switch(selection: Selection, how: HowToRun, tasks: Sequence[Task], device: str) -> tuple[Spec, ...]:
    """The plain runs of `effects`, per model and task: fp32, contiguous, eager."""
    if not selection.words:
        raise BenchError("nothing to compare: name models (`list models`), or a road with --roadmap t or --roadmap b.")
    rows = dict.fromkeys(_rows_or_ci(selection.words, selection.size))
    batch = _batch(how, defaults_in_turns(device))
    _refuse_loss(selection, tasks)
    return tuple(
        Spec(
            model=model,
            task=task,
            batch_size=batch,
            image_size=size,
            attention=how.attention,
            inputs=selection.inputs or None,
            loss=selection.loss if task == "train" else None,
        )
        for task in tasks
        for model, size in rows
    )


def roadmap_steps(
    roadmap: Literal["t", "b"], selection: Selection, how: HowToRun, tasks: Sequence[Task], device: str
) -> tuple[tuple[Spec, Spec], ...]:
    """`effects --roadmap`: the specs of every step of the road, before and after."""
    from visionbench.reports.paper.roadmap import steps

    def spec(row: PaperRow, task: Task) -> Spec:
        size = _size(selection.size, row.image_size)
        [spec] = _specs([(row.model, size)], replace(selection, loss=None), how, defaults_in_turns(device), task)
        return spec

    pairs = steps({"t": "10", "b": "11"}[roadmap])
    return tuple((spec(before, task), spec(after, task)) for task in tasks for before, after in pairs)


def _specs(
    rows: Iterable[Row], selection: Selection, how: HowToRun, defaults: Defaults, task: Task | None = None
) -> tuple[Spec, ...]:
    """Every row once, run as asked, and as the defaults say where nothing is asked."""
    _refuse_loss(selection, [task or how.task])
    return tuple(
        Spec(
            model=model,
            task=task or how.task,
            batch_size=_batch(how, usual),
            image_size=image_size,
            precision=how.precision or usual.precision,
            memory_format=how.memory_format or usual.memory_format,
            compile_mode=how.compile_mode,
            attention=how.attention,
            inputs=selection.inputs or None,
            loss=selection.loss,
            processes=how.processes,
            parallel=how.parallel or ("ddp" if how.processes else None),
        )
        for model, image_size in dict.fromkeys(rows)
        for usual in (defaults_for(model, defaults, task or how.task),)
    )


def _refuse_loss(selection: Selection, tasks: Sequence[Task]) -> None:
    if selection.loss is not None and "train" not in tasks:
        raise BenchError("--loss is what a training step minimises: add --task train.")


def _batch(how: HowToRun, defaults: Defaults) -> int:
    """`max` is searched for later; the spec needs some size until then."""
    return how.batch_size if isinstance(how.batch_size, int) else defaults.batch_size


def _rows_or_ci(words: Sequence[str], image_size: ImageSize | None) -> list[Row]:
    """Models and suites as named; by default the suite `ci`."""
    words = words or ["ci"]
    models = [word for word in words if word not in SUITES]
    return [*_model_rows(models, image_size), *_suite_rows([word for word in words if word in SUITES], image_size)]


def _is_table(word: str) -> bool:
    """Whether a word names a table, or a paper's file.

    Qualified names and wildcards are models: for them `reports` is not loaded.
    """
    if word.endswith(".toml"):
        return True
    if any(character in word for character in ":*?["):
        return False
    from visionbench.reports import REPORTS

    return word in REPORTS


def _size(asked: ImageSize | None, usual: ImageSize) -> ImageSize:
    """What was asked for, even if it is no size: the spec says so."""
    return usual if asked is None else asked


def _model_rows(
    words: Iterable[str], image_size: ImageSize | None, others: Callable[[], Iterable[str]] = tuple
) -> list[Row]:
    """The models of these words; `others` are what else a word might have meant."""
    from visionbench import models

    cards = []
    for word in words:
        try:
            cards += [models.resolve(name) for name in models.expand(word)]
        except models.ModelError:
            if found := near(word, others(), alike=SURELY):
                raise BenchError(
                    f"there is no model, table or suite '{word}': did you mean {' or '.join(found)}?"
                ) from None
            raise
    return [(card.name, _size(image_size, card.image_size)) for card in cards]


def all_names() -> tuple[str, ...]:
    """Every table's and every suite's name."""
    from visionbench.reports import REPORTS

    return (*REPORTS, *SUITES)


def _suite_rows(names: Iterable[str], image_size: ImageSize | None) -> list[Row]:
    return [(spec.model, _size(image_size, spec.image_size)) for name in names for spec in SUITES[name]]


def _table_rows(names: Sequence[str], image_size: ImageSize | None) -> list[Row]:
    if not names:
        return []
    rows = [row for report in inputs.reports_named(names) for row in report.measured_rows()]
    return [(model, _size(image_size, size)) for model, size in rows]
