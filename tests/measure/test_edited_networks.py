"""A user's name stands for what its file holds now: numbers of what it held before are kept, and are not its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from visionbench.command.batch_sizes import at_largest
from visionbench.command.main import main
from visionbench.command.requests import HowLong, HowToRun, Selection, Turns, Where
from visionbench.command.selection import Defaults
from visionbench.command.verbs import effects, run, tables, trace
from visionbench.machine.environment import describe
from visionbench.measuring import sweep as sweeping
from visionbench.measuring.largest_batch import FIT, METRIC
from visionbench.measuring.process import launch as launching
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.metrics import measurement
from visionbench.record.record import Failure, Record
from visionbench.record.spec import SMOKE, Protocol, Spec

MINE = Spec(model="user:net:make", image_size=32)
OURS = Spec(model="timm:resnet18", image_size=32)
ONCE = replace(SMOKE, launches=1)
PLACE = run.Place(devices=("cpu",), threads=None, protocol=ONCE, defaults=Defaults())
MISTAKE = Failure(kind="error", stage="first call", message="ValueError: no")


@dataclass
class Lab:
    """Launches that take no time: the hash of a user's network, how a launch ends, and which launches were made."""

    network: Callable[[Spec], str] = lambda _: "before"
    failure: Callable[[Spec], Failure | None] = lambda _: None
    made: list[tuple[str, Spec]] = field(default_factory=list)

    def launch(self, spec: Spec, protocol: Protocol, *_: Any, **__: Any) -> Record:
        self.made.append((protocol.name, spec))
        return self.record(spec, protocol)

    def record(self, spec: Spec, protocol: Protocol = ONCE) -> Record:
        network = self.network(spec) if spec.model.startswith("user:") else None
        failure = self.failure(spec)
        return Record(
            spec=spec,
            protocol=protocol,
            environment=describe("cpu"),
            measurements=(measurement("throughput", (1.0,)),) if failure is None else (),
            failure=failure,
            network=network,
            source="measured",
        )

    def launches(self, protocol: str) -> list[Spec]:
        return [spec for name, spec in self.made if name == protocol]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab()
    monkeypatch.chdir(tmp_path)
    for owner in (sweeping, launching):
        monkeypatch.setattr(owner, "launch", lab.launch)
        monkeypatch.setattr(owner, "prepare", lambda: None)
    return lab


def ask(how: HowToRun = HowToRun()) -> run.Request:  # noqa: B008 -- it is frozen
    return run.Request(
        selection=Selection(), how=how, where=Where(), how_long=HowLong(), records=Path("r.jsonl"), dry_run=True
    )


