"""What a report reads: records, comparisons and calibrations, the user's own and those that come with visionbench."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import progress
from visionbench.comparison import comparison
from visionbench.comparison.comparison import Comparison
from visionbench.record import store
from visionbench.record.errors import BenchError, choose
from visionbench.record.program import program_name
from visionbench.record.record import Record

if TYPE_CHECKING:
    from visionbench.reports import Report

RECORDS, COMPARISONS = Path("visionbench.jsonl"), Path("visionbench-effects.jsonl")
CALIBRATIONS = Path("visionbench-calibrations")


def committed_folder() -> Path:
    """The folder of the records that come with visionbench."""
    from visionbench.reports import records

    return Path(records.__file__).parent


def read_records(paths: Sequence[Path] | None) -> list[Record]:
    """The user's records (the files named, or the default one) and, below them, the committed counts and predictions.

    Where the user has measured nothing yet, the committed measurements too: a report always has something to show,
    and every measured column names the machine it was measured on.
    """
    return with_committed(own_records(paths))


def read_kept(path: Path) -> list[Record]:
    """`read_records` of the file that a verb appends to, which is not there before its first launch."""
    return read_records([path]) if path.exists() else with_committed([])


def own_records(paths: Sequence[Path] | None) -> list[Record]:
    """The user's records alone: of the files named, or of the default one; and of a cluster's unfit nodes."""
    logs = [store.read(path) for path in paths] if paths else [store.read_if_there(RECORDS)]
    for log in logs:
        report_problems(log.problems)
    unfit = [record for path in paths or () for record in store.read_unfit(path)]
    return [*(record for log in logs for record in log.records), *unfit]


def with_committed(own: Sequence[Record], *, measured: bool = True) -> list[Record]:
    """The committed records, and the user's behind them, which are newer. See `read_records`. `measured`: also those
    that were measured on our machines, which have no place in a table of the user's own.
    """
    ours = [record for path in sorted(committed_folder().glob("*.jsonl")) for record in store.read(path).records]
    if not measured or any(record.source == "measured" for record in own):
        ours = [record for record in ours if record.source in ("computed", "predicted")]
    return [*ours, *own]


def committed_predictions() -> list[Record]:
    """The committed predictions of the paper's rows on the paper's cards."""
    return list(store.read(committed_folder() / "predicted.jsonl").records)


def read_comparisons(paths: Sequence[Path] | None = None) -> list[Comparison]:
    """The user's comparisons (of the files named, or the default one); without any, the committed ones."""
    files = paths or ([COMPARISONS] if COMPARISONS.exists() else [])
    own = [row for path in files for row in comparison.read(path)]
    folder = committed_folder() / "comparisons"
    return own or [row for path in sorted(folder.glob("*.jsonl")) for row in comparison.read(path)]


def reports_named(names: Sequence[str]) -> list[Report]:
    """The reports of those names; with no names, the ConvNeXt paper's.

    A name is a table's, a shipped paper's (all its tables), or a paper's file. Raises `BenchError` for an unknown one.
    """
    from visionbench.reports import REPORTS

    if not names:
        return [REPORTS[name] for name in REPORTS.papers()["convnext"]]
    return [report for name in names for report in reports_of(name)]


def reports_of(name: str) -> list[Report]:
    """The reports of one name. Raises `BenchError` for an unknown one."""
    from visionbench.reports import REPORTS, load_paper

    if name.endswith(".toml"):
        return list(load_paper(Path(name)).values())
    if name in REPORTS:
        return [REPORTS[name]]
    papers = REPORTS.papers()
    if name not in papers and _is_model(name):
        program = program_name()
        raise BenchError(
            f"'{name}' is a model and no table: `{program} trace {name}` counts it, and "
            f"`{program} table new mine.toml {name}` begins a table of it."
        )
    if name not in papers and (set(name) & set("./") or Path(name).exists()):
        raise BenchError(
            f"'{name}' is no .toml file, as a table of your own is: `{program_name()} table new` begins one."
        )
    return list(papers[choose("table", name, papers if name in papers else (*REPORTS, *papers))].values())


def add_user_models(parser: ArgumentParser) -> None:
    """Whether what a paper's file names may be imported."""
    parser.add_argument(
        "--user-models",
        action="store_true",
        help="allow the import of user:... models that a .toml file lists (default: no file makes us import code)",
    )


def refuse_user_models(models: Iterable[str]) -> None:
    """Say which `user:` models of a paper's file are left out: to count one is to import what the file says."""
    left_out = [model for model in dict.fromkeys(models) if model.startswith("user:")]
    if left_out:
        named = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        progress.say(f"not counted now: {named}. A file must not decide what is imported; with --user-models it may.")


def _is_model(name: str) -> bool:
    """Whether it is one of the models of papers, as far as that is known without torch."""
    from visionbench.reports.paper import profiles

    if name.partition(":")[0] in ("timm", "torchvision", "paper", "user", "ladder", "roadmap"):
        return True
    return any(name in (model, model.partition(":")[2]) for model, _, _ in profiles.shipped())


def report_problems(problems: Iterable[str]) -> None:
    """Say on stderr what was wrong with a file of records."""
    for problem in problems:
        progress.complain(problem)
