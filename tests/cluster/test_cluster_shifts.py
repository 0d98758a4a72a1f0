"""From a request to shifts, without a queue: which jobs, on which nodes, in which folder; and the loop on a pretended
queue that does what real ones seldom do.
"""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.cluster.campaign import QUICK, ROWS
from visionbench.cluster import drive, job, shifts, slurm
from visionbench.cluster.slurm import Job, Node
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Failure, Record
from visionbench.record.spec import SMOKE, Spec


def request(*words: str, launches: int = 2, rows: tuple[Spec, ...] = ROWS, **rest: object) -> shifts.Request:
    pieces = ((shifts.Part(protocol=QUICK, specs=rows),),)
    cards = tuple(shifts.Card(word=word, pieces=pieces) for word in words or ("v100",))
    return shifts.Request(cards=cards, launches=launches, **rest)  # type: ignore[arg-type]


# --- shifts ---


def test_every_cards_first_launch_comes_before_anybodys_second():
    names = [shift.name for shift in shifts.shifts_of(request("v100", "RTX 3090", launches=2))]
    assert names == ["v100-01", "rtx-3090-01", "v100-02", "rtx-3090-02"]


def test_rows_are_cut_where_half_of_the_limit_is_full():
    parts = [shifts.Part(protocol=QUICK, specs=ROWS[:3]), shifts.Part(protocol=SMOKE, specs=ROWS[3:])]
    seconds = dict.fromkeys(ROWS, 20.0)
    pieces = shifts.pieces_of(parts, seconds, 120.0)
    assert [[len(part.specs) for part in piece] for piece in pieces] == [[3], [1]]
    assert len(shifts.pieces_of(parts, seconds, None)) == 1
    assert len(shifts.pieces_of(parts, seconds, 1.0)) == 4  # a row that is too long is a piece by itself
    whole = [spec for piece in pieces for part in piece for spec in part.specs]
    assert whole == list(ROWS)


def test_nodes_are_handed_out_in_turn_and_by_what_they_have_had():
    spread = shifts.Spread({"a": ["n1", "n2", "n3"]}, {("a", "n1"): 1})
    assert [spread.next("a") for _ in range(5)] == ["n2", "n3", "n1", "n2", "n3"]
    assert spread.next("b") is None


def test_ten_thousand_shifts_on_five_hundred_nodes_are_spread_evenly():
    every = shifts.shifts_of(request("v100", launches=10_000))
    spread = shifts.Spread({"v100": [f"n{k}" for k in range(500)]})
    nodes = Counter(spread.next(shift.card) for shift in every)
    assert len({shift.name for shift in every}) == 10_000
    assert set(nodes.values()) == {20}


# --- the folder ---


def test_a_request_is_kept_and_read_again(tmp_path):
    rows = (Spec(model="timm:resnet18", image_size=(32, 64)), Spec(model="timm:resnet18", inputs=("1x8x8",)))
    kept = shifts.keep(tmp_path, request(rows=rows, salt="asked"))
    assert shifts.read_request(tmp_path) == kept
    assert kept.salt not in (None, "asked")
    assert kept.name.startswith("visionbench-")
    shift = shifts.shifts_of(kept)[0]
    shifts.write_shift(tmp_path, shift)
    assert shifts.read_shift(tmp_path, shift.name) == shift


def test_more_launches_are_added_and_fewer_are_asked_for(tmp_path):
    first = shifts.keep(tmp_path, request(launches=2))
    assert shifts.keep(tmp_path, request(launches=5)) == replace(first, launches=5)
    assert shifts.keep(tmp_path, request(launches=3)) == replace(first, launches=3)
    assert shifts.read_request(tmp_path).launches == 5


