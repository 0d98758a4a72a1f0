"""Pretended cards: every Python line of the CUDA and NVML paths runs where there is no GPU, in CI as on a laptop.

`torch.cuda` and the driver's library (NVML) answer as the card would; a network that is built for it is built on the
CPU, and computes there. `pretend` changes this process for a test; with `environment` child processes pretend, too
(`start/sitecustomize.py`), so whole commands can be tried: `run`, `tables`, `gate`, `effects`, `doctor`.

What it can't show, all of it: whether a kernel exists, fits and is right on the device; any time, clock, energy or
memory in numbers; that the host runs ahead of the device and that a synchronisation waits; that two processes share a
card; what cuDNN chooses by timing; whether TF32 or autocast change a result; what Triton compiles. Those are asked by
the tests marked `gpu`. Records made with it say `(pretended)` in the driver's version.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from tests.pretended.nvml import NOT_FOUND, NOT_SUPPORTED, UUID, WIDE, FakeNvml, FakeNVMLError

if TYPE_CHECKING:
    import pytest

VARIABLE = "PRETENDED_CARD"
KINDS = ("cuda", "xpu", "mps")
ROOT = Path(__file__).parents[2]
UNINITIALIZED = 1  # NVML_ERROR_UNINITIALIZED
POWER_CAP, HEAT = 74, 269  # NVML_FI_DEV_PERF_POLICY_POWER, ..._SW_THERM_SLOWDOWN from driver 580.82 on


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card and its mood. Clocks in MHz are read one after the other, again and again; memory in bytes, power in W.

    `slowed`: the fields of NVML's counters that advance. `refuses`: NVML's functions that it answers with "Not
    Supported"; `library` is whether its library is there at all, answers ("dead" does not), and knows the card ("blind"
    does not). The device's clock runs `pace` times as fast as the wall's, and each synchronisation takes `lag` seconds.
    More than `most_images` in a step end with the error `refusal`, in iteration `refused_at` of a process.
    `lost_at`: building a model of that name for the second time ends with the card off the bus, for every process: that
    is `lost_file`. `others` are the numbers of other programs' processes on it. Where CUDA_VISIBLE_DEVICES is empty,
    torch does not see it, nor where it is `sliced`: MIG is on, and nobody has made a slice.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    multiprocessors: int
    power: int
    driver: str = "580.159.04 (pretended)"
    cuda: int = 13000
    kind: str = "cuda"
    hip: str | None = None
    clocks: tuple[int, ...] = (1980,)
    slowed: tuple[int, ...] = ()
    refuses: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
    compute_mode: int = 0
    mig: bool = False
    sliced: bool = False
    others: tuple[int, ...] = ()
    library: Literal["there", "missing", "dead", "blind"] = "there"
    pace: float = 1.0
    lag: float = 0.0
    most_images: int | None = None
    refusal: str = "CUDA out of memory. Tried to allocate 2.00 GiB"
    refused_at: int = 1
    lost_at: str = ""
    lost_file: str = ""

    @property
    def lost(self) -> bool:
        """Whether it has fallen off the bus."""
        return bool(self.lost_file) and Path(self.lost_file).exists()

    @property
    def seen(self) -> bool:
        """Whether torch counts it."""
        return not (self.lost or self.sliced or os.environ.get("CUDA_VISIBLE_DEVICES") == "")


H100 = Card(name="NVIDIA H100 80GB HBM3", capability=(9, 0), memory=85_520_809_984, multiprocessors=132, power=700)
A100 = Card(
    name="NVIDIA A100-SXM4-40GB",
    capability=(8, 0),
    memory=42_298_834_944,
    multiprocessors=108,
    power=400,
    clocks=(1410,),
)
V100 = Card(
    name="Tesla V100-SXM2-16GB",
    capability=(7, 0),
    memory=16_945_512_448,
    multiprocessors=80,
    power=300,
    clocks=(1530,),
    driver="470.256.02 (pretended)",
    cuda=11040,
    architectures=("sm_70", "sm_75", "sm_80"),
)
UNKNOWN = replace(H100, name="NVIDIA Q1 Experimental", capability=(9, 9), memory=17_179_869_184)
MOVING = replace(H100, clocks=(1980, 1950, 1755, 1980, 1410))
CAPPED = replace(H100, clocks=(1980, 1695, 1755), slowed=(POWER_CAP,))
HOT = replace(H100, clocks=(1980, 345), slowed=(HEAT,))
SILENT = replace(
    H100,
    driver="535.104.05 (pretended)",
    refuses=(
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetPersistenceMode",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetCurrPcieLinkWidth",
        "nvmlDeviceGetEccMode",
    ),
)
"""Its driver refuses half of what it is asked."""

ARC = replace(UNKNOWN, name="Intel(R) Arc(TM) B580 Graphics", kind="xpu")
APPLE = replace(UNKNOWN, name="Apple GPU", kind="mps")
MI300 = replace(
    UNKNOWN, name="AMD Instinct MI300X", capability=(9, 4), hip="6.4.43482", architectures=("gfx90a", "gfx942")
)

CARDS = {
    "h100": H100,
    "a100": A100,
    "v100": V100,
    "unknown": UNKNOWN,
    "moving": MOVING,
    "capped": CAPPED,
    "hot": HOT,
    "silent": SILENT,
}


def pretend(monkeypatch: pytest.MonkeyPatch, card: Card = H100) -> Any:
    """Pretend that card in this process, until the test ends; its driver's library."""
    import torch

    from visionbench.measuring import worker, workload

    library = nvml(card)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    for owner, name, value in answers(torch, card):
        monkeypatch.setattr(owner, name, value)
    build = on_the_cpu(workload.build, card)
    monkeypatch.setattr(workload, "build", build)
    monkeypatch.setattr(worker, "build", build)
    return library


