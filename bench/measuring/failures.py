"""From an exception to a `Failure`: what kind it is, and the one or two lines of it that a person needs."""

from __future__ import annotations

import re

import torch

from visionbench.machine.support import UnsupportedError
from visionbench.models.outputs import UntrainableError
from visionbench.models.reasons import text_of
from visionbench.record.record import Failure, FailureKind

LONGEST = 300
"""Characters of a message. It stands in a table's footnote, not in a log."""

# torch has a class for the allocator's refusal only on devices; the libraries and the host's allocator raise
# RuntimeError with these words. cuDNN ends so when no algorithm's workspace fits, and a handle of cuBLAS, cuDNN or
# cuSOLVER when it finds no memory for itself.
_MEMORY = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory|out of memory"
    r"|CU\w+_STATUS_(ALLOC_FAILED|NOT_INITIALIZED|\w*DEVICE_ALLOCATION_FAILED)"
    r"|(FIND|GET) was unable to find an engine to execute this computation"
    r"|Unable to find a valid cuDNN algorithm"
)
_TAKEN = "CUDA-capable device(s) is/are busy or unavailable"
"""CUDA of a card that is for one process at a time and has one, or that is for none (cudaErrorDevicesUnavailable)."""
_UNSUPPORTED = re.compile(r"not implemented for '|no kernel image is available")


def failure(error: BaseException, stage: str) -> Failure:
    """The failure that `error` is, met at `stage`."""
    return Failure(kind=_kind(error), stage=stage, message=_message(error))


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, SystemExit):
        return "crashed"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return "out_of_memory"
    if isinstance(error, (UnsupportedError, UntrainableError, NotImplementedError)):
        return "unsupported"
    if isinstance(error, RuntimeError) and _MEMORY.search(text_of(error)):
        return "out_of_memory"
    refused = _UNSUPPORTED.search(text_of(error)) or _is_taken(error)
    return "unsupported" if refused else "error"


def _is_taken(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _TAKEN in text_of(error)


def _message(error: BaseException) -> str:
    if isinstance(error, UnsupportedError):
        return text_of(error)
    if isinstance(error, UntrainableError):
        return f"it cannot be trained: {error}; --task inference measures it"
    if isinstance(error, SystemExit):
        return f"the model left the process by sys.exit({error.code!r})"
    if _is_taken(error):
        return (
            "another process has the GPU, which is for one at a time, or no process may have it: see `nvidia-smi`, "
            "and `sudo nvidia-smi -c DEFAULT` lets them share it"
        )
    lines = [line.strip() for line in text_of(error).splitlines() if line.strip()]
    text = " ".join([f"{type(error).__name__}:", *lines[:2]]) if lines else type(error).__name__
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
