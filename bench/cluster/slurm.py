"""Slurm, by its own commands: `sinfo`, `squeue`, `sbatch` and `scancel`. Placing and queueing are Slurm's.

States and nodes are read, reasons are not: the same one is shown for jobs that will run and for jobs that will not. The
one exception says that a job never can (`Job.never`).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from typing import Protocol as Interface

from visionbench import ROOT
from visionbench.cluster.site import Site
from visionbench.record.errors import BenchError, choose
from visionbench.record.program import release

COMMANDS = ("sbatch", "squeue", "sinfo", "scancel")

FRESH = 1.0
"""Seconds for which a list of nodes is used: two hundred jobs queued at once ask for it a few times."""

PATIENCE = 60.0
"""Seconds that one of Slurm's commands may take; a busy controller takes many."""

FINAL = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip
"""States of a job that is over. Every other one may still run: completing, suspended, requeued, ..."""

BAD = ("down", "drain", "error", "fail", "inval", "maint", "no_respond", "not_resp", "power_down", "unknown")
"""How states of a node begin that takes no job. Good ones pass by under many names, so the bad ones are listed."""


class NoAnswerError(Exception):
    """Slurm did not answer: for now nothing is known, and no job has ended for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of a partition: its state in lower case, its GPUs (`gpu:a100:4`), and the seconds that a job has."""

    name: str
    state: str
    gres: str
    features: tuple[str, ...]
    limit: float | None

    @property
    def takes_jobs(self) -> bool:
        """Whether a job that is pinned to it can begin some day without anybody's help."""
        return not self.state.startswith(BAD) and not self.state.endswith("*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One of our jobs: its state, the node it runs or ran on, and the one it is pinned to ("" for none).

    `held`: it waits to be released; `never`: it waits for a job that has ended otherwise than it must; `begun`: it was
    not given up before it ran.
    """

    number: str
    shift: str
    state: str
    node: str
    pinned: str
    held: bool = False
    never: bool = False
    begun: bool = True

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in FINAL


class Engine(Interface):
    """What the loop needs of a queue. Raises `NoAnswerError` where it does not answer."""

    def nodes(self, card: str) -> Sequence[Node]:
        """The nodes that have this card."""

    def jobs(self) -> Sequence[Job]:
        """This request's jobs, as far as the queue remembers them."""

    def submit(self, shift: str, card: str, node: str | None, exclude: Sequence[str]) -> str:
        """Queue a shift, pinned to a node or kept from some; its job's number."""

    def cancel(self, numbers: Sequence[str]) -> None:
        """Take jobs away that have not begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """One request's view of Slurm. `sites` says what cards are called, `options` are the user's own for `sbatch`."""

    called: ClassVar[str] = "Slurm"
    remedy: ClassVar[str] = "try again when its controller is up"

    name: str
    folder: Path
    partition: str | None
    sites: Mapping[str, Site]
    options: tuple[str, ...] = ()
    _heard: dict[str | None, tuple[float, tuple[Node, ...]]] = field(default_factory=dict, compare=False, repr=False)

    def nodes(self, card: str) -> tuple[Node, ...]:
        """The nodes of the card's partition that have it, by their gres or their features."""
        site, nodes = self.sites.get(card, Site()), self._partition(self._partition_of(card))
        if site.constraint:
            nodes = tuple(node for node in nodes if _has_features(node, site.constraint))
            if not site.gres:
                return nodes
        kind = next(iter(_kinds(site.gres)), "") if site.gres else card.lower()
        if not kind and _asks_for_gpus(site.gres or ""):  # of any kind
            return tuple(node for node in nodes if _asks_for_gpus(node.gres))
        return tuple(node for node in nodes if kind in _kinds(node.gres)) or (
            () if site.gres else tuple(node for node in nodes if kind in map(str.lower, node.features))
        )

    def kinds(self, card: str) -> tuple[str, ...]:
        """What GPUs the card's partition has, by Slurm's words for them."""
        nodes = self._partition(self._partition_of(card))
        return tuple(sorted({kind for node in nodes for kind in _kinds(node.gres) if kind}))

    def check_partition(self, card: str) -> None:
        """Raise `BenchError` for a partition that Slurm does not have."""
        known = tuple(dict.fromkeys(line.strip() for line in _ask("sinfo", "-h", "-o", "%R")))
        if (partition := self._partition_of(card)) is not None:
            choose("partition", partition, known)

    def _partition_of(self, card: str) -> str | None:
        return self.sites.get(card, Site()).partition or self.partition or os.environ.get("SBATCH_PARTITION")

    def _partition(self, partition: str | None) -> tuple[Node, ...]:
        """The nodes of a partition, or of the default one; asked for again after `FRESH` seconds."""
        when, nodes = self._heard.get(partition, (-FRESH, ()))
        if time.monotonic() - when > FRESH:
            nodes = _listed(partition)
            self._heard[partition] = time.monotonic(), nodes
        return nodes

    def jobs(self) -> tuple[Job, ...]:
        """This request's jobs; Slurm forgets one some minutes after its end."""
        words = ("JobID", "State", "PriorityLong", "NodeList", "ReqNodes", "Name", "Reason")
        jobs = []
        for line in _ask("squeue", "-h", "-t", "all", "--me", "-O", _fields(*words)):
            number, state, priority, node, pinned, name, *why = [word.strip() for word in line.split(SEPARATOR)]
            request, _, shift = name.partition(".")
            if request == self.name:
                held = state == "PENDING" and priority == "0"
                never = state == "PENDING" and "DependencyNeverSatisfied" in why
                jobs.append(
                    Job(number=number, shift=shift, state=state, node=node, pinned=pinned, held=held, never=never)
                )
        return tuple(jobs)

    def submit(self, shift: str, card: str, node: str | None, exclude: Sequence[str]) -> str:
        """Queue a shift. Raises `BenchError` where Slurm refuses it."""
        answer = _ask(*self.command(shift, card, node, exclude), text=script(self.sites, self.folder, shift, card))
        return answer[0].partition(";")[0] if answer else ""

    def test(self, shift: str, card: str) -> None:
        """Ask Slurm whether it would take such a job; queues nothing. Raises `BenchError` where it would not."""
        _ask(*self.command(shift, card, None, ()), "--test-only", text=script(self.sites, self.folder, shift, card))

    def cancel(self, numbers: Sequence[str]) -> None:
        """Cancel jobs that still wait; one that has begun goes on."""
        if numbers:
            _ask("scancel", "--state=PENDING", *numbers)

    def command(self, shift: str, card: str, node: str | None, exclude: Sequence[str]) -> list[str]:
        """The `sbatch` line of a shift."""
        site, constraint = self.sites.get(card, Site()), self._constraint(card)
        nodes = [] if node is None else [f"--nodelist={node}"]
        nodes += [f"--exclude={','.join(exclude)}"] if exclude and node is None else []
        gres = site.gres or ("gpu:1" if constraint else f"gpu:{card.lower()}:1")
        asked = {"partition": self._partition_of(card), "gres": gres, "constraint": constraint}
        return [
            "sbatch",
            "--parsable",
            f"--job-name={self.name}.{shift}",
            "--nodes=1",
            "--ntasks=1",
            "--requeue",
            "--open-mode=append",
            f"--output={str(self.folder.resolve() / 'logs' / shift).replace('%', '%%')}.log",  # %j would be the job
            *(f"--{word}={value}" for word, value in asked.items() if value),
            *nodes,
            *site.sbatch,
            *self.options,
        ]

    def _constraint(self, card: str) -> str | None:
        """The site's own, or the card's word where nodes carry it as a feature and not as a kind of GPU."""
        site = self.sites.get(card, Site())
        if site.constraint or site.gres:
            return site.constraint
        nodes = self.nodes(card)
        by_feature = nodes and not any(card.lower() in _kinds(node.gres) for node in nodes)
        return next((word for word in nodes[0].features if word.lower() == card.lower()), None) if by_feature else None

    def how_to_cancel(self, jobs: Sequence[Job]) -> str:
        """The command that ends jobs."""
        return f"scancel {' '.join(job.number for job in jobs)}"


def _listed(partition: str | None) -> tuple[Node, ...]:
    """Asked with its name, also for the default one: without it every node is listed once per partition."""
    if partition is None:
        marked = (line.strip() for line in _ask("sinfo", "-h", "-o", "%P"))
        partition = next((name[:-1] for name in marked if name.endswith("*")), None)
    chosen = ["-p", partition] if partition else []
    lines = _ask("sinfo", "-h", "-N", *chosen, "-O", _fields("NodeList", "StateLong", "Time", "Gres", "Features"))
    rows = ([word.strip() for word in line.split(SEPARATOR)[:5]] for line in lines)
    nodes = (
        Node(name=name, state=state.lower(), limit=seconds_of(limit), gres=gres, features=tuple(names.split(",")))
        for name, state, limit, gres, names in (row for row in rows if len(row) == 5)
    )
    return tuple({node.name: node for node in nodes}.values())


def script(sites: Mapping[str, Site], folder: Path, shift: str, card: str) -> str:
    """What a job runs, by the Python that serves its card."""
    python = sites.get(card, Site()).python
    words = [python or sys.executable, "-m", "visionbench.cluster.job", str(folder.resolve()), shift]
    path = "" if python or release() else f'export PYTHONPATH={shlex.quote(str(ROOT))}"${{PYTHONPATH:+:$PYTHONPATH}}"\n'
    return f"#!/bin/sh\n{path}exec {shlex.join(words)}\n"


SEPARATOR = "\x1f"


def _fields(*words: str) -> str:
    return ",".join(f"{word}:{SEPARATOR}" for word in words)


def _kinds(gres: str) -> tuple[str, ...]:
    """`gpu:a100:4(S:0-1),gpu:t4:1` -> a100, t4."""
    parts = (part.split("(")[0].split(":") for part in gres.lower().replace("),", ") ,").split(","))
    return tuple(part[1] for part in parts if len(part) >= 2 and part[0].strip() == "gpu" and not part[1].isdecimal())


def _has_features(node: Node, constraint: str) -> bool:
    """Whether a node has what `a&b|c` says. Of `[a|b]`, `(a|b)`, `a*2` and `!a` Slurm alone knows what they mean."""
    if re.search(r"[\[\](){}*!]", constraint):
        return True
    return any({word.strip() for word in words.split("&")} <= {*node.features} for words in constraint.split("|"))


def _asks_for_gpus(gres: str) -> bool:
    """Whether there are GPUs among it, of whatever kind: `gpu:4` has none of a name."""
    return any(re.split(r"[:(]", part.strip())[0] == "gpu" for part in gres.lower().split(","))


def seconds_of(limit: str) -> float | None:
    """Slurm's `1-02:03:04`, `2:03:04`, `30:00` or `90` (minutes) in seconds; None for no limit."""
    days, dash, clock = limit.rpartition("-")
    try:
        parts, whole = [int(part) for part in clock.split(":")], int(days or 0)
    except ValueError:
        return None
    if not dash and len(parts) < 3:  # minutes come first there, and hours after days
        parts = [0, *parts]
    hours, minutes, seconds = (*parts, 0, 0)[:3]
    return 86400.0 * whole + 3600 * hours + 60 * minutes + seconds


def _ask(*words: str, text: str | None = None) -> list[str]:
    """The lines that a command prints. Raises `NoAnswerError`, or `BenchError` where Slurm refuses what is asked."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    try:
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, check=False, timeout=PATIENCE, env=environ
        )
    except FileNotFoundError as error:
        raise BenchError(f"there is no Slurm here (no {words[0]}): start this on a login node.") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswerError(f"{words[0]} did not answer: {error}") from error
    if done.returncode == 0:
        return done.stdout.splitlines()
    said = [line.partition("error: ")[2] or line for line in done.stderr.splitlines() if line.strip()]
    sentence = "; ".join(said)[:300] or f"{words[0]} ended with {done.returncode}"
    if any(sign in sentence.lower() for sign in SILENCE):
        raise NoAnswerError(sentence)
    raise BenchError(f"Slurm's {words[0]} refuses: {sentence.rstrip('.')}. See --partition, --sbatch and cluster.toml.")


FOREIGN = (
    "SQUEUE_", "SINFO_", "SCANCEL_", "SBATCH_ARRAY_INX", "SBATCH_WAIT", "SBATCH_TEST_ONLY", "SBATCH_EXCLUDE",
    "SBATCH_ERROR", "SBATCH_GPUS", "SBATCH_TRES_PER_TASK",
)  # fmt: skip
"""Beginnings of variables with which a user has set those commands' output otherwise, or a job as no shift can be.
`SBATCH_ACCOUNT` and its like count.
"""

SILENCE = (
    "unable to contact", "connection refused", "timed out", "socket", "communication", "temporarily", "zero bytes",
    "try again",
)  # fmt: skip
"""Words of a controller that is away for now."""


def check_here() -> None:
    """Raise `BenchError` where Slurm's commands are not installed."""
    absent = [name for name in COMMANDS if not shutil.which(name)]
    if absent:
        raise BenchError(
            f"there is no Slurm here (no {', '.join(absent)}): start this on a login node of the cluster, "
            "or leave --cluster out to measure this machine."
        )
