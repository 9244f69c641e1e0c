"""Several jobs on a machine with several GPUs: each claims its own.

A scheduler such as SLURM shows a job the GPUs that it may use. Without one, every job sees all of them, and would take
the first.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from pathlib import Path

import filelock

logger = logging.getLogger(__name__)

_VARIABLE = "CUDA_VISIBLE_DEVICES"
_DEVICE_FILES = Path("/dev")
_POLL_S = 1.0
_claims: dict[str, filelock.BaseFileLock] = {}


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; asks neither CUDA nor PyTorch."""
    listed = os.environ.get(_VARIABLE)
    if listed is not None:
        names = [name.strip() for name in listed.split(",")]
        # CUDA takes the list up to the first entry that is no device.
        stop = next((index for index, name in enumerate(names) if name in ("", "-1", "NoDevFiles")), len(names))
        return names[:stop]
    count = sum(1 for entry in _DEVICE_FILES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", entry.name))
    return [str(index) for index in range(count)]


def claim_gpus(count: int) -> list[str]:
    """Make ``count`` of the visible GPUs this process's own until it ends, and the only ones that it sees.

    Nothing happens where no more than ``count`` GPUs are visible: there is nothing to choose. Waits while other jobs
    of this user on this machine hold too many of them. Has to be called before CUDA is in use.

    Args:
        count: Number of GPUs.

    Returns:
        The GPUs that this process sees now.
    """
    if _claims:
        return list(_claims)
    visible = visible_gpus()
    if len(visible) <= count:
        return visible
    folder = Path(tempfile.gettempdir()) / f"leod-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waiting = False
    while True:
        for name in visible:
            lock = filelock.FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock")
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                continue
            _claims[name] = lock
            if len(_claims) == count:
                os.environ[_VARIABLE] = ",".join(_claims)
                logger.info("using GPU %s of %s", os.environ[_VARIABLE], ",".join(visible))
                return list(_claims)
        # Holding some while waiting for more could make two jobs wait for each other.
        release_gpus()
        if not waiting:
            logger.warning("all %d visible GPUs are taken by other jobs; waiting (locks in %s)", len(visible), folder)
            waiting = True
        time.sleep(_POLL_S)


def release_gpus() -> None:
    """Give up what this process has claimed; it keeps seeing only those GPUs."""
    for lock in _claims.values():
        lock.release()
    _claims.clear()