def environment(card: Card = H100) -> dict[str, str]:
    """The environment of a process that pretends that card, with all that it starts."""
    path = os.pathsep.join(filter(None, (str(ROOT / "tests/pretended/start"), os.environ.get("PYTHONPATH"))))
    return os.environ | {VARIABLE: json.dumps(asdict(card)), "PYTHONPATH": path}


def chosen() -> Card:
    """The card that this process's environment names: a key of `CARDS`, or its fields."""
    word = os.environ[VARIABLE]
    if word in CARDS:
        return CARDS[word]
    fields = json.loads(word)
    return Card(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


# --- the driver ---


def nvml(card: Card) -> FakeNvml | None:
    """The driver's library for that card; None where it is not installed."""
    if card.library == "missing":
        return None
    began, clocks = time.monotonic(), cycle(card.clocks)

    def since(rate: float) -> int:
        return int(rate * (time.monotonic() - began))

    library = FakeNvml(
        card.driver,
        mig=card.mig,
        cuda=card.cuda,
        nvmlDeviceGetName=card.name,
        nvmlDeviceGetClockInfo=lambda: next(clocks),
        nvmlDeviceGetMaxClockInfo=max(card.clocks),
        nvmlDeviceGetTotalEnergyConsumption=lambda: 1_000_000 + since(card.power * 1e3),
        nvmlDeviceGetEnforcedPowerLimit=card.power * 1000,
        nvmlDeviceGetPowerManagementDefaultLimit=card.power * 1000,
        nvmlDeviceGetPowerUsage=card.power * 900,
        nvmlDeviceGetComputeMode=card.compute_mode,
        nvmlDeviceGetMigMode=[int(card.mig or card.sliced)] * 2,
        nvmlDeviceGetComputeRunningProcesses=lambda: [
            SimpleNamespace(pid=pid, usedGpuMemory=600 << 20) for pid in (os.getpid(), *card.others)
        ],
    )
    for field in (POWER_CAP, HEAT, HEAT + 1, HEAT + 2):
        library.fields[field] = (WIDE, partial(since, 1e9) if field in card.slowed else 0)
    library.answers |= {name: FakeNVMLError(NOT_SUPPORTED) for name in card.refuses}
    if "nvmlDeviceGetFieldValues" in card.refuses:
        library.fields.clear()
    library.lost = lambda: card.lost
    if card.library == "dead":
        library.nvmlInit = partial(_refuse, UNINITIALIZED)  # type: ignore[method-assign]
    if card.library == "blind":
        library.nvmlDeviceGetHandleByUUID = partial(_refuse, NOT_FOUND)  # type: ignore[method-assign]
    return library


def _refuse(code: int, *_: object) -> Any:
    raise FakeNVMLError(code)


# --- torch ---

OF_A_KIND = {
    "mps": ("synchronize", "empty_cache", "recommended_max_memory"),
    "xpu": (
        "is_available",
        "device_count",
        "current_device",
        "synchronize",
        "get_device_properties",
        "get_rng_state",
        "set_rng_state",
        "manual_seed_all",
        "memory_reserved",
        "max_memory_reserved",
        "max_memory_allocated",
        "reset_peak_memory_stats",
        "empty_cache",
        "device",
    ),
}
"""What torch's module of another kind of device has, as far as it is asked."""


class Event:
    """An event of a device that is done when the host is."""

    pace = 1.0

    def __init__(self, enable_timing: bool = False) -> None:
        self.seconds = 0.0

    def record(self, stream: object = None) -> None:
        """Now."""
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        """It has happened."""

    def query(self) -> bool:
        """Not yet: the spinning kernel before it goes on."""
        return False

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds; a device's clock never says 0."""
        return max((end.seconds - self.seconds) * self.pace * 1e3, 1e-6)


def answers(torch: Any, card: Card) -> Iterator[tuple[Any, str, Any]]:
    """Owner, name and value of everything of torch that answers as the card would."""
    state = {"touched": False}

    @contextmanager
    def device(_: object) -> Iterator[None]:
        yield

    def touch(value: Any) -> Any:
        state["touched"] = True
        return value

    properties = SimpleNamespace(
        name=card.name,
        uuid=UUID,
        total_memory=card.memory,
        major=card.capability[0],
        minor=card.capability[1],
        multi_processor_count=card.multiprocessors,
    )
    functions: dict[str, Callable[..., Any]] = {
        "is_available": lambda: card.seen,
        "device_count": lambda: int(card.seen),
        "is_initialized": lambda: state["touched"],
        "current_device": lambda: touch(0),
        "current_stream": lambda *_: touch(SimpleNamespace(cuda_stream=0)),
        "synchronize": lambda *_: time.sleep(card.lag) if card.lag else None,
        "get_device_properties": lambda *_: properties,
        "get_device_name": lambda *_: card.name,
        "get_device_capability": lambda *_: card.capability,
        "get_arch_list": lambda: list(card.architectures),
        "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda *_: None,
        "manual_seed_all": lambda _: None,
        "memory_reserved": lambda *_: 64 << 20,
        "max_memory_reserved": lambda *_: (64 << 20) if state["touched"] else 0,
        "max_memory_allocated": lambda *_: 48 << 20,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "is_current_stream_capturing": lambda: False,
        "_sleep": lambda cycles: time.sleep(cycles / 20e9),
        "Event": type("Event", (Event,), {"pace": card.pace}),
        "device": device,
    }
    if card.kind == "mps":
        functions |= {"recommended_max_memory": lambda: card.memory}
        yield torch.backends.mps, "is_available", lambda: True
    owner, known = getattr(torch, card.kind), OF_A_KIND.get(card.kind, tuple(functions))
    yield from ((owner, name, functions[name]) for name in known)
    yield torch.version, "hip", card.hip
    yield torch.accelerator, "synchronize", functions["synchronize"]
    yield torch.accelerator, "current_accelerator", lambda *_, **__: None  # an optimizer asks for its stream


def on_the_cpu(build: Callable[..., Any], card: Card) -> Callable[..., Any]:
    """`workload.build` as for the card, of a network that is on the CPU and that fails as the card's mood has it."""
    import torch
    from torch.overrides import TorchFunctionMode

    class OnCpu(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.device:  # a word about a device is no use of it
                return func(*args, **(kwargs or {}))
            return func(*map(_moved, args), **{name: _moved(value) for name, value in (kwargs or {}).items()})

    @contextmanager
    def swapped() -> Iterator[None]:
        generator, autocast, enabled = torch.Generator, torch.autocast, torch.is_autocast_enabled
        torch.Generator = _moving(generator)  # type: ignore[misc]
        torch.autocast = _moving(autocast)  # type: ignore[misc]
        torch.is_autocast_enabled = lambda kind: enabled(_moved(kind))
        try:
            with OnCpu():
                yield
        finally:
            torch.Generator, torch.autocast, torch.is_autocast_enabled = generator, autocast, enabled  # type: ignore[misc]

    def pretended(spec: Any, device: str, **how: Any) -> Any:
        if card.lost_at and card.lost_at in spec.model:
            tried = Path(f"{card.lost_file}.tried")
            (Path(card.lost_file) if tried.exists() else tried).touch()
        with swapped():
            workload = build(spec, device, **how)
        return replace(workload, step=partial(_step, workload.step, spec, card, []))

    pretended.__doc__ = build.__doc__
    return pretended


def _moving(kind: Any) -> Any:
    """A class that makes objects of `kind`, on the CPU where they were meant for the card."""

    class Moving:
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return kind(*map(_moved, args), **{name: _moved(value) for name, value in kwargs.items()})

    return Moving


def _step(step: Callable[[], Any], spec: Any, card: Card, steps: list[None]) -> Any:
    import torch

    steps.append(None)
    if card.lost:
        raise RuntimeError("CUDA error: unspecified launch failure")
    if card.most_images is not None and spec.batch_size > card.most_images and len(steps) >= card.refused_at:
        ours = card.refusal.startswith("CUDA out of memory")
        raise torch.OutOfMemoryError(card.refusal) if ours else RuntimeError(card.refusal)
    return step()


def _moved(value: Any) -> Any:
    """A device that is pretended becomes the CPU; everything else stays."""
    import torch

    if isinstance(value, torch.device) and value.type in KINDS:
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.partition(":")[0] in KINDS else value
