"""The options that verbs share. The types of their values are in `visionbench.command.values`.

`part` turns them into the typed parts of a request (`visionbench.command.requests`).
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from visionbench.command import progress, values
from visionbench.command.inputs import CALIBRATIONS, COMPARISONS, RECORDS
from visionbench.command.requests import FORMATS, Queue
from visionbench.command.values import described, pixels, positive, seconds, share, users_loss, whole
from visionbench.comparison.verdict import USAGE
from visionbench.record.errors import BenchError, hint, near
from visionbench.record.spec import (
    ATTENTIONS,
    COMPILE_MODES,
    EFFORTS,
    MEMORY_FORMATS,
    PARALLELS,
    PRECISIONS,
    PROTOCOLS,
    SUITES,
    TASKS,
)

Part = TypeVar("Part")

DEVICE = "cuda, cuda:1, xpu, mps or cpu (default: the GPU if there is one)"


class Help(argparse.HelpFormatter):
    """Sentences are set to the terminal's width; a paragraph with indented lines is a list and stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            part if "\n  " in part or part.startswith("  ") else super(Help, self)._fill_text(part, width, indent)
            for part in paragraphs
        )


class Parser(argparse.ArgumentParser):
    """argparse, with every mistake as one sentence that ends with the remedy."""

    verb: Parser | None = None
    """The parser of the verb that was typed: what is left over was meant for it."""

    def __init__(self, **options: Any) -> None:
        # An abbreviation may be another option's name elsewhere: `--base` of `gate` is no `--baseline` of `compare`.
        super().__init__(formatter_class=Help, allow_abbrev=False, **options)

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print it and end with exit code 2: argparse's words become a sentence, with what is nearest to a typo."""
        if self.verb and message.startswith("unrecognized arguments"):
            self.verb.error(message)
        progress.complain(self._sentence(message))
        raise SystemExit(USAGE)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's own; the words are kept, so that a mistyped option is seen before what it leaves missing."""
        self._typed = list(args or ())
        return super().parse_known_args(args, namespace)

    def option_names(self) -> list[str]:
        """Every option, with its short form."""
        return [word for action in self._actions for word in action.option_strings]

    def _sentence(self, message: str) -> str:
        """A message of argparse in our words."""
        see = f"see `{self.prog} --help`."
        if unknown := re.match(r"unrecognized arguments: ([^\s=]+)", message):
            return self._unknown(unknown[1]) if unknown[1][0] == "-" else f"'{unknown[1]}' is one word too many: {see}"
        if wrong := re.match(r"argument (\S+): invalid choice: '?(.*?)'? \(choose from (.*)\)", message, re.DOTALL):
            choices = [choice.strip(" '") for choice in wrong[3].split(",")]
            place = wrong[1].split("/")[-1]
            what = f"{'command' if place == 'COMMAND' else place.lstrip('-').replace('-', ' ')} '{wrong[2]}'"
            if place[0] != "-" and place != "COMMAND":
                what = f"`{self.prog.split()[-1]} {wrong[2]}`"
            return f"there is no {what}: {hint(wrong[2], choices, 1)}"
        if missing := re.match(r"the following arguments are required: (.*)", message):
            mistyped = next((word.partition("=")[0] for word in self._typed if self._is_unknown(word)), "")
            return self._unknown(mistyped) if mistyped else f"{self.prog.split()[-1]} needs {self._needed(missing[1])}."
        if given := re.match(r"argument ([^\s:]+): (.*)", message, re.DOTALL):
            option = given[1].split("/")[-1]
            if given[2].startswith("ignored explicit argument"):
                return f"{option} takes no value: leave what follows it away."
            needs = re.match(r"expected (one|at least one|\d+) arguments?", given[2])
            return f"{option} needs a value: {see}" if needs else f"{option}: {given[2].rstrip('.')}."
        return f"{message}; {see}"

    def _unknown(self, word: str) -> str:
        options = [*self.option_names(), "-V", "--version"]
        alike = [option for option in options if option.lower() == word.lower()]
        found = alike or near(word, options, 1, alike=0.75)
        return f"there is no option {word}: {f'did you mean {found[0]}?' if found else f'see `{self.prog} --help`.'}"

    def _is_unknown(self, word: str) -> bool:
        name = word.partition("=")[0]
        return name.startswith("--") and name not in self.option_names()

    def _needed(self, missing: str) -> str:
        """Of a choice what there is to choose from; of anything else its name, and where it is explained."""
        first = next(action for action in self._actions if missing.split(", ")[0] in (action.dest, *_names(action)))
        if first.choices and not first.option_strings:
            return f"a word more: {' or '.join(map(str, first.choices))}"
        return f"{missing.replace(', ', ' and ')}: see `{self.prog} --help`"


