"""One record, one line: what is written is what is read, and what is not ours is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from typing import get_args

import pytest

from tests import fuzzing
from visionbench.record import record as record_module
from visionbench.record.errors import BenchError
from visionbench.record.record import (
    SCHEMA,
    Basis,
    Environment,
    Failure,
    FailureKind,
    Health,
    Measurement,
    NewerSchemaError,
    Record,
    Source,
    _from_parts,
    _from_whole,
    from_json,
    to_json,
)
from visionbench.record.spec import SMOKE, STEADY, SWIN, Protocol, Spec, stored

BARE = Record(
    spec=Spec(model="timm:resnet50"), protocol=None, environment=Environment(device_type="meta"), source="computed"
)

# No field at its default, so that every field of every dataclass passes through the line (a test below sees to it).
FULL = Record(
    spec=Spec(
        model="user:mein_paket.größe:fabrik",
        task="train",
        batch_size=64,
        image_size=(384, 512),
        precision="amp_bf16",
        memory_format="channels_last",
        compile_mode="max-autotune",
        attention="math",
        inputs=("3x384x512", "mask=1x384x512"),
        loss="user:mein_paket.größe:verlust",
        processes=8,
        backend="onnxruntime",
        parallel="ddp",
    ),
    protocol=Protocol(
        name="own",
        metrics=("first_call", "throughput", "peak_memory"),
        warmup_iterations=3,
        warmup_seconds=0.1,
        steady_within=20.0,
        blocks=7,
        block_iterations=30,
        block_seconds=0.3,
        launches=9,
        max_seconds=12.5,
        target_rel_ci=0.02,
        seed=17,
        cudnn_benchmark=False,
    ),
    environment=Environment(
        device_type="cuda",
        device_key="a100-sxm4-80gb",
        device_name="NVIDIA A100-SXM4-80GB",
        device_memory=85_899_345_920,
        device_index=3,
        driver="570.86.15",
        cuda="12.8",
        cudnn="9.7.1",
        torch="2.10.0+cu128",
        timm="1.0.15",
        python="3.12.3",
        platform="Linux-6.8",
        cpu="AMD EPYC 7B13 64-Core Processor",
        cores=64,
        threads=32,
        power_limit=400.0,
        git_commit="6690ea4",
        git_dirty=False,
        started="2026-11-05T12:00:00+00:00",
        node="host-3",
        malloc="32 MiB, 64 MiB",
        variables="CUDA_LAUNCH_BLOCKING=1",
        communication="nccl",
        nccl="2.28.3",
        gpu_uuid="3f2a1b00-1111",
        job="17",
        restarts=1,
        exclusive_node=False,
        health=Health(
            ecc_uncorrected=3,
            rows_remapped=2,
            remap_pending=False,
            pcie_generation=1,
            pcie_generation_max=4,
            pcie_width=8,
            pcie_width_max=16,
            power_limit_default=400.0,
        ),
    ),
    measurements=(
        Measurement(
            metric="throughput",
            unit="s",
            better="lower",
            assume="nothing",
            values=(0.1, 0.30000000000000004, 1e-9),
            iterations=30,
            warmups=50,
            flags=("throttled", "noisy_env"),
            warnings=("the clock fell to 1.1 GHz",),
            low=0.09,
            high=0.31,
            level=0.8,
        ),
        Measurement(metric="params", unit="count", better="none", assume="exact", values=(28_589_128,)),
    ),
    failure=Failure(kind="timeout", stage="warm-up", message="stopped after 12.5 s"),
    basis=Basis(tier="ratio", calibration="a+b", reason="measured elsewhere", resolution=0.2),
    network="0123456789ab",
    source="measured",
)

LINE_BREAKERS = 'a "quote", a \\ backslash,\na line,\r\na page\x0c, \u2028 and \x85, a \x00, ½ × größer → 速い 🚀'

CASES = {
    "bare": BARE,
    "full": FULL,
    "published, nothing measured": replace(BARE, source="published", protocol=SWIN),
    "predicted": replace(BARE, source="predicted", protocol=STEADY),
    "no values": replace(FULL, measurements=(replace(FULL.measurements[0], values=(), flags=(), warnings=()),)),
    "large counts": replace(BARE, measurements=(replace(FULL.measurements[1], values=(2**53 + 1, 3.5)),)),
    "characters that end lines": replace(
        BARE,
        spec=replace(BARE.spec, model="user:größe.速い:🚀"),
        failure=Failure(kind="crashed", stage="build", message=LINE_BREAKERS),
    ),
    **{
        f"failure: {kind}": replace(
            BARE, source="measured", protocol=SMOKE, failure=Failure(kind=kind, stage="time", message="")
        )
        for kind in get_args(FailureKind)
    },
}


@pytest.mark.parametrize("record", CASES.values(), ids=CASES.keys())
def test_a_record_survives_its_line(record):
    line = to_json(record)
    again = from_json(line)
    assert again == record
    assert hash(again) == hash(record)
    assert repr(again) == repr(record)  # tuples are tuples again, whole numbers whole
    assert again.key == record.key
    assert to_json(again) == line


@pytest.mark.parametrize("record", CASES.values(), ids=CASES.keys())
def test_a_line_is_one_line_of_plain_json(record):
    line = to_json(record)
    assert "\n" not in line
    assert "\r" not in line
    data = json.loads(json.dumps(asdict(record)))
    data["spec"] = stored(data["spec"])
    for name in record_module.LATER_FIELDS:  # as older readers expect
        if data["environment"][name] is None:
            del data["environment"][name]
    assert json.loads(line) == data


def test_the_full_case_leaves_no_field_at_its_default():
    where = FULL.environment
    data = [FULL, FULL.spec, FULL.protocol, where, where.health, FULL.measurements[0], FULL.failure, FULL.basis]
    ours = {value for value in vars(record_module).values() if isinstance(value, type) and is_dataclass(value)}
    assert {type(datum) for datum in data} == ours
    for datum in data:
        for field in fields(datum):
            if (type(datum), field.name) not in ((Record, "schema"), (Spec, "image_width")):
                assert getattr(datum, field.name) != field.default, f"{type(datum).__name__}.{field.name}"
                assert field.default_factory is MISSING, "a default must be hashable"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_never_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(replace(BARE, measurements=(replace(FULL.measurements[0], values=(1.0, value)),)))


def _with(path: tuple[str | int, ...], value: object) -> str:
    """FULL's line with one place changed."""
    data = json.loads(to_json(FULL))
    place = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    "place",
    [(), ("spec",), ("protocol",), ("environment",), ("measurements", 0), ("failure",), ("basis",)],
    ids=["record", "spec", "protocol", "environment", "measurement", "failure", "basis"],
)
def test_an_unknown_field_is_an_error_not_a_shrug(place):
    with pytest.raises(ValueError, match="unknown field in a record: humidity"):
        from_json(_with((*place, "humidity"), 0.4))