def test_another_cut_is_no_other_request(tmp_path):
    first = shifts.keep(tmp_path, request())
    pieces = shifts.pieces_of(first.cards[0].pieces[0], dict.fromkeys(ROWS, 1.0), 4.0)
    assert len(pieces) == 2
    asked = replace(request(), cards=(shifts.Card(word="v100", pieces=pieces),))
    assert shifts.keep(tmp_path, asked) == first


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (request("a100"), "its cards are v100"),
        (request(rows=ROWS[:2]), f"it has 2 other rows, such as {ROWS[2]}"),
        (request(rows=(*ROWS, Spec(model="timm:more"))), f"it lacks 1 row, such as {Spec(model='timm:more')}"),
        (request(rows=(*ROWS[:3], Spec(model="timm:more"))), "it has 1 other row, such as"),
        (request(cluster="ray"), "its cluster is slurm"),
        (request(threads=4), "its threads is None"),
        (request(device="cpu"), "its device is cuda"),
        (request(salt="asked"), "it names nodes otherwise"),
        (request(release="9.9"), "its release is None"),
    ],
)
def test_another_request_is_refused_with_what_differs(tmp_path, other, why):
    shifts.keep(tmp_path, request())
    with pytest.raises(BenchError, match="another request") as caught:
        shifts.keep(tmp_path, other)
    assert why in str(caught.value)
    assert "--records" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cards": 3}', '{"cards": [], "launches": 1, "odd": 2}'])
def test_a_folder_with_a_broken_request_is_one_sentence(tmp_path, text):
    shifts.request_file(tmp_path).write_text(text)
    with pytest.raises(BenchError, match=r"request\.json holds no request"):
        shifts.keep(tmp_path, request())


@pytest.mark.parametrize("name", ["visionbench.jsonl", "jobs.jsonl", "a b.jsonl"])
def test_a_folder_of_other_records_is_not_taken(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(BenchError, match=f"holds {name} and no request: name a new folder"):
        shifts.keep(tmp_path, request())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_drivers_do_not_work_in_one_folder(tmp_path):
    with drive.alone(tmp_path), pytest.raises(BenchError, match="another visionbench works in"), drive.alone(tmp_path):
        pass
    with drive.alone(tmp_path):
        pass


# --- what Slurm says ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("30:15", 1815),
        ("2:03:04", 7384),
        ("1-00", 86400),
        ("1-02:03:04", 93784),
        ("infinite", None),
        ("n/a", None),
    ],
)
def test_slurms_times(text, seconds):
    assert slurm.seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("state", "takes"),
    [
        *((state, True) for state in ("idle", "mixed", "completing", "planned", "allocated", "idle~")),
        *((state, False) for state in ("down", "down*", "drained", "draining", "fail", "idle*", "maint", "unknown*")),
    ],
)
def test_which_states_take_jobs(state, takes):
    assert Node(name="n", state=state, gres="", features=(), limit=None).takes_jobs is takes


@pytest.mark.parametrize(
    ("gres", "kinds"),
    [
        ("gpu:a100:4(S:0-1)", ("a100",)),
        ("gpu:A100:4,gpu:t4:1", ("a100", "t4")),
        ("gpu:a100:2(S:0,1),shard:8", ("a100",)),
        ("gpu:4", ()),
        ("(null)", ()),
    ],
)
def test_kinds_of_gpus(gres, kinds):
    assert slurm._kinds(gres) == kinds


# --- the loop, on a pretended queue ---


