"""What this machine cannot do, said before a minute is spent on building it.

Only what torch itself would not say, or would say wrongly, is checked here: TF32 on a card without it silently
computes in fp32, bf16 on a card without it is emulated at a fraction of the speed, training in fp16 alone divides by
zero and is fast with NaN, and a wheel without kernels for the card fails somewhere in the first convolution.
Everything else is left to torch, whose refusal becomes the failure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import torch

from visionbench.machine import accelerator, unseen
from visionbench.machine.environment import device_type
from visionbench.record.spec import Spec, check_parallel

NOT_HERE = "is not here"
"""Said of a device that torch does not see; in the middle of a sweep it means that the card is gone."""

AMPERE = (8, 0)
"""The first compute capability with TF32 and bf16 matrix units."""

TURING = (7, 5)
"""The oldest compute capability in PyPI's default torch wheels from 2.11 on; Volta (7.0) was dropped then."""


class UnsupportedError(Exception):
    """This machine, or this torch on it, cannot do what the spec asks for. The message holds the remedy, if any."""


UNCOMPILED = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
"""Variables by which torch.compile does nothing and says nothing (torch/_dynamo, config.py and eval_frame.py)."""

SUPPRESSED = "TORCHDYNAMO_SUPPRESS_ERRORS"
"""With any value, even 0, what cannot be compiled runs eagerly instead (torch/_dynamo/config.py)."""


def check(spec: Spec, device: str) -> None:
    """Raise `UnsupportedError`, with the remedy, if `device` cannot run `spec`."""
    check_parallel(spec)
    if spec.compile_mode:
        check_compiler()
    if spec.task == "train" and spec.precision == "fp16":
        raise UnsupportedError(
            "training in fp16 alone ends in NaN: AdamW's epsilon of 1e-8 is 0 in fp16; use amp_fp16, amp_bf16 or bf16"
        )
    kind = device_type(device)
    if kind not in ("cpu", "cuda", *accelerator.OTHERS):
        raise UnsupportedError(f"no workload runs on a device of type '{kind}': use cuda or cpu")
    if kind != "cpu" and not accelerator.is_there(device):
        why = unseen.missing() if kind == "cuda" else f"torch sees no such device (torch.{kind})"
        raise UnsupportedError(f"{device} {NOT_HERE}: {why}")
    if kind != "cuda" or accelerator.is_amd():
        if spec.precision == "tf32":
            here = "a CPU" if kind == "cpu" else "this device"
            raise UnsupportedError(f"TF32 is a format of NVIDIA's matrix units: {here} has none, use fp32")
        return
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    if not has_kernels(capability, torch.cuda.get_arch_list()):
        raise UnsupportedError(missing_kernels(name, capability))
    if spec.precision in ("tf32", "bf16", "amp_bf16") and capability < AMPERE:
        raise UnsupportedError(
            f"{name} (compute capability {capability[0]}.{capability[1]}) has no {spec.precision}: it came with 8.0"
        )


def check_compiler() -> None:
    """Raise `UnsupportedError` where a variable makes what is compiled run eagerly."""
    for variable in UNCOMPILED:
        if os.environ.get(variable) == "1":
            raise UnsupportedError(f"{variable}=1 turns torch.compile off without a word: unset it, or compile nothing")
    if os.environ.get(SUPPRESSED):
        raise UnsupportedError(f"{SUPPRESSED} lets what fails to compile run eagerly, timed as compiled: unset it")


def has_kernels(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether a build for `architectures` (`torch.cuda.get_arch_list()`) runs on a device of that capability.

    Machine code (`sm_80`) runs on its own major version from its own minor on; portable code (`compute_80`) on
    everything newer. A letter after the number binds it to one device family (CUDA C++ Programming Guide, section
    "Compute capabilities").
    """
    for architecture in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
        if found is None:
            continue
        kind, major, minor, bound = found.groups()
        built = (int(major), int(minor))
        if built == capability:
            return True
        same_major = built[0] == capability[0] and built[1] < capability[1]
        if bound != "a" and (same_major or (kind == "compute" and not bound and built < capability)):
            return True
    return False


def missing_kernels(name: str, capability: tuple[int, int]) -> str:
    """The sentence for a card that this build of torch has no kernels for."""
    here = f"torch {torch.__version__} has no kernels for {name} (sm_{capability[0]}{capability[1]})"
    if capability < TURING:
        return (
            f"{here}: install torch 2.10 or older (pip install 'torch<=2.10'), or a build for CUDA 12.6 "
            "(PyTorch's installation page says how)"
        )
    return f"{here}: install a newer torch, or a build for a newer CUDA"