def _without(path: tuple[str | int, ...]) -> str:
    data = json.loads(to_json(FULL))
    place = data
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return json.dumps(data)


@pytest.mark.parametrize(
    "path",
    [
        ("spec",),
        ("environment",),
        ("source",),
        ("schema",),
        ("spec", "model"),
        ("protocol", "name"),
        ("environment", "device_type"),
        ("measurements", 0, "unit"),
        ("measurements", 0, "values"),
        ("failure", "kind"),
    ],
)
def test_a_field_that_must_be_there_is_missed(path):
    with pytest.raises(ValueError, match="record"):
        from_json(_without(path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("source",), "guessed"),
        (("source",), None),
        (("source",), ["measured"]),
        (("spec",), None),
        (("spec",), [1]),
        (("spec", "precision"), "fp61"),
        (("spec", "batch_size"), 0),
        (("spec", "batch_size"), 1.0),
        (("spec", "task"), None),
        (("protocol",), "swin"),
        (("environment",), []),
        (("measurements", 0), 3),
        (("schema",), "1"),
        (("schema",), None),
        (("schema",), 0),
        (("schema",), True),
        (("schema",), 10**400),
        (("schema",), 2.0),
        (("spec", "model"), ["timm:resnet18"]),
        (("spec", "image_width"), 0),
        (("spec", "backend"), 7),
        (("environment", "threads"), "two"),
        (("environment", "cores"), 10**400),
        (("environment", "device_name"), 5),
        (("environment", "started"), 2026),
        (("measurements", 0, "values"), [1.0, 10**400]),
        (("measurements", 0, "values"), [1.0, "2"]),
        (("measurements", 0, "values"), [True]),
        (("measurements", 0, "flags"), "throttled"),
        (("measurements", 0, "flags"), [["throttled"]]),
        (("measurements", 0, "iterations"), 0),
        (("measurements", 0, "level"), None),
        (("measurements", 0, "low"), 0.4),
        (("basis", "tier"), "guessed"),
        (("basis", "resolution"), None),
    ],
)
def test_a_wrong_value_is_no_record(path, value):
    with pytest.raises(BenchError if value == 10**400 and path == ("schema",) else ValueError, match="record"):
        from_json(_with(path, value))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[" * 100_000, "nested"),
        ('{"schema":' * 100_000, "nested"),
        (_with(("measurements", 0, "iterations"), 30).replace("0.1,", "NaN,", 1), "NaN"),
        (_with(("measurements", 0, "iterations"), 30).replace("1e-09", "1e999", 1), "finite|range|inf"),
        ('{"schema": 1, "source": "predicted", "measurements": [{"metric": "step_time", "flags": []}]}', "schema 1"),
    ],
    ids=["brackets", "braces", "not a number", "too large", "a prediction without a tier"],
)
def test_no_line_ends_in_a_traceback(line, why):
    with pytest.raises(ValueError, match=why):
        from_json(line)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        (("failure", "kind"), "tired"),
        (("measurements", 0, "better"), "bigger"),
        (("measurements", 0, "assume"), "best"),
    ],
)
def test_a_word_that_is_not_on_its_list_is_no_record(path, word):
    with pytest.raises(ValueError, match=word):
        from_json(_with(path, word))


