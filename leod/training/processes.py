"""Several processes that train one detector as one process with the whole batch would.

Gradients are averaged by Lightning's DDP strategy, statistics of batch normalisation by `leod.training.batch_norm`.
What that leaves to do is here: sums and messages between the processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment
from torch import Tensor

from leod.config.schema import HardwareConfig
from leod.files import locked
from leod.models.states import LstmState
from leod.training.slurm import slurm_tasks

Value = TypeVar("Value")


class Processes:
    """The processes of one training; a single one unless `torch.distributed` is in use."""

    def __init__(self) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if distributed else 0
        self.size = dist.get_world_size() if distributed else 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all processes; no gradient passes."""
        if self.size > 1:
            tensor = tensor.detach().clone()
            dist.all_reduce(tensor)
        return tensor

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.size > 1:
            tensor = torch.tensor(number)
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
            return int(tensor)
        return number

    def from_first(self, make: Callable[[], Value]) -> Value:
        """Let the first process make something and give it to all."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.first else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def join_slots(self, states: list[LstmState]) -> list[LstmState]:
        """Recurrent states of all slots of the batch, on the CPU, from those of each process.

        Slot s belongs to process s modulo the number of processes (`leod.sampling.slots.Slots.of_rank`).
        """
        joined = []
        for pair in states:
            whole = []
            for part in pair:
                own = part.detach().cpu().contiguous()
                if self.size == 1:
                    whole.append(part.detach().cpu().clone())
                    continue
                parts = [torch.empty_like(own) for _ in range(self.size)]
                dist.all_gather(parts, own)
                whole.append(torch.stack(parts, dim=1).flatten(0, 1))
            joined.append((whole[0], whole[1]))
        return joined

    def own_slots(self, states: list[LstmState]) -> list[LstmState]:
        """The states of this process's slots, from what `join_slots` gave in any number of processes."""
        if self.size == 1:
            return states
        return [(hidden[self.rank :: self.size], cell[self.rank :: self.size]) for hidden, cell in states]


@contextmanager
def process_group(hardware: HardwareConfig) -> Iterator[ClusterEnvironment]:
    """Connect the processes of a training; with one device there is nothing to connect.

    Yields:
        The environment for Lightning's trainer, which finds the connection made.
    """
    if hardware.devices == 1:
        # Without this Lightning would ask SLURM's variables how many processes there are.
        yield LightningEnvironment()
        return
    environment: ClusterEnvironment | None = slurm_tasks(hardware)
    if environment is None:
        environment = LightningEnvironment()
        environment.set_world_size(hardware.devices)
        environment.set_global_rank(environment.local_rank())
    on_gpu = hardware.accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(environment.local_rank())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=f"tcp://{environment.main_address}:{environment.main_port}",
        rank=environment.global_rank(),
        world_size=environment.world_size(),
    )
    try:
        yield environment
    finally:
        dist.destroy_process_group()


@contextmanager
def lock_results(output: Path, hardware: HardwareConfig) -> Iterator[None]:
    """Hold the lock of ``output`` in the process that writes the results; see `leod.files.locked`."""
    environment = slurm_tasks(hardware)
    if environment is not None and environment.global_rank() != 0:
        yield
        return
    with locked(output):
        yield
