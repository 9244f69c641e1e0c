"""Where and in which precision a detector runs."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from leod.config.schema import HardwareConfig, Precision
from leod.errors import ConfigError, ResourceError
from leod.gpus import claim_gpus
from leod.models.detector import Detector
from leod.models.neck import fold_batch_norms

logger = logging.getLogger(__name__)
_MALLOC_TRIM_THRESHOLD, _MALLOC_TOP_PAD, _MALLOC_MMAP_MAX = -1, -2, -4
"""Numbers of glibc's malloc.h."""
_AUTOCAST_DTYPES: dict[str, torch.dtype] = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def choose_device(hardware: HardwareConfig) -> torch.device:
    """The device that ``hardware`` asks for; 'auto' takes a GPU where there is one that no other job has claimed.

    Raises:
        ConfigError: A GPU is asked for, but PyTorch sees none.
    """
    if hardware.accelerator == "cpu":
        return torch.device("cpu")
    claim_gpus(1)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if hardware.accelerator == "gpu":
        raise ConfigError(
            "hardware.accelerator is 'gpu', but PyTorch sees no GPU. Check the driver and the installed build of "
            "PyTorch, or set hardware.accelerator to 'auto' or 'cpu'."
        )
    return torch.device("cpu")


def prepare_cpu(threads: int) -> None:
    """Set how this process computes on the CPU: its number of threads, and that it keeps the memory it frees.

    By default glibc takes each tensor of some megabytes from the system anew and gives it back, and the system clears
    every page of it first. A step of a training or of inference wants the same memory as the one before it.

    Args:
        threads: CPU threads of PyTorch; 0 = PyTorch's choice.
    """
    if threads:
        torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        malloc_options = ctypes.CDLL(None).mallopt
        malloc_options(_MALLOC_MMAP_MAX, 0)
        malloc_options(_MALLOC_TRIM_THRESHOLD, 2**31 - 1)
        malloc_options(_MALLOC_TOP_PAD, 64 * 2**20)


def prepare_for_inference(detector: Detector, hardware: HardwareConfig) -> Detector:
    """Move ``detector`` to its device and make it fast: also prepares the CPU (`prepare_cpu`).

    Args:
        detector: Changed in place, for inference only: it is in evaluation mode, and its convolutions normalise.
        hardware: `accelerator`, `threads` and `compile` are used.

    Returns:
        The same detector.
    """
    prepare_cpu(hardware.threads)
    detector.to(choose_device(hardware)).eval()
    fold_batch_norms(detector)
    if hardware.compile:
        detector.compile_backbone()
    return detector


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which a detector computes in ``precision``.

    Half precision is for GPUs; on a CPU '16-mixed' computes in float32.
    """
    dtype = _AUTOCAST_DTYPES.get(precision)
    if dtype is torch.float16 and device.type == "cpu":
        logger.warning("precision 16-mixed needs a GPU; computing in float32")
        dtype = None
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Inside, PyTorch computes with algorithms only that give the same bits each time, or fails where it has none.

    CUDA's library for matrix products takes note of this when a process first uses it.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def memory_errors(activity: str, advice: str) -> Iterator[None]:
    """Turn PyTorch's and the system's complaints about memory into one clear message.

    Args:
        activity: What ran out of memory, e.g. "inference".
        advice: Which settings help.

    Raises:
        ResourceError: The GPU or the machine ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
            raise ResourceError(f"out of memory during {activity}. {advice}") from error
        if "DataLoader worker" in text and ("Killed" in text or "Bus error" in text):
            raise ResourceError(
                f"out of memory during {activity}: a loader process was killed. {advice} Fewer loader processes "
                "(hardware.num_workers) help as well."
            ) from error
        raise