@pytest.mark.parametrize("line", ["null", "[]", "3", '"schema"', "{}", '{"spec": {}}'])
def test_json_that_is_no_record_is_told_apart(line):
    with pytest.raises(ValueError, match="no visionbench record"):
        from_json(line)


@pytest.mark.parametrize("source", get_args(Source))
def test_each_source_is_read_back(source):
    assert from_json(to_json(replace(BARE, source=source))).source == source


def test_a_newer_schema_is_one_sentence_that_names_both_numbers():
    with pytest.raises(NewerSchemaError) as caught:
        from_json(_with(("schema",), SCHEMA + 41))
    told = str(caught.value)
    assert isinstance(caught.value, BenchError)
    assert f"schema {SCHEMA + 41}" in told
    assert f"up to {SCHEMA}" in told
    assert "upgrade" in told
    assert told.count(".") == 1
    assert "\n" not in told


def test_a_newer_schema_is_seen_before_its_unknown_fields():
    data = json.loads(to_json(FULL)) | {"schema": SCHEMA + 1, "humidity": 0.4, "source": "dreamt"}
    with pytest.raises(NewerSchemaError):
        from_json(json.dumps(data))


def test_an_older_schema_is_lifted_step_by_step(monkeypatch):
    def one_to_two(data):
        return {**data, "environment": {"device_type": data["environment"].pop("kind")}, "schema": 2}

    def two_to_three(data):
        return {**data, "source": data["source"].lower(), "schema": 3}

    old = json.loads(to_json(BARE)) | {"schema": 1, "source": "COMPUTED", "environment": {"kind": "meta"}}
    monkeypatch.setattr(record_module, "SCHEMA", 3)
    monkeypatch.setattr(record_module, "UPGRADES", {1: one_to_two, 2: two_to_three})
    assert from_json(json.dumps(old)) == replace(BARE, schema=3)


def test_the_upgrades_lead_from_every_version_to_this_one():
    assert set(record_module.UPGRADES) == set(range(1, SCHEMA))


