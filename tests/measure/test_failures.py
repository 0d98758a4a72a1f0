"""Which exception is which kind of failure."""

from __future__ import annotations

import pytest
import torch

from visionbench.machine.support import UnsupportedError
from visionbench.measuring.failures import LONGEST, failure
from visionbench.models.reasons import said, sentence

ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError(ALLOCATOR), "out_of_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "out_of_memory"),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), "out_of_memory"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "out_of_memory"),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), "out_of_memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
            "out_of_memory",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), "out_of_memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"), "error"),
        (UnsupportedError("no TF32"), "unsupported"),
        (NotImplementedError("later"), "unsupported"),
        (RuntimeError("\"conv2d\" not implemented for 'Half'"), "unsupported"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "unsupported"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
        (KeyError("out of memory"), "error"),
        (SystemExit(3), "crashed"),
    ],
)
def test_kind(error: BaseException, kind: str) -> None:
    found = failure(error, "warm-up")
    assert found.kind == kind
    assert found.stage == "warm-up"
    assert found.message


def test_the_message_is_the_first_two_lines_that_say_something() -> None:
    found = failure(ValueError("one\n\n  two\nthree"), "build")
    assert found.message == "ValueError: one two"


def test_an_exception_that_cannot_say_its_text_is_a_failure_too() -> None:
    class MuteError(RuntimeError):
        def __str__(self) -> str:
            raise ValueError("no text")

    assert (failure(MuteError(), "build").kind, failure(MuteError(), "build").message) == ("error", "MuteError")
    assert said(MuteError()) == sentence(MuteError()) == "MuteError"


def test_a_message_fits_a_footnote() -> None:
    assert len(failure(ValueError("x" * 10_000), "build").message) <= LONGEST


def test_an_exception_without_words_is_named() -> None:
    assert failure(ValueError(), "build").message == "ValueError"