def _names(action: argparse.Action) -> tuple[str, ...]:
    return (*action.option_strings, str(action.metavar), "/".join(action.option_strings))


def first_given(
    parser: argparse.ArgumentParser, words: argparse.Namespace, only: Sequence[str] = (), *, but: Sequence[str] = ()
) -> str:
    """The first option with another value than its default, as it is typed, or a positional word; "" for none.

    `only` are the destinations that are looked at, () for all; `but` are left out.
    """
    for action in parser._actions:
        value = getattr(words, action.dest, None)
        if value and value != action.default and action.dest not in but and (not only or action.dest in only):
            return action.option_strings[-1] if action.option_strings else str(value[0])
    return ""


def part(kind: type[Part], options: argparse.Namespace) -> Part:
    """A request, or a part of one: its fields are the options of the same names, or parts; others keep their defaults.

    A list becomes a tuple, and so does an option that was not given where its field is one.
    """
    values: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]  # all parts are dataclasses
        inner = getattr(sys.modules[kind.__module__], str(field.type), None)
        if is_dataclass(inner):
            values[field.name] = part(inner, options)  # type: ignore[arg-type]
        elif hasattr(options, field.name):
            value = getattr(options, field.name)
            is_tuple = isinstance(value, list) or (value is None and str(field.type).startswith("tuple"))
            values[field.name] = tuple(value or ()) if is_tuple else value
    return kind(**values)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Models, tables and suites: what `run` measures."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WHAT",
        help="convnext_tiny (timm's), 'timm:swin_*', torchvision:resnet50, paper:convnext_original_tiny (its authors' "
        "code), user:package.module:factory, user:file.py:factory; or the name of a table or suite",
    )
    add_tables(parser)
    add_suites(parser)


def add_tables(parser: argparse.ArgumentParser) -> None:
    """The option that names tables."""
    parser.add_argument(
        "--table", action="append", default=[], dest="tables", metavar="NAME", help="every row of a table (repeatable)"
    )


def add_suites(parser: argparse.ArgumentParser) -> None:
    """The option that names suites."""
    parser.add_argument(
        "--suite",
        action="append",
        default=[],
        dest="suites",
        choices=sorted(SUITES),
        help="models with settings, see `list suites` (repeatable)",
    )


def add_image_size(parser: argparse._ActionsContainer, default: str = "each model's own size") -> None:
    """The side of the square input, or height and width."""
    parser.add_argument(
        "--image-size",
        type=pixels,
        metavar="N or HxW",
        help=f"pixels of the square input, or height x width: 800x1280 (default: {default})",
    )


def add_inputs(parser: argparse._ActionsContainer) -> None:
    """What networks are given instead of images of three channels."""
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        dest="inputs",
        type=described,
        metavar="INPUT",
        help="the shape of one input without the batch, [NAME=]SIZES[:TYPE[:MIN..MAX]]: 1x224x224, "
        "mask=1x224x224, ids=77:int64:0..49407; or user:my.nets:inputs, a function from "
        "a batch size to the inputs (repeat --input for each input; default: images)",
    )
    parser.add_argument(
        "--loss",
        type=users_loss,
        metavar="FUNCTION",
        help="what a training step minimises, user:my.nets:loss (default: the model's own loss, or cross-entropy)",
    )


def add_where(parser: argparse.ArgumentParser) -> None:
    """Options that say where to measure and where to keep what was measured."""
    where = parser.add_argument_group("where")
    where.add_argument(
        "--gpu",
        action=_Gpu,
        metavar="NAME",
        help="stop unless the GPU here is this one: v100, a100, h100-sxm5-80gb, ...; the default "
        "of --protocol is then swin",
    )
    where.add_argument(
        "--device",
        metavar="DEVICE",
        help=f"{DEVICE}; cuda:0,cuda:1 shares the rows among equal GPUs "
        "(not the default: they share the host's cores and its power)",
    )
    where.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)")
    where.add_argument(
        "--records",
        type=values.path,
        default=RECORDS,
        metavar="FILE",
        help=f"append records there (default: {RECORDS})",
    )


class _Gpu(argparse.Action):
    """The last card that was named is `gpu`, and all of them are `gpus`: on a cluster each has its column."""

    def __call__(self, _parser: Any, namespace: Any, values: Any, _option: Any = None) -> None:
        namespace.gpu = values
        namespace.gpus = (*getattr(namespace, "gpus", ()), values)