def test_repetitions_share_a_key_and_nothing_else_does():
    cpu = Environment(device_type="cpu", device_name="AMD EPYC 7B13", threads=2)
    first = replace(BARE, environment=cpu, protocol=SMOKE, source="measured")
    again = replace(first, environment=replace(cpu, started="2026-11-05"), measurements=FULL.measurements)
    assert again.key == first.key
    assert replace(first, environment=replace(cpu, node="host-3")).key == first.key  # the estimate is over nodes
    others = [
        replace(first, spec=replace(first.spec, batch_size=2)),
        replace(first, protocol=STEADY),
        replace(first, protocol=None),
        replace(first, source="predicted"),
        replace(first, environment=replace(cpu, threads=4)),
        replace(first, environment=replace(cpu, torch="2.9.0")),
        replace(first, environment=replace(cpu, malloc="32 MiB, 64 MiB")),
        replace(first, spec=replace(first.spec, image_size=(224, 256))),
        replace(first, spec=replace(first.spec, image_size=(256, 224))),
        replace(first, spec=replace(first.spec, processes=2)),
        replace(first, spec=replace(first.spec, backend="onnxruntime")),
        replace(first, environment=replace(cpu, device_name="AMD EPYC 7B12")),
    ]
    assert len({record.key for record in (first, *others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (Environment(device_type="meta"), "meta"),
        (Environment(device_type="cpu"), "cpu"),
        (Environment(device_type="cpu", device_name="AMD EPYC 7B13", threads=2), "amd-epyc-7b13-2t"),
        (Environment(device_type="cpu", device_name="Intel(R) Xeon(R) @ 2.20GHz"), "intel-r-xeon-r-2-20ghz"),
        (Environment(device_type="cuda", device_name="NVIDIA X9 Ti", threads=8), "nvidia-x9-ti"),
        (Environment(device_type="cuda", device_key="l4", device_name="NVIDIA L4"), "l4"),
    ],
)
def test_a_device_has_a_short_stable_name(environment, name):
    assert environment.device == name


def test_get_and_value_answer_none_for_what_was_not_taken():
    assert FULL.get("params") is FULL.measurements[1]
    assert FULL.value("params") == 28_589_128
    assert FULL.get("energy") is None
    assert FULL.value("energy") is None
    assert CASES["no values"].value("throughput") is None


def test_a_rectangle_has_the_place_that_schema_2_kept_for_it() -> None:
    wide = replace(BARE, spec=replace(BARE.spec, image_size=(800, 1280)))
    line = to_json(wide)
    spec = json.loads(line)["spec"]
    assert (spec["image_size"], spec["image_width"]) == (800, 1280)
    assert from_json(line) == wide
    assert from_json(line).key == wide.key


def test_an_old_line_and_a_square_pair_are_the_row_that_they_were() -> None:
    line = to_json(BARE)
    assert '"image_size":224,' in line
    assert '"image_width":null' in line
    old = json.loads(line)
    del old["spec"]["image_width"]
    square = replace(BARE, spec=replace(BARE.spec, image_size=(224, 224)))
    pair = json.loads(line)
    pair["spec"]["image_size"] = [224, 224]
    assert from_json(json.dumps(old)).key == from_json(json.dumps(pair)).key == square.key == BARE.key
    assert to_json(square) == line


def _either(read: Callable[[str], Record | None], line: str) -> str:
    try:
        return repr(read(line))
    except (ValueError, BenchError) as error:
        return f"{type(error).__name__}: {error}"


def _edited(line: str, rng: random.Random) -> Iterator[str]:
    """What no JSON encoder writes: doubled keys, trailing text, other ways of writing one number or one text."""
    data, value = json.loads(line), json.dumps(fuzzing.any_value(rng))
    for part in (data, data["spec"], data["environment"]):
        text, key = json.dumps(part), json.dumps(rng.choice(list(part)))
        whole = json.dumps(data)
        yield whole.replace(text, f"{text[:-1]},{key}:{value}}}")
        yield whole.replace(text, f"{{{key}:{value},{text[1:]}")
    yield from (line + rest for rest in (" ", "}", "\n", "null"))
    yield from (
        line.replace('"schema":2', f'"schema":{text}') for text in ("2.0", "true", "2e0", "02", " 2 ", "9" * 30)
    )
    yield line.replace('"predicted"', '"pr\\u0065dicted"').replace('"spec"', '"sp\\u0065c"')


def _in_schema_1(line: str) -> str:
    data = json.loads(line) | {"schema": 1}
    if data["protocol"]:
        data["protocol"]["clock"] = "wall"
    return json.dumps(data, separators=(",", ":"))


def _both_ways(seed: int, number: int) -> int:
    """How many of so many wrong lines could be read part by part. Every line must be read alike in both ways."""
    rng = random.Random(seed)
    lines = [line for case in CASES.values() for new in [to_json(case)] for line in (new, _in_schema_1(new))]
    read = 0
    for _ in range(number):
        line = rng.choice(lines)
        mutant = next(fuzzing.json_files(line, rng, lines=True)).decode(errors="surrogateescape")
        for tried in (*mutant.split("\n"), *_edited(line, rng)):
            assert _either(lambda text: _from_parts(text) or _from_whole(text), tried) == _either(_from_whole, tried)
            with suppress(ValueError, BenchError):
                read += _from_whole(tried) is not None
    return read


def test_a_line_is_read_alike_part_by_part_and_as_a_whole() -> None:
    assert _both_ways(seed=1, number=100) > 300


@pytest.mark.slow
def test_thousands_of_lines_are_read_alike_part_by_part_and_as_a_whole() -> None:
    assert _both_ways(seed=2, number=1500) > 4000
