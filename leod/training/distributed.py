"""Several processes that train one detector as one process with the whole batch would.

Gradients are averaged by Lightning's DDP strategy. What that leaves to do is here: starting the processes, statistics
of batch normalisation over the whole batch, and sums and messages between the processes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment
from torch import Tensor, nn

from leod.config.schema import HardwareConfig
from leod.errors import ConfigError, LeodError, ResourceError
from leod.files import locked
from leod.models.states import LstmState
from leod.training.interruption import StopRequests, TrainingStopped

_LOG = logging.getLogger(__name__)

Value = TypeVar("Value")


# ------------------------------------------------------------------------------------------- which process this is


def slurm_tasks(hardware: HardwareConfig) -> SLURMEnvironment | None:
    """SLURM's description of this process, if SLURM has started one task for each of ``hardware.devices``.

    Raises:
        ConfigError: The tasks are not divided equally among the nodes.
    """
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if hardware.devices == 1 or tasks != hardware.devices or not SLURMEnvironment.detect():
        return None
    nodes = slurm_nodes()
    if tasks % nodes:
        raise ConfigError(
            f"SLURM has started {tasks} tasks on {nodes} nodes; every node needs the same number. Set tasks_per_node "
            "and nodes of the rule in the profile, and hardware.devices to their product."
        )
    # Lightning insists on a variable that SLURM does not always pass on to the tasks.
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(tasks // nodes))
    return SLURMEnvironment(auto_requeue=False)


def slurm_nodes() -> int:
    """Nodes over which SLURM has spread the tasks."""
    return int(os.environ.get("SLURM_NNODES", "1"))


@contextmanager
def lock_results(output: Path, hardware: HardwareConfig) -> Iterator[None]:
    """Hold the lock of ``output`` in the process that writes the results; see `leod.files.locked`."""
    environment = slurm_tasks(hardware)
    if environment is not None and environment.global_rank() != 0:
        yield
        return
    with locked(output):
        yield


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

        Slot s belongs to process s modulo the number of processes (`leod.data.mixed.Slots.of_rank`).
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


# ------------------------------------------------------------------------------------------------ batch normalisation


class _SumOverProcesses(torch.autograd.Function):
    """A sum over all processes through which gradients pass; each process's share gets the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        del ctx
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the batches of all processes together, on any device.

    `torch.nn.SyncBatchNorm` does the same, on GPUs only. A process may have an empty batch.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise float [B, C, H, W], where B may be 0."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        count = values.new_full((1,), float(values.shape[0] * values.shape[2] * values.shape[3]))
        sums = _SumOverProcesses.apply(torch.cat((values.sum(dim=(0, 2, 3)), count)))
        count = sums[-1].detach()
        mean = sums[:-1] / count.clamp(min=1.0)
        centred = values - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum(dim=(0, 2, 3))) / count.clamp(min=1.0)
        self._update_running_statistics(mean.detach(), variance.detach(), count)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        momentum = self.momentum * (count > 0)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1.0).clamp(min=1.0), momentum)
        self.num_batches_tracked.add_(count > 0)


def use_global_batch_norm(module: nn.Module) -> None:
    """Let every batch normalisation in ``module`` work on the batches of all processes; names and values stay."""
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = GlobalBatchNorm2d


# ------------------------------------------------------------------------------------------------- starting processes


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


def run_in_processes(function: Callable[[Value], None], argument: Value, count: int, requests: StopRequests) -> None:
    """Run ``function(argument)`` in new processes on this machine and wait for them.

    Signals to this process are passed on. When one process fails the others are ended. When this process dies the
    others end themselves, for they no longer hold the lock of the results.

    Args:
        function: A function of a module.
        argument: Something that can be pickled.
        count: Number of processes.
        requests: Notes this process's signals.

    Raises:
        LeodError: What a process raised.
        TrainingStopped: The processes have saved and stopped.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, connections = [], []
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run_one, args=(function, argument, rank, port, os.getpid(), sender))
        process.start()
        sender.close()
        processes.append(process)
        connections.append(receiver)
    try:
        _wait_for(processes, connections, requests)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()


def _wait_for(processes: list[Any], connections: list[Connection], requests: StopRequests) -> None:
    passed_on: int | None = None
    waiting = dict(zip(connections, processes, strict=True))
    stopped: TrainingStopped | None = None
    while waiting:
        for connection in wait(list(waiting), timeout=0.2):
            process = waiting.pop(connection)
            try:
                error = connection.recv()
            except EOFError:
                process.join()
                raise ResourceError(
                    f"a training process ended with status {process.exitcode}; see above. If the machine ran out of "
                    "memory, lower batch_size, sequence_length or hardware.num_workers."
                ) from None
            if isinstance(error, TrainingStopped):
                stopped = error
            elif error is not None:
                raise error
        if requests.signal is not None and requests.signal != passed_on:
            passed_on = requests.signal
            for process in waiting.values():
                os.kill(process.pid, passed_on)
    if stopped is not None:
        raise stopped


def _run_one(
    function: Callable[[Value], None], argument: Value, rank: int, port: int, parent: int, sender: Connection
) -> None:
    """Body of one process."""

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.update({"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    try:
        function(argument)
    except (LeodError, TrainingStopped) as error:
        sender.send(error)
    else:
        sender.send(None)
