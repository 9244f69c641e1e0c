"""Writing files so that an interruption never leaves one that looks complete.

Everything a stage writes goes to a temporary name in the folder of its destination and is renamed when it is
complete and on disk. A later run may therefore take any file with a final name for good.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from leod.errors import ConfigError, DataError, LockedError, ResourceError

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".incomplete-"

LOCK_WAIT_S = 120.0
"""How long a stage waits for the process that holds the lock of its folder. A job that was cancelled lives on until the
scheduler kills it (SLURM: KillWait, 30 s), and loader processes outlive a killed training by a few seconds; whoever
takes over must not fail because of them."""


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{path.name}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's complaints about the disk into a `ResourceError` that names ``path``."""
    try:
        yield
    except OSError as error:
        # HDF5 reports a full disk as a plain OSError whose message carries the number of the system's error.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or f"errno = {errno.ENOSPC}" in str(error)
        if full:
            raise ResourceError(
                f"{path}: no space left on the disk while writing. Nothing half-written was kept; "
                "free some space and run again."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ResourceError(
                f"{path}: cannot write here ({error.strerror}). Check the folder's permissions."
            ) from error
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block ends without an error.

    Args:
        path: The final name. Parent folders are made.

    Raises:
        ResourceError: The disk is full or not writable; nothing is left behind.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that replaces ``path`` when the block ends without an error."""
    path = Path(path)
    temporary = _temporary_name(path)
    with disk_errors(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.exists():
                retired = _temporary_name(path)
                path.replace(retired)
                temporary.replace(path)
                shutil.rmtree(retired)
            else:
                temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Check that a file can be written at ``path``, before the work whose result it takes. Nothing is left behind.

    Folders that do not exist yet are fine, since writing makes them.

    Raises:
        ConfigError: ``path`` is a folder, or lies below something that is none.
        ResourceError: The folder is not writable, or the disk is full.
    """
    path = Path(path)
    with disk_errors(path):
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; expected the name of a file to write. Add a file name to it.")
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise ConfigError(f"{path}: cannot be written, since {folder} is not a folder. Give another place.")
        # An attempt, since only it knows of file systems that are read-only, and of root's rights.
        probe = _temporary_name(folder / path.name)
        try:
            probe.touch()
        finally:
            probe.unlink(missing_ok=True)


def remove_leftovers(folder: Path, of: Collection[str] | None = None) -> None:
    """Delete what killed processes left under temporary names directly in ``folder``. Call with the lock held.

    Args:
        folder: Need not exist.
        of: Final names; what other names were meant for stays, since other processes may be at work. None = all.
    """
    for leftover in Path(folder).glob(f"{TEMPORARY_PREFIX}*"):
        if of is not None and leftover.name.removeprefix(TEMPORARY_PREFIX).partition("-")[2] not in of:
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    text = json.dumps(content, indent=2, sort_keys=False, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: The file is missing or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "the file does not exist. Run the stage that makes it first.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, f"is not valid JSON ({error}). Delete it and rerun the stage that makes it.") from None


@contextmanager
def locked(folder: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock of ``folder`` so that two jobs never write the same files.

    The lock belongs to the process: the operating system frees it when the process ends, however it ends.

    Args:
        folder: The folder that is written to; made if needed.
        timeout: Seconds to wait for another holder before giving up; None = `LOCK_WAIT_S`.

    Raises:
        LockedError: Another process holds the lock.
    """
    folder = Path(folder)
    timeout = LOCK_WAIT_S if timeout is None else timeout
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        with disk_errors(folder):
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                if timeout:
                    logger.warning("another process is writing to %s; waiting up to %g s for its end", folder, timeout)
                lock.acquire(timeout=timeout, poll_interval=0.2)
    except filelock.Timeout:
        raise LockedError(
            f"{folder}: another process is writing here (it holds {folder / '.lock'}). Wait until it ends or stop it, "
            "then run again."
        ) from None
    try:
        yield
    finally:
        lock.release()