def test_a_dry_run_says_what_a_run_would_measure(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    run.measure(ask(), [MINE, OURS], PLACE)
    run._say_what_would_be_measured([MINE, OURS], PLACE, ask())
    assert capsys.readouterr().out == ""
    lab.network = lambda _: "now"
    run._say_what_would_be_measured([MINE, OURS], PLACE, ask())
    assert capsys.readouterr().out == f"{MINE} x1\n"
    assert run.measure(ask(), [MINE, OURS], PLACE)[1].measured == 1


def test_what_is_printed_is_of_the_network_that_is_there_now(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    run.measure(ask(), [MINE], PLACE)
    lab.network = lambda _: "now"
    outcome = run.measure(ask(), [MINE], PLACE)[1]
    run._print_runs([MINE], PLACE, Path("r.jsonl"), outcome.networks)
    assert capsys.readouterr().out.count("user:net:make  ") == 1


def test_a_factory_that_builds_by_the_size_is_measured_once_at_each(lab: Lab) -> None:
    lab.network = lambda spec: f"of {spec.image_size}"
    specs = [MINE, replace(MINE, image_size=64)]
    assert run.measure(ask(), specs, PLACE)[1].measured == 2
    assert run.measure(ask(), specs, PLACE)[1].skipped == 2
    assert {record.network for record in store.read("r.jsonl").records} == {"of 32", "of 64"}


def test_the_largest_batch_of_an_edited_network_is_searched_again(lab: Lab) -> None:
    lab.failure = lambda spec: None if spec.batch_size <= 5 else Failure(kind="out_of_memory", stage="t", message="")
    for network, searches in (("before", True), ("before", False), ("now", True)):
        lab.network = lambda _, network=network: network  # type: ignore[misc]
        lab.made.clear()
        [spec] = at_largest([MINE], "cpu", None, Path("r.jsonl"), {MINE.network: network})
        assert spec.batch_size == 5
        assert bool(lab.launches(FIT.name)) is searches


def test_what_did_not_fit_before_it_was_edited_may_fit_now(lab: Lab) -> None:
    record = lab.record(replace(MINE, batch_size=8), FIT)
    now = replace(record, network="now", measurements=(measurement(METRIC, (8.0,)),))
    full = replace(record, failure=Failure(kind="out_of_memory", stage="time", message=""), measurements=())
    for made in (now, full):
        store.append(Path("r.jsonl"), made)
    assert at_largest([MINE], "cpu", None, Path("r.jsonl"), {MINE.network: "now"})[0].batch_size == 8
    store.append(Path("r.jsonl"), replace(full, network="now"))
    assert at_largest([MINE], "cpu", None, Path("r.jsonl"), {MINE.network: "now"})[0].batch_size == 7


def test_a_grid_and_the_tables_measure_an_edited_network(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(effects, "sweep_rows", lambda *asked, **_: seen.append(asked[4]))
    request = effects.Request(selection=Selection(), how=HowToRun(), tasks=("inference",), turns=Turns())
    effects._measure_grid([MINE], "cpu", request)
    assert seen == [{MINE.network: "before"}]
    assert run.networks_now([MINE, OURS], PLACE) == {MINE.network: "before"}
    monkeypatch.setattr(tables, "_default_specs", lambda *_: (MINE,))
    asked = tables.Request(
        tables=(), where=Where(), how_long=HowLong(), records=Path("r.jsonl"), output=run.output.Output()
    )
    for network, measured in (("before", 1), ("before", 0), ("now", 1)):
        lab.network = lambda _, network=network: network  # type: ignore[misc]
        assert [outcome.measured for outcome in tables._measure([], PLACE, asked)] == [measured]


# --- the look ahead ---


def ahead(*specs: Spec, size_asked: bool = False) -> Any:
    return run._try_ahead(specs, PLACE, size_asked=size_asked)


def test_a_network_that_works_is_launched_once(lab: Lab) -> None:
    ahead(*(replace(MINE, batch_size=size, compile_mode=mode) for size in (1, 8, 64) for mode in (None, "default")))
    assert lab.launches("check") == [MINE]


def test_a_network_that_needs_two_images_is_tried_with_the_next_batch(lab: Lab) -> None:
    lab.failure = lambda spec: MISTAKE if spec.batch_size == 1 else None
    ahead(MINE, replace(MINE, batch_size=8), replace(MINE, batch_size=64))
    assert [spec.batch_size for spec in lab.launches("check")] == [1, 8]
    with pytest.raises(BenchError, match="ValueError: no"):
        ahead(MINE)


@pytest.mark.parametrize("wrong", ["user:net:make", "timm:resnet18"])
def test_of_mixed_rows_the_one_that_does_not_work_is_for_the_sweep(wrong: str, lab: Lab) -> None:
    lab.failure = lambda spec: MISTAKE if spec.model == wrong else None
    ahead(MINE, OURS, size_asked=True)
    assert lab.launches("check") == [MINE, OURS]
    lab.failure = lambda _: MISTAKE
    with pytest.raises(BenchError, match="user:net:make does not run at 32 px"):
        ahead(MINE, OURS, size_asked=True)
    ahead(MINE, OURS)  # nobody has asked for a size, so the other is not tried


def test_many_sizes_are_not_tried_and_each_of_many_users_networks_is(lab: Lab) -> None:
    mine = [replace(MINE, model=f"user:net:make{number}") for number in range(40)]
    ahead(*(replace(OURS, model=f"timm:net{number}") for number in range(40)), *mine, size_asked=True)
    assert lab.launches("check") == mine


def test_a_users_network_is_counted_each_time_and_kept_where_the_count_changed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    macs = iter((1.0, 1.0, 2.0))
    monkeypatch.setattr(
        trace,
        "_count",
        lambda spec, here: Record(
            spec=spec,
            protocol=None,
            environment=here,
            measurements=(measurement("macs", (next(macs),)),),
            source="computed",
        ),
    )
    path, lengths = Path("r.jsonl"), []
    for _ in range(3):
        trace.count_missing([MINE], store.read_if_there(path).records, path)
        lengths.append(len(store.read(path).records))
    assert lengths == [1, 1, 2]
    assert [record.value("macs") for record in store.read(path).records] == [1.0, 2.0]


def test_a_report_shows_what_a_users_network_has_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("edited_net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 1000, 100, 32)\n")
    row = 'model = "user:edited_net:make"\nlabel = "mine"\nsize = 128\n'
    Path("mine.toml").write_text(
        f'title = "T"\ncite = "x"\n[[table]]\nname = "mine"\ntitle = "T"\ncolumns = ["params"]\n[[table.row]]\n{row}'
    )
    old = Record(
        spec=Spec(model="user:edited_net:make", image_size=128),
        protocol=None,
        environment=describe("meta"),
        measurements=(measurement("params", (77_000_000,)),),
        source="computed",
    )
    store.append(Path("visionbench.jsonl"), old)
    assert main(["report", "mine.toml", "--user-models"]) == 0
    printed = capsys.readouterr().out
    assert "30.00" in printed
    assert "77.00" not in printed
    assert main(["report", "mine.toml"]) == 0
    assert "not counted now: user:edited_net:make" in capsys.readouterr().err
