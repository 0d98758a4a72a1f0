"""This checkout beside the commit from before the second storey, in turns: is it as fast as it was?

    python -m perf.before                       everything, about twenty minutes on two cores
    python -m perf.before help report           `--help`, and a report on 10,000 records: about a minute
    python -m perf.before --rounds 3 trace

The old commit is checked out into a temporary work tree, so this needs a git checkout with its history. Both trees run
with this Python, each in processes of its own that import nothing of the other tree (they check). The ratio is the
median over rounds of old seconds by new seconds: above 1 means that the new tree is faster. `trace` takes turns network
by network and reads CPU time, the others take turns by whole processes and read the wall clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
BEFORE = "865c3bb"
OLD_REPORT = ("bench.py", "report", "convnext_table1", "--format", "csv", "--records")
RECORDS = 10_000

Side = Sequence[Callable[[], float]]
"""One tree's work in pieces, each of which runs when called and says its seconds."""

LOAD = """
import sys, time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

def load(name):
    "A file of this tree's own `perf`: it knows how its tree spells things."
    spec = spec_from_file_location(name, f"perf/{name}.py")
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    here = Path.cwd().resolve()
    for other, loaded in list(sys.modules.items()):
        if other.partition(".")[0] in ("bench", "models", "reports", "visionbench"):
            file = getattr(loaded, "__file__", None)
            assert file is None or Path(file).resolve().is_relative_to(here), f"{other} comes from {file}"
    return module
"""

WRITE = """
suite, path, total = load("test_perf_cli"), Path(sys.argv[1]), int(sys.argv[2])
if hasattr(suite, "write_records"):
    suite.write_records(path, total)
else:
    networks = [row.network for row in suite.rows("1")]
    with path.open("w", encoding="utf-8") as file:
        for number in range(total):
            record = suite.record(number // len(networks), *networks[number % len(networks)])
            file.write(suite.to_json(record) + "\\n")
"""

TRACE = """
suite = load("test_perf_trace")
suite.trace_all(suite.TABLES[:1])
print(len(suite.TABLES), flush=True)
for line in sys.stdin:
    start = time.process_time()
    suite.trace_all([suite.TABLES[int(line)]])
    print(time.process_time() - start, flush=True)
"""

LAUNCH = """
from statistics import median
suite = load("test_perf_measure")
spec, once = suite.SMALL[0], suite.Protocol(name="once", warmup_iterations=1, blocks=1, block_iterations=1)
suite.prepare()
def launched(): suite.launch(spec, once, "cpu", 1)
def measured(): suite.measure(spec, once, "cpu", 1)
launched(), measured()
print(median(suite.seconds(launched) - suite.seconds(measured) for _ in range(7)))
"""


def main(words: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and print a line for each as it comes."""
    parser = argparse.ArgumentParser(prog="python -m perf.before", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each tree (default: 5)")
    options = parser.parse_args(words)
    unknown = set(options.parts) - set(PARTS)
    if unknown or options.rounds < 1:
        parser.error(f"parts are {', '.join(PARTS)}, and rounds are at least 1")
    print(f"{'':8}{'new, s':>10}{'old, s':>10}{'old / new':>12}{'of rounds':>20}")
    with tempfile.TemporaryDirectory(prefix="visionbench-before-") as folder, checked_out(Path(folder)) as old:
        for part in options.parts or PARTS:
            new_side, old_side = (PARTS[part](tree, Path(folder)) for tree in (ROOT, old))
            print(f"{part:8}{in_turns(new_side, old_side, options.rounds)}", flush=True)


def in_turns(new: Side, old: Side, rounds: int) -> str:
    """Median seconds of both sides and of their ratios, and their range. First rounds are left out.

    The two sides take turns at every piece of work, so a machine that slows down for a second slows down both.
    """
    turns = []
    for number in range(rounds + 1):
        seconds = [0.0, 0.0]
        for place, pieces in enumerate(zip(new, old, strict=True)):
            for side in (0, 1) if (number + place) % 2 else (1, 0):
                seconds[side] += pieces[side]()
        turns.append(seconds)
    new_seconds, old_seconds = (median(side) for side in zip(*turns[1:], strict=True))
    ratios = [before / now for now, before in turns[1:]]
    span = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return f"{new_seconds:10.3f}{old_seconds:10.3f}{median(ratios):12.2f}{span:>20}"


@contextmanager
def checked_out(folder: Path) -> Iterator[Path]:
    """The old commit's files in a work tree, which is removed afterwards."""
    tree = folder / "tree"
    try:
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), BEFORE], cwd=ROOT, check=True)
    except subprocess.CalledProcessError:
        sys.exit(f"commit {BEFORE} is not here: this needs a git checkout with its history (git fetch --unshallow).")
    try:
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=False)


def run(tree: Path, *words: str) -> str:
    """What this Python prints in that tree, which is the only place it imports visionbench from."""
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=tree, env=environ(), stdout=subprocess.PIPE, text=True, check=True).stdout


def environ() -> dict[str, str]:
    """This process's variables without those that tell Python where to import from."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def timed(tree: Path, *words: str) -> Side:
    """Wall seconds of a whole process."""

    def seconds() -> float:
        start = time.perf_counter()
        assert run(tree, *words)
        return time.perf_counter() - start

    return [seconds]


def help_side(tree: Path, _folder: Path) -> Side:
    """`python bench.py --help`."""
    return timed(tree, "bench.py", "--help")


def report_side(tree: Path, folder: Path) -> Side:
    """Table 1 as CSV from 10,000 records, in a file that the tree itself has written."""
    path = folder / f"{'new' if tree == ROOT else 'old'}.jsonl"
    run(tree, "-c", LOAD + WRITE, str(path), str(RECORDS))
    return timed(tree, *(new_report() if tree == ROOT else OLD_REPORT), str(path))


def new_report() -> tuple[str, ...]:
    """The words of the benchmark of today's command line."""
    from perf.test_perf_cli import REPORT

    return REPORT


def trace_side(tree: Path, _folder: Path) -> Side:
    """CPU seconds of tracing each network of Tables 1, 2 and 12, in one process that has imported everything."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD + TRACE],
        cwd=tree,
        env=environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def answer(number: int | None = None) -> str:
        assert process.stdin
        assert process.stdout
        if number is not None:
            process.stdin.write(f"{number}\n")
        return process.stdout.readline()

    return [lambda number=number: float(answer(number)) for number in range(int(answer()))]  # type: ignore[misc]


def launch_side(tree: Path, _folder: Path) -> Side:
    """What a launch takes beyond its work."""
    return [lambda: float(run(tree, "-c", LOAD + LAUNCH))]


PARTS: dict[str, Callable[[Path, Path], Side]] = {
    "help": help_side,
    "report": report_side,
    "trace": trace_side,
    "launch": launch_side,
}

if __name__ == "__main__":
    main()