def add_queue(parser: argparse.ArgumentParser) -> None:
    """Options that measure on a cluster's nodes instead of here."""
    queue = parser.add_argument_group("on a cluster (docs/cluster.md)")
    queue.add_argument(
        "--cluster",
        choices=("slurm", "ray"),
        help="queue jobs on the cluster; --gpu NAME (repeatable) says on which cards",
    )
    queue.add_argument("--partition", metavar="NAME", help="Slurm's partition (default: its default)")
    queue.add_argument(
        "--sbatch",
        action="append",
        metavar="OPTIONS",
        help='more options for sbatch: "--account=vision --time=2:00:00"',
    )
    queue.add_argument(
        "--nodes",
        choices=("spread", "any"),
        help="spread (default): the launches of a row on different nodes; any: Slurm chooses",
    )
    queue.add_argument(
        "--site",
        type=values.path,
        metavar="FILE",
        help="your file with this cluster's names of GPUs and the Python of its nodes (default: cluster.toml)",
    )
    queue.add_argument("--anonymous-nodes", action="store_true", help="records get a salted hash for a node's name")


ONLY_SLURM = ("partition", "sbatch", "nodes")
ONLY_QUEUED = (*ONLY_SLURM, "site", "anonymous_nodes")
NOT_QUEUED = ("target_ci", "row_time", "budget", "lock_clocks", "retry_failures")
"""What means something to Slurm alone, what means nothing without `--cluster`, and what means nothing with it."""


def queue(words: argparse.Namespace) -> Queue | None:
    """The cluster that was asked for; None for this machine. Raises `BenchError` for words that do not go together."""

    def first_given(names: tuple[str, ...]) -> str:
        return next((name.replace("_", "-") for name in names if getattr(words, name)), "")

    gpus: tuple[str, ...] = getattr(words, "gpus", ())
    if not words.cluster:
        if given := first_given(ONLY_QUEUED):
            raise BenchError(f"--{given} is for a cluster: add --cluster slurm, or leave it out.")
        if len(gpus) > 1:
            raise BenchError(
                f"--gpu {gpus[0]} --gpu {gpus[1]}: one machine is one card; name one, or add --cluster slurm."
            )
        return None
    if given := first_given(NOT_QUEUED):
        raise BenchError(f"--{given} is for one machine: leave it out with --cluster.")
    if words.cluster != "slurm" and (given := first_given(ONLY_SLURM)):
        raise BenchError(f"--{given} is for Slurm: leave it out with --cluster {words.cluster}.")
    if not gpus:
        raise BenchError("--cluster needs the cards to measure: --gpu a100, or several of them.")
    try:
        words.sbatch = [word for text in words.sbatch or () for word in shlex.split(text)]
    except ValueError as error:
        raise BenchError("--sbatch has an open quote: close it.") from error
    words.gpus, words.nodes = list(dict.fromkeys(map(str.lower, gpus))), words.nodes or "spread"
    return part(Queue, words)


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """Options that say which files to read: records, and comparisons."""
    parser.add_argument(
        "--records",
        type=values.path,
        action="append",
        metavar="FILE",
        help=f"records to read (repeatable; default: {RECORDS} and the shipped ones)",
    )
    parser.add_argument(
        "--comparisons",
        type=values.path,
        action="append",
        metavar="FILE",
        help=f"a file that `effects` wrote with --keep (repeatable; default: {COMPARISONS} if it is here, else the "
        "shipped ones)",
    )


def add_calibrations(parser: argparse.ArgumentParser) -> None:
    """The option that names a folder of the user's calibrations."""
    parser.add_argument(
        "--calibrations",
        type=values.path,
        metavar="FOLDER",
        help=f"your own calibrations, preferred to the shipped ones (`calibrate` writes them; default: {CALIBRATIONS})",
    )


