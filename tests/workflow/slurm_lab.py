"""A real SLURM of one node with two fake GPUs, for drills. Needs root on Debian; the daemons are ended by their pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import filelock

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged")
SETTINGS = Path("/etc/slurm")
KILL_WAIT_S = 5
BOOT_S = 25
"""SLURM misses a job on a node that comes back only if it began 20 s before; younger ones may not have arrived yet."""

_SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation={lab}/state
SlurmdSpoolDir={lab}/spool
SlurmdParameters=config_overrides
SlurmctldPidFile={lab}/run/slurmctld.pid
SlurmdPidFile={lab}/run/slurmd.pid
SlurmctldLogFile={lab}/log/slurmctld.log
SlurmdLogFile={lab}/log/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait={kill_wait}
MinJobAge=300
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=200000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=2880 State=UP PriorityTier=1
PartitionName=gpu Nodes={host} MaxTime=2880 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={host} MaxTime=2880 State=UP PriorityTier=10 PreemptMode=OFF
"""


class LabError(Exception):
    """SLURM cannot be brought up here."""


def why_not_here() -> str | None:
    """Why the drill has to be skipped, or None."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("apt-get") is None:
        return "no Debian"
    ours = SETTINGS / "slurm.conf"
    if ours.exists() and "ClusterName=lab\n" not in ours.read_text():
        return f"this machine has a SLURM of its own ({ours})"
    return None


def install() -> None:
    """Install SLURM and munge unless they are there."""
    if all(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in PROGRAMS):
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"apt-get {command[0]} failed:\n{done.stdout}\n{done.stderr}")


class SlurmLab:
    """The running cluster; a context manager that boots and stops it.

    Args:
        folder: For its state, spool and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self._pids: dict[str, int] = {}
        self._alone = filelock.FileLock(Path(tempfile.gettempdir()) / "leod-slurm-lab.lock")

    def __enter__(self) -> SlurmLab:
        # There is one /etc/slurm and one set of ports.
        self._alone.acquire(timeout=600)
        try:
            self._boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["scancel", "--user=root", "--full"], check=False, capture_output=True)
        self.stop()

    def _boot(self) -> None:
        for name in ("run", "log", "state", "spool", "dev"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(2):
            # SLURM takes nothing but device nodes for GPUs; these are further names of /dev/null.
            os.mknod(self.folder / "dev" / f"gpu{index}", 0o20666, os.makedev(1, 3))
        SETTINGS.mkdir(exist_ok=True)
        # Jobs find the settings here only: the executor plugin removes SLURM_CONF from their environment.
        (SETTINGS / "slurm.conf").write_text(_SLURM_CONF.format(lab=self.folder, host=self.host, kill_wait=KILL_WAIT_S))
        gpus = f"NodeName={self.host} Name=gpu Type=fake File={self.folder}/dev/gpu[0-1]\n"
        (SETTINGS / "gres.conf").write_text(gpus)
        subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
        if not Path("/run/munge/munge.socket.2").exists():
            subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
            self._pids["munged"] = _read_pid(Path("/run/munge/munged.pid"))
        self._start("slurmctld", ["/usr/sbin/slurmctld"])
        self._start("slurmd", ["/usr/sbin/slurmd", "-N", self.host])
        wait_until(lambda: _output("sinfo", "-h", "-p", "gpu", "-o", "%T") == "idle", 60, "the node is idle")

    def _start(self, name: str, command: list[str]) -> None:
        noted = self.folder / "run" / f"{name}.pid"
        # Left by a daemon that was killed.
        noted.unlink(missing_ok=True)
        subprocess.run(command, check=True)
        self._pids[name] = _read_pid(noted)

    def stop(self) -> None:
        """End the daemons."""
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self._pids:
                send(self._pids[name], signal.SIGTERM)
                with contextlib.suppress(LabError):
                    wait_until(lambda: has_ended(self._pids[name]), 10, f"{name} has ended")  # noqa: B023
        self._alone.release()

    def kill_node(self) -> None:
        """The node dies: its daemon and all that runs on it are killed at once."""
        os.kill(self._pids["slurmd"], signal.SIGKILL)
        steps = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _text(entry / "cmdline").startswith("slurmstepd:")
        ]
        below = [child for step in steps for child in _descendants(step)]
        # The steps' daemons first: they would report the ends of what they watch.
        for pid in [*steps, *below]:
            send(pid, signal.SIGKILL)
        for pid in below:
            wait_until(lambda: has_ended(pid), 10, f"process {pid} has ended")  # noqa: B023

    def revive_node(self) -> None:
        """The node comes back, as late as after booting."""
        time.sleep(BOOT_S)
        self._start("slurmd", ["/usr/sbin/slurmd", "-N", self.host])


def running_job(rule: str) -> str | None:
    """The id of a running job of a rule, as the executor plugin comments it."""
    for line in _output("squeue", "-h", "-t", "RUNNING", "-o", "%i|%k").splitlines():
        number, _, comment = line.partition("|")
        if comment.startswith(f"rule_{rule}"):
            return number
    return None


def wait_until(condition, seconds: float, what: str) -> None:
    """Poll until something is true.

    Raises:
        LabError: It did not become true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.1)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def has_ended(pid: int) -> bool:
    """Whether a process does nothing any more; it may still wait for its parent to take notice."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return not fields or fields[0] in "ZX"


def _descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _text(entry / "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                parents[int(entry.name)] = int(fields[1])
    found, frontier = [], [pid]
    while frontier:
        parent = frontier.pop()
        children = [child for child, above in parents.items() if above == parent]
        found += children
        frontier += children
    return found


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _read_pid(path: Path) -> int:
    wait_until(lambda: _text(path).strip().isdigit(), 20, f"{path} is written")
    return int(_text(path))
