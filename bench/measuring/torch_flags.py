"""What is global in torch and changes a number: read, set, put back, and watched while a foreign network runs.

Importing a network's module runs its code, and code sets flags: TF32 for speed, one thread for a cluster,
determinism for a paper. So flags are set when the network is built, and looked at again after its first call and at the
end: a record says how a network ran, or is not made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch

from visionbench.machine.support import UnsupportedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One global setting of torch's."""

    read: Callable[[], Any]
    write: Callable[[Any], None]


def _attribute(owner: Any, name: str) -> Switch:
    return Switch(read=lambda: getattr(owner, name), write=lambda value: setattr(owner, name, value))


_cuda, _cudnn = torch.backends.cuda, torch.backends.cudnn

# torch 2.9 has a second way to say which precision products of fp32 have, and raises where both are used.
_PRECISIONS = {
    f"fp32_precision of {name}": _attribute(owner, "fp32_precision")
    for name, owner in (
        ("torch.backends", torch.backends),
        ("cuda.matmul", _cuda.matmul),
        ("cudnn.conv", getattr(_cudnn, "conv", None)),
        ("cudnn.rnn", getattr(_cudnn, "rnn", None)),
        ("mkldnn", torch.backends.mkldnn),
    )
    if hasattr(owner, "fp32_precision")
}

SWITCHES: dict[str, Switch] = {
    "TF32 in matrix products": _attribute(_cuda.matmul, "allow_tf32"),
    "TF32 in convolutions": _attribute(_cudnn, "allow_tf32"),
    "cudnn.benchmark": _attribute(_cudnn, "benchmark"),
    "cudnn.enabled": _attribute(_cudnn, "enabled"),
    "cudnn.deterministic": _attribute(_cudnn, "deterministic"),
    "fp16 reductions": _attribute(_cuda.matmul, "allow_fp16_reduced_precision_reduction"),
    "bf16 reductions": _attribute(_cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    "deterministic algorithms": Switch(
        read=lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        write=lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    "threads": Switch(read=torch.get_num_threads, write=torch.set_num_threads),
    "the default type": Switch(read=torch.get_default_dtype, write=torch.set_default_dtype),
    "gradients": Switch(read=torch.is_grad_enabled, write=torch._C._set_grad_enabled),
    "anomaly mode": Switch(read=torch.is_anomaly_enabled, write=torch._C.set_anomaly_enabled),
    "flash attention": Switch(read=_cuda.flash_sdp_enabled, write=_cuda.enable_flash_sdp),
    "memory-efficient attention": Switch(read=_cuda.mem_efficient_sdp_enabled, write=_cuda.enable_mem_efficient_sdp),
    "plain attention": Switch(read=_cuda.math_sdp_enabled, write=_cuda.enable_math_sdp),
    "attention's reductions in halves": Switch(
        read=_cuda.fp16_bf16_reduction_math_sdp_allowed, write=_cuda.allow_fp16_bf16_reduction_math_sdp
    ),
}
"""Name -> setting. A name is what a user reads where a network changes it."""

State = dict[str, Any]


def state() -> State:
    """All settings as they are. What torch refuses to say is None: two of its flags contradict each other."""
    return {name: _read(switch) for name, switch in (_PRECISIONS | SWITCHES).items()}


def _read(switch: Switch) -> Any:
    with suppress(RuntimeError):
        return switch.read()
    return None


def put(wanted: State) -> None:
    """Set what is not as wanted; the settings left out stay as they are."""
    for name, switch in (_PRECISIONS | SWITCHES).items():
        if name in wanted and wanted[name] is not None and _read(switch) != wanted[name]:
            switch.write(wanted[name])


@contextmanager
def kept() -> Iterator[State]:
    """Yield the settings as they are now, and put them back at the end."""
    before = state()
    try:
        yield before
    finally:
        put(before)


def check(expected: State) -> None:
    """Raise `UnsupportedError` if a setting is no longer as it was set: the network has changed it."""
    now = {name: _read(SWITCHES[name]) for name in SWITCHES}
    changed = [f"{name} {now[name]} instead of {expected[name]}" for name in SWITCHES if now[name] != expected[name]]
    if changed:
        raise UnsupportedError(
            f"the model changed torch's flags while it ran ({', '.join(changed)}), so it did not run as its record "
            "would say: take that out of its forward pass"
        )
