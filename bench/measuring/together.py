"""One launch, of one process or of several that train together: their records become one.

A number that all ranks have agreed on (the common clock's) is rank 0's; memory is that of the rank that needs most; a
doubt on any rank is a doubt about the launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from visionbench.machine.environment import describe
from visionbench.measuring import failures, worker
from visionbench.measuring.metrics.scaling import RANK_TIME
from visionbench.measuring.process.rank_processes import Tell, is_consequence, root_cause, run_together
from visionbench.measuring.ranks import backend_of, device_of, join, nccl_version
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Measurement, Record, from_json, to_json
from visionbench.record.spec import Protocol, Spec, check_parallel

MARGIN = 0.1
"""The share of a launch's time that is kept for saying where its ranks hang, at most `MOST_MARGIN` seconds."""

MOST_MARGIN = 2.0


def measure(
    spec: Spec, protocol: Protocol, device: str, threads: int | None, seconds: float, tell_stage: Tell
) -> Record:
    """Measure `spec` as `worker.measure` does, in this process or in as many as the spec says; they are gone then.

    `device` is rank 0's, the others have those after it. Raises `BenchError` for what is a user's mistake.
    """
    if spec.processes is None:
        return worker.measure(spec, protocol, device, threads, tell_stage=tell_stage)
    check_parallel(spec)
    answers = run_together(
        partial(_rank, spec, protocol, device, threads, seconds),
        spec.processes,
        seconds=seconds - min(MARGIN * seconds, MOST_MARGIN),
        failed=lambda text: from_json(text).failure is not None,
        tell_stage=tell_stage,
        limited=device.startswith("cpu"),
    )
    if answers.mistake is not None:
        raise BenchError(answers.mistake)
    records = {rank: from_json(text) for rank, text in enumerate(answers.texts) if text is not None}
    said = any(record.failure is not None and not is_consequence(record.failure) for record in records.values())
    if answers.failure is not None and not said:
        # Only now: asking a GPU for its name wakes CUDA, and a process in which it is awake cannot be forked.
        failure, environment = answers.failure, _environment(device, threads)
        return Record(spec=spec, protocol=protocol, environment=environment, failure=failure, source="measured")
    return merged(records)


def _environment(device: str, threads: int | None) -> Environment:
    backend = backend_of(device.partition(":")[0])
    return replace(describe(device, threads), communication=backend, nccl=nccl_version() if backend == "nccl" else None)


def _rank(
    spec: Spec, protocol: Protocol, device: str, threads: int | None, seconds: float,
    rank: int, listener: int | None, tell_stage: Tell,
) -> str:  # fmt: skip
    """What one rank does: join the others and measure with them; its record as a line."""
    tell_stage("join")
    own = device_of(device, rank)
    environment = _environment(own, threads)
    try:
        ranks = join(own, seconds, listener)
    except Exception as error:  # whatever torch, gloo or NCCL may raise
        why = failures.failure(error, "join")
        return to_json(Record(spec=spec, protocol=protocol, environment=environment, failure=why, source="measured"))
    record = worker.measure(spec, protocol, own, threads, tell_stage=tell_stage, ranks=ranks)
    if record.failure is None:  # else it would wait for ranks that are gone
        ranks.leave()
    return to_json(replace(record, environment=replace(environment, started=record.environment.started)))


def merged(records: dict[int, Record]) -> Record:
    """One record of the ranks' own: the cause where one failed, else rank 0's numbers with what the others add."""
    ranks = [records[rank] for rank in sorted(records)]
    size = ranks[0].spec.processes or len(ranks)
    if failed := {rank: record.failure for rank, record in records.items() if record.failure is not None}:
        return replace(ranks[0], measurements=(), failure=root_cause(failed, size))
    measurements = [_of_all(measured, ranks) for measured in ranks[0].measurements if measured.metric != RANK_TIME]
    for rank, record in enumerate(ranks):  # each rank's own time, by its number
        if (own := record.get(RANK_TIME)) is not None:
            measurements.append(replace(own, metric=f"{RANK_TIME}.{rank}"))
    return replace(ranks[0], measurements=tuple(measurements))


def _of_all(measured: Measurement, ranks: Sequence[Record]) -> Measurement:
    """A measurement of rank 0 with the flags of all ranks, and of memory the largest."""
    alike = [other for record in ranks if (other := record.get(measured.metric)) is not None]
    flags = tuple(dict.fromkeys(flag for other in alike for flag in other.flags))
    warnings = tuple(dict.fromkeys(text for other in alike for text in other.warnings))
    values = measured.values
    if measured.unit == "B":
        values = max((other.values for other in alike), key=max)
    return replace(measured, values=values, flags=flags, warnings=warnings)