@dataclass
class Queue:
    """A queue that runs what a test tells it to, and shows records when a test lets it."""

    folder: Path
    rows: tuple[Spec, ...] = ROWS
    names: tuple[str, ...] = ("n1", "n2")
    bad: set[str] = field(default_factory=set)
    listed: list[Job] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    silent: bool = False
    refuses: bool = False

    def nodes(self, card: str) -> tuple[Node, ...]:
        self.asked["sinfo"] += 1
        states = {name: "drained" if name in self.bad else "idle" for name in self.names}
        return tuple(Node(name=name, state=state, gres="", features=(), limit=None) for name, state in states.items())

    def jobs(self) -> list[Job]:
        self.asked["squeue"] += 1
        if self.silent:
            raise slurm.NoAnswerError("it sleeps")
        return list(self.listed)

    def submit(self, shift: str, card: str, node: str | None, exclude: object) -> str:
        if self.refuses:
            raise BenchError("Slurm's sbatch refuses: no more of yours.")
        self.asked["sbatch"] += 1
        number = str(self.asked["sbatch"])
        self.listed.append(Job(number=number, shift=shift, state="PENDING", node="", pinned=node or ""))
        return number

    def cancel(self, numbers: object) -> None:
        self.asked["scancel"] += 1
        self.listed = [job for job in self.listed if job.number not in numbers]  # type: ignore[operator]

    def become(self, state: str) -> None:
        self.listed = [replace(job, state=state, node=job.pinned or "n1") for job in self.listed]

    def write(self, shift: str, rows: tuple[Spec, ...] | None = None) -> None:
        for spec in self.rows if rows is None else rows:
            environment = Environment(device_type="cuda", device_name="X", torch="2.14.1")
            record = Record(spec=spec, protocol=QUICK, environment=environment, source="measured")
            store.append(shifts.records_file(self.folder, shift), record)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def loop(tmp_path: Path, launches: int = 1, **queue: object) -> tuple[drive.Driver, Queue, Clock, list[str]]:
    kept = shifts.keep(tmp_path, request(launches=launches))
    engine, clock, said = Queue(tmp_path, **queue), Clock(), list[str]()  # type: ignore[arg-type]
    return drive.Driver(tmp_path, shifts.shifts_of(kept), engine, said.append, clock=clock), engine, clock, said


def test_a_shared_disk_that_shows_records_late_sends_nothing_twice(tmp_path):
    driver, queue, clock, _ = loop(tmp_path)
    driver.look()
    queue.become("COMPLETED")
    for _ in range(5):
        clock.now += 10
        assert not driver.look()
    queue.write("v100-01")
    assert driver.look()
    assert queue.asked["sbatch"] == 1


def test_what_is_still_missing_after_a_minute_is_sent_again(tmp_path):
    driver, queue, clock, said = loop(tmp_path)
    driver.look()
    queue.listed.clear()  # forgotten
    driver.look()
    clock.now += 61
    driver.look()
    assert queue.asked["sbatch"] == 2
    assert "v100-01 is sent again (2 of 3 tries): job 1 ended before all its records were there." in said


def test_a_queue_that_does_not_answer_has_ended_nobodys_job(tmp_path):
    driver, queue, clock, said = loop(tmp_path)
    driver.look()
    queue.silent = True
    for _ in range(20):
        clock.now += 10
        assert not driver.look()
    assert queue.asked["sbatch"] == 1
    assert sum("does not answer" in sentence for sentence in said) == 1
    queue.write("v100-01")
    assert driver.look()  # the records alone say that it is done


def test_a_second_job_of_a_shift_is_cancelled(tmp_path):
    driver, queue, _, _ = loop(tmp_path)
    driver.look()
    queue.listed.append(Job(number="99", shift="v100-01", state="PENDING", node="", pinned="n1"))
    driver.look()
    assert [job.number for job in queue.listed] == ["1"]


def test_a_job_that_went_through_though_its_sbatch_timed_out_is_adopted(tmp_path):
    driver, queue, _, _ = loop(tmp_path)
    queue.listed.append(Job(number="7", shift="v100-01", state="RUNNING", node="n1", pinned=""))
    driver.look()
    assert queue.asked["sbatch"] == 0


def test_a_shift_that_waits_for_a_drained_node_moves_and_that_is_no_try(tmp_path):
    driver, queue, _, _ = loop(tmp_path)
    driver.look()
    for _ in range(4):
        pinned = queue.listed[0].pinned
        queue.bad = {pinned}
        driver.look()
        driver.look()
        assert queue.listed[0].pinned not in queue.bad
    lines = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert [line["why"] for line in lines] == ["", *[drive.MOVED] * 4]


def test_no_node_is_waited_for_and_said_once(tmp_path):
    driver, queue, _, said = loop(tmp_path, bad={"n1", "n2"})
    driver.look()
    driver.look()
    assert queue.asked["sbatch"] == 0
    assert sum("No node of v100 takes jobs now" in sentence for sentence in said) == 1
    queue.bad.clear()
    driver.look()
    assert queue.asked["sbatch"] == 1


