"""What SLURM says about the processes of a training."""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments import SLURMEnvironment

from leod.config.schema import HardwareConfig
from leod.errors import ConfigError


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
