"""What a machine is and what it can do, without its name."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import torch

from leod.config.schema import Precision
from leod.costs.figures import Machine

_GB = 1e9
_CPU_INFORMATION = Path("/proc/cpuinfo")
_BF16_FLAGS = re.compile(r"\b(avx512_bf16|amx_bf16|bf16)\b")


def describe_machine() -> Machine:
    """The machine that this runs on."""
    on_gpu = torch.cuda.is_available()
    properties = torch.cuda.get_device_properties(0) if on_gpu else None
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GB, 1),
        gpu=properties.name if properties else None,
        gpu_memory_gb=round(properties.total_memory / _GB, 1) if properties else None,
        system=f"{platform.system()} {platform.machine()}",
    )


def half_precision(device: str) -> Precision | None:
    """The half precision that a device computes in faster than in float32; None if it has none."""
    if device == "cuda":
        return "16-mixed"
    return "bf16-mixed" if _BF16_FLAGS.search(_cpu_information()) else None


def can_compile(device: str) -> bool:
    """Whether `torch.compile` can work: it needs a C++ compiler for CPUs, Triton for GPUs."""
    if device == "cuda":
        return find_spec("triton") is not None
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


def _cpu_information() -> str:
    try:
        return _CPU_INFORMATION.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_information(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