def test_a_held_job_is_said(tmp_path):
    driver, queue, _, said = loop(tmp_path)
    driver.look()
    queue.listed = [replace(job, held=True) for job in queue.listed]
    driver.look()
    assert "v100-01 is held: `scontrol release 1` lets it go on." in said


def test_a_job_whose_dependency_can_never_be_met_is_said(tmp_path, monkeypatch):
    row = "{}|PENDING|9|||x.v100-0{}|{}".replace("|", slurm.SEPARATOR) + slurm.SEPARATOR
    lines = [row.format(1, 1, "Dependency"), row.format(2, 2, "DependencyNeverSatisfied"), row.format(3, 3, "Priority")]
    monkeypatch.setattr(slurm, "_ask", lambda *_words: lines)
    jobs = slurm.Slurm(name="x", folder=tmp_path, partition=None, sites={}).jobs()
    assert [job.never for job in jobs] == [False, True, False]
    driver, queue, _, said = loop(tmp_path)
    driver.look()
    queue.listed = [replace(job, never=True) for job in queue.listed]
    driver.look()
    assert any("v100-01 waits for a job that cannot end" in line and "`scancel 1`" in line for line in said)


def test_a_queue_that_refuses_everything_is_an_error_in_the_end(tmp_path):
    driver, _, _, _ = loop(tmp_path, refuses=True)
    for _ in range(shifts.TRIES):
        driver.look()
    with pytest.raises(BenchError, match="no more of yours"):
        driver.look()


def test_a_failure_quotes_the_end_of_a_long_log_and_hides_the_nodes_in_it(tmp_path):
    kept = shifts.keep(tmp_path, request(launches=1, salt="asked"))
    said: list[str] = []
    driver = drive.Driver(tmp_path, shifts.shifts_of(kept), Queue(tmp_path), said.append, late=0.0)
    (tmp_path / "logs" / "v100-01.log").write_text(
        "Traceback\n" * 10_000 + "slurmstepd: JOB 3 ON n1 CANCELLED\n\nat n2\n"
    )
    for _ in range(shifts.TRIES + 1):
        driver.look()
        driver._engine.listed.clear()
    assert driver.look()
    messages = {record.failure.message for record in shifts.read_records(tmp_path, "v100-01") if record.failure}
    [message] = messages
    hidden = [shifts.hidden(name, kept.salt or "") for name in ("n1", "n2")]
    assert message.endswith(f"slurmstepd: JOB 3 ON {hidden[0]} CANCELLED at {hidden[1]}")
    assert message.startswith("3 jobs ended without all records. Its log ends: ")
    assert len(message) < 400
    assert "\n" not in message


def test_a_torn_line_of_jobs_is_left_out(tmp_path):
    driver, _, _, _ = loop(tmp_path)
    driver.look()
    with (tmp_path / "jobs.jsonl").open("a") as file:
        file.write('{"shift": "v100-01", "jo')
    again = drive.Driver(tmp_path, shifts.shifts_of(shifts.read_request(tmp_path)), Queue(tmp_path), print)
    assert [sent.job for sent in again._sent["v100-01"]] == ["1"]


def test_a_word_that_was_two_cards_is_said(tmp_path):
    driver, _, _, _ = loop(tmp_path, launches=2)
    for number, key in enumerate(("a100-sxm4-40gb", "a100-sxm4-80gb"), start=1):
        environment = Environment(device_type="cuda", device_key=key, device_name=key)
        for spec in ROWS:
            record = Record(spec=spec, protocol=QUICK, environment=environment, source="measured")
            store.append(shifts.records_file(tmp_path, f"v100-0{number}"), record)
    assert driver.look()
    assert list(driver.split_cards()) == [
        "--gpu v100 was more than one card: a100-sxm4-40gb (1 shift), a100-sxm4-80gb (1 shift). Each has a column."
    ]


