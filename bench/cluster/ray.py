"""Ray, by its Jobs API: a shift is a Ray job that holds one GPU of one node. Ray keeps the job when we are gone.

Ray gives its workers OMP_NUM_THREADS=1; a job takes that away, so that a CPU's threads are torch's choice or the
request's. Ray waits without a word for a card that no node has, so nodes are asked for before anything is queued.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from visionbench.cluster.site import Site
from visionbench.cluster.slurm import Job, NoAnswerError, Node, script
from visionbench.record.errors import BenchError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

Value = TypeVar("Value")

STATES = {"SUCCEEDED": "COMPLETED", "FAILED": "FAILED", "STOPPED": "CANCELLED"}
"""Slurm's words for Ray's states of a job that is over; the others are alike."""

MOST_NODES = 10_000
"""Ray's own limit for a list of nodes."""

NEVER_BEGAN = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
"""Ray's word for a job that it gave up because no GPU was free in time: 15 minutes, unless it was started with
RAY_JOB_START_TIMEOUT_SECONDS."""

NODE_ID, KIND = "ray.io/node-id", "accelerator_type:"
"""The label by which a job is pinned, and the resource that names a node's card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """One request's view of a Ray cluster, the one that RAY_ADDRESS or RAY_API_SERVER_ADDRESS names, or the one here.

    `sites` says what cards are called there: `constraint` is Ray's accelerator type.
    """

    called: ClassVar[str] = "Ray"
    remedy: ClassVar[str] = "set RAY_ADDRESS to its address, or try again when it is up"

    name: str
    folder: Path
    sites: Mapping[str, Site]

    def nodes(self, card: str) -> tuple[Node, ...]:
        """The nodes that have a card."""
        wanted = (self.sites.get(card, Site()).constraint or card).lower()
        return tuple(node for node in _nodes() if _is_kind(node.gres, wanted))

    def kinds(self, _card: str) -> tuple[str, ...]:
        """What GPUs there are, by Ray's words for them."""
        return tuple(sorted({node.gres for node in _nodes() if node.gres}))

    def check_partition(self, _card: str) -> None:
        """Ray has no partitions; this only asks whether it is there."""
        _asked(lambda client: client.get_version())

    def jobs(self) -> tuple[Job, ...]:
        """This request's jobs, as long as the cluster lives."""
        listed = _asked(lambda client: client.list_jobs())
        return tuple(_job(details) for details in listed if (details.metadata or {}).get("request") == self.name)

    def submit(self, shift: str, card: str, node: str | None, exclude: Sequence[str]) -> str:  # noqa: ARG002 -- Slurm's
        """Queue a shift on one GPU of a node. Raises `BenchError` where Ray refuses it."""
        number = f"{self.name}.{shift}.{secrets.token_hex(3)}"
        numbers = {each.name: each.features[0] for each in _nodes()}
        if node not in numbers:
            raise NoAnswerError(f"node {node} has left")
        given: str = _asked(
            lambda client: client.submit_job(
                entrypoint=self.entrypoint(shift, card, node, number),
                submission_id=number,
                metadata={"request": self.name, "shift": shift, "node": node},
                entrypoint_num_gpus=1,
                entrypoint_label_selector={NODE_ID: numbers[node]},
            )
        )
        return given

    def test(self, shift: str, card: str) -> None:
        """Ray has no trial run: nodes were asked for before."""

    def cancel(self, numbers: Sequence[str]) -> None:
        """End jobs."""
        for number in numbers:
            _asked(methodcaller("stop_job", number))

    def how_to_cancel(self, jobs: Sequence[Job]) -> str:
        """The command that ends jobs."""
        return "; ".join(f"ray job stop {job.number}" for job in jobs)

    def command(self, shift: str, card: str, node: str | None, exclude: Sequence[str]) -> list[str]:  # noqa: ARG002
        """The same as `ray job submit` would do it, for people."""
        numbers = [each.features[0] for each in _nodes() if each.name == node]
        selector = [f"--entrypoint-label-selector='{json.dumps({NODE_ID: number})}'" for number in numbers]
        return [
            "ray", "job", "submit", "--no-wait", "--entrypoint-num-gpus=1", *selector,
            "--", "python", "-m", "visionbench.cluster.job", str(self.folder.resolve()), shift,
        ]  # fmt: skip

    def entrypoint(self, shift: str, card: str, node: str | None, number: str) -> str:
        """The shell commands of a job; as `sbatch` does it, in this folder if the node has it."""
        log = shlex.quote(f"{self.folder.resolve() / 'logs' / shift}.log")
        names = {"VISIONBENCH_NODE": node or "", "VISIONBENCH_JOB": number}
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in names.items())
        job = script(self.sites, self.folder, shift, card)
        folder = shlex.quote(str(Path.cwd()))
        return f"exec >>{log} 2>&1\ncd {folder}\nunset OMP_NUM_THREADS\nexport {exports}\n{job}"


def check_here() -> None:
    """Raise `BenchError` where Ray's client is not installed."""
    try:
        from ray.job_submission import JobSubmissionClient  # noqa: F401
    except ImportError as error:
        raise BenchError(
            "--cluster ray needs Ray here: pip install 'visionbench[ray]', in the version that the cluster has."
        ) from error


def _asked(question: Callable[[JobSubmissionClient], Value]) -> Value:
    """What Ray answers. Raises `NoAnswerError` where it does not, `BenchError` where it refuses what is asked."""
    from ray.job_submission import JobSubmissionClient

    try:
        return question(JobSubmissionClient())
    except (ConnectionError, TimeoutError, OSError) as error:
        raise NoAnswerError(_first_line(error)) from error
    except (RuntimeError, ValueError) as error:
        raise BenchError(f"Ray refuses: {_first_line(error)}.") from error


def _first_line(error: BaseException) -> str:
    """What Ray says, without its advice about options that are not ours."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0].rstrip(".:")


def _nodes() -> tuple[Node, ...]:
    """Every node by name. A name that has come back is listed twice, and the living one counts."""
    from ray.util.state import list_nodes

    answer = _asked(lambda client: list_nodes(address=client.get_address(), limit=MOST_NODES, detail=True))
    listed = sorted(answer, key=lambda state: state.state == "ALIVE")
    by_name = {node.name: node for node in map(_node, listed)}
    return tuple(by_name[name] for name in sorted(by_name))


def _node(state: Any) -> Node:
    resources = state.resources_total or {}
    kind = next((word.removeprefix(KIND) for word in resources if word.startswith(KIND)), "")
    alive = "idle" if state.state == "ALIVE" else "down"
    gres = kind if resources.get("GPU") else ""
    return Node(name=state.node_name, state=alive, gres=gres, features=(state.node_id,), limit=None)


def _is_kind(kind: str, wanted: str) -> bool:
    """Whether Ray's word for a card (`A100`) is the wanted one, or the family of it (`a100-sxm4-40gb`)."""
    return bool(kind) and (wanted == kind.lower() or wanted.startswith(f"{kind.lower()}-"))


def _job(details: Any) -> Job:
    state, node = details.status.value, details.metadata["node"]
    return Job(
        number=details.submission_id,
        shift=details.metadata["shift"],
        state=STATES.get(state, state),
        node=node if state != "PENDING" else "",
        pinned=node,
        begun=NEVER_BEGAN not in str(details.error_type or ""),
    )
