from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from leod.config.schema import HardwareConfig
from leod.errors import ConfigError, ResourceError
from leod.inference.devices import autocast, choose_device, deterministic_algorithms, memory_errors


def test_a_missing_gpu_is_an_error_only_where_one_is_demanded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(HardwareConfig(accelerator="auto")).type == "cpu"
    with pytest.raises(ConfigError, match="sees no GPU"):
        choose_device(HardwareConfig(accelerator="gpu"))


def test_a_gpu_is_used_unless_the_cpu_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(HardwareConfig(accelerator="auto")).type == "cuda"
    assert choose_device(HardwareConfig(accelerator="cpu")).type == "cpu"


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("32-true", torch.float32),
        ("bf16-mixed", torch.bfloat16),
        ("16-mixed", torch.float32),  # half precision is for GPUs
    ],
)
def test_precision_on_a_cpu(precision, dtype):
    layer = torch.nn.Linear(2, 2)
    with autocast(torch.device("cpu"), precision):
        assert layer(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:113] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."),
    ],
)
def test_running_out_of_memory_is_told_apart(error):
    with (
        pytest.raises(ResourceError, match=r"out of memory during a test.*Do this"),
        memory_errors("a test", "Do this."),
    ):
        raise error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes differ"), memory_errors("a test", "Do this."):
        raise RuntimeError("shapes differ")


def test_what_has_no_deterministic_algorithm_fails_only_where_one_is_wanted():
    def put():
        torch.zeros(2).put_(torch.tensor([0]), torch.tensor([1.0]))

    with pytest.raises(RuntimeError, match="deterministic"), deterministic_algorithms(True):
        put()
    with deterministic_algorithms(False):
        put()
    put()


REPEATED_WORK = """
import resource, torch
from leod.inference.devices import prepare_cpu

def work():
    # Both sizes: the allocator has another way for those above 32 MB.
    for megabytes in (40, 10, 40):
        torch.zeros(megabytes * 2**18).exp()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

prepare_cpu(1)
# Until every size has found its place, a call may still take something new.
print(torch.get_num_threads(), min(faults() for _ in range(8)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_repeated_work_takes_no_new_memory_from_the_system():
    run = subprocess.run([sys.executable, "-c", REPEATED_WORK], capture_output=True, text=True, check=True)
    threads, faults = run.stdout.split()
    assert threads == "1"
    # Taken anew, these tensors would be 46 000 pages each time.
    assert int(faults) < 1000