@pytest.mark.slow
def test_a_look_is_one_squeue_and_holds_little(tmp_path):
    tracemalloc.start()
    driver, queue, _, _ = loop(tmp_path, launches=400, names=tuple(f"n{k}" for k in range(500)))
    for _ in range(2):
        driver.look()
    assert queue.asked["sbatch"] == 400
    assert queue.asked["squeue"] == 2
    queue.become("RUNNING")
    for number in range(1, 20):
        queue.write(f"v100-{number:03}", ROWS[:1])
    driver.look()
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 20e6
    for _ in range(6):  # a minute's looks
        driver.look()
    assert queue.asked["squeue"] == 9


# --- the job ---


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **rest: object) -> shifts.Shift:
    kept = shifts.keep(tmp_path, request(launches=1, **rest))
    [shift] = shifts.shifts_of(kept)
    shifts.write_shift(tmp_path, shift)
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURMD_NODENAME", "gpu-3")
    monkeypatch.setenv("VISIONBENCH_NODE", "")
    return shift


def test_a_shift_that_is_cut_off_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    shift = prepared(tmp_path, monkeypatch)
    Queue(tmp_path).write(shift.name, ROWS[:3])
    launched = []
    assert job.main([str(tmp_path), shift.name], lambda part, *_: launched.extend(part.specs), lambda _: ()) == 0
    assert launched == [ROWS[3]]


def test_a_job_that_was_started_again_elsewhere_writes_no_more(tmp_path, monkeypatch):
    shift = prepared(tmp_path, monkeypatch)
    launches = []

    def measure(part, shift, file, begin):
        begin()
        (tmp_path / "shifts" / f"{shift.name}.holder").write_text("5.1 77")
        for spec in part.specs:
            begin()
            launches.append(spec)

    assert job.main([str(tmp_path), shift.name], measure, lambda _: ()) == 0
    assert launches == []


def test_an_unfit_node_ends_its_job_with_a_code_of_its_own(tmp_path, monkeypatch):
    shift = prepared(tmp_path, monkeypatch, salt="asked")
    code = job.main([str(tmp_path), shift.name], lambda *_: pytest.fail("measured"), lambda _: ["it smells of smoke"])
    assert code == job.UNFIT == 69
    said = json.loads((tmp_path / "unfit" / "5.json").read_text())
    assert said["reasons"] == ["it smells of smoke"]
    [left_out] = store.read_unfit(tmp_path)
    assert (left_out.failure, left_out.environment.node) == (
        Failure(kind="unfit", stage="cluster", message="it smells of smoke"),
        said["node"],
    )
    assert left_out.environment.device_key == "v100-sxm2-16gb"
    assert "gpu-3" not in (tmp_path / "unfit" / "5.jsonl").read_text()
    assert not list((tmp_path / "records").iterdir()), "it is no launch"
    assert said["node"] == shifts.hidden("gpu-3", shift.salt or "")
    assert "gpu-3" not in said["node"]


@pytest.mark.parametrize("name", ["nowhere-01", "../request"])
def test_a_job_without_a_shift_is_one_sentence(tmp_path, monkeypatch, capsys, name):
    prepared(tmp_path, monkeypatch)
    assert job.main([str(tmp_path), name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_names_of_nodes_are_hidden_in_a_logs_end():
    said = shifts.without_names("JOB 5 ON gpu-1 CANCELLED; gpu-10.lab gpu-1: x, my-gpu-1", {"gpu-1", "gpu-10"}, "salt")
    first, tenth = (shifts.hidden(name, "salt") for name in ("gpu-1", "gpu-10"))
    assert said == f"JOB 5 ON {first} CANCELLED; {tenth}.lab {first}: x, my-gpu-1"
    assert shifts.without_names("gpu-1", {"gpu-1"}, None) == "gpu-1"


def test_the_salt_tells_requests_apart():
    assert shifts.hidden("n1", "a") != shifts.hidden("n1", "b")
    assert shifts.hidden("n1", "a") == shifts.hidden("n1", "a")