def add_budget(parser: argparse._ActionsContainer, text: str) -> None:
    """The time that measuring may take."""
    parser.add_argument("--budget", type=seconds, metavar="TIME", help=f"{text}: 90, 90s, 10m, 2h (default: no limit)")


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Options that say how long and how often to measure."""
    how = parser.add_argument_group("how to measure")
    how.add_argument(
        "--protocol",
        choices=sorted(PROTOCOLS),
        help="swin: 50 warm-up, 30 timed steps; steady (default on a GPU): until times settle; "
        "smoke (default on a CPU): 2.5 s of steps; quick: 0.6 s; memory: only memory",
    )
    how.add_argument(
        "--effort",
        choices=tuple(EFFORTS),
        help="sets the defaults of --launches and --protocol: quick: 1 and quick; standard: 3 and steady; rigorous: "
        "10 and steady",
    )
    how.add_argument(
        "--launches",
        type=positive,
        metavar="N",
        help="new processes per row (default: 1; protocol steady: 3); below 7 no 95 %% interval is given",
    )
    how.add_argument(
        "--target-ci",
        type=share,
        metavar="SHARE",
        help="add launches until the 95%% interval is within +- this share of its centre, for example 1%%",
    )
    how.add_argument(
        "--row-time", type=seconds, metavar="TIME", help="stop adding launches to a row that has taken this long"
    )
    add_budget(how, "stop starting launches after this long")
    _add_lock_clocks(how)
    how.add_argument("--retry-failures", action="store_true", help="measure rows again that failed before")


def _add_lock_clocks(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--lock-clocks",
        action="store_true",
        help="fix the GPU's clock while measuring (needs root; put back afterwards)",
    )


def add_turns(
    parser: argparse.ArgumentParser, keep: Path, *, per: str, budget: str, rounds: bool = True
) -> argparse._ArgumentGroup:
    """Options of the verbs that measure two sides in turns: `gate`, `effects` and `selftest`."""
    how = parser.add_argument_group("how to measure")
    how.add_argument("--device", metavar="DEVICE", help=DEVICE)
    how.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="CPU threads (default: 1); with one thread CPU time is compared, with more the wall time",
    )
    how.add_argument(
        "--launches",
        type=positive,
        metavar="N",
        help=f"pairs of new processes per {per} (default: 10)",
    )
    if rounds:
        how.add_argument(
            "--rounds",
            type=positive,
            metavar="N",
            help="timings in each process (default: 10 to 40, fewer where they take long)",
        )
    add_budget(how, budget)
    _add_lock_clocks(how)
    how.add_argument(
        "--seed",
        type=whole,
        metavar="N",
        help="seed that draws which side goes first (default: random, stored with the times)",
    )
    how.add_argument(
        "--keep",
        type=values.path,
        default=keep,
        metavar="FILE",
        help=f"write all measured times to this file (default: {keep})",
    )
    return how


def add_spec(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that are fields of a spec, but for the batch size, which verbs treat differently."""
    spec = parser.add_argument_group("the model's input and settings")
    add_image_size(spec, "each model's or table row's own size")
    add_inputs(spec)
    spec.add_argument("--task", choices=TASKS, default="inference", help="default: inference")
    spec.add_argument("--precision", choices=PRECISIONS, help="default: fp32")
    spec.add_argument("--memory-format", choices=MEMORY_FORMATS, help="default: contiguous")
    spec.add_argument(
        "--compile", choices=COMPILE_MODES, dest="compile_mode", help="torch.compile's mode (without it: eager)"
    )
    add_attention(spec)
    return spec


def add_parallel(spec: argparse._ActionsContainer) -> None:
    """Training on several processes."""
    spec.add_argument(
        "--processes",
        type=positive,
        metavar="N",
        help="N GPUs (on a CPU: processes) train one model together, each with its own batch; needs --task train; "
        "exact counts are per GPU",
    )
    spec.add_argument(
        "--parallel",
        choices=PARALLELS,
        help="with --processes: ddp (default, DistributedDataParallel), ddp_views (with gradient_as_bucket_view) or "
        "fsdp2 (fully_shard)",
    )


def add_attention(parser: argparse._ActionsContainer) -> None:
    """The kernel of attention."""
    parser.add_argument(
        "--attention",
        choices=ATTENTIONS,
        default="fused",
        help="fused: one kernel; math: plain matmul and softmax, as before PyTorch 2.0 (default: fused)",
    )


def add_batch_size(parser: argparse._ActionsContainer, default: str = "1; on a GPU 64") -> None:
    """Images per step."""
    parser.add_argument("--batch-size", type=positive, metavar="N", help=f"images per step (default: {default})")


def add_output(parser: argparse.ArgumentParser, *, records: bool = False) -> None:
    """Options that say how tables are printed. Where `--json` prints `records`, the verb adds it itself."""
    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=FORMATS, default="terminal", help="default: terminal")
    if records:
        add_json(output)
    else:
        output.add_argument(
            "--json", action="store_const", const="json", dest="format", help="print the result as JSON: --format json"
        )
    output.add_argument(
        "--width", type=positive, metavar="COLUMNS", help="width of tables in the terminal (default: the terminal's)"
    )


def add_json(parser: argparse._ActionsContainer, what: str = "each record is a line") -> None:
    """`--json`: the result for programs."""
    parser.add_argument("--json", action="store_true", help=f"print the result as JSON: {what}")
