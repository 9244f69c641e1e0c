"""Working checkpoints: everything that a training needs to go on as if nothing had happened.

They are undeclared files (Snakemake deletes declared outputs before every start), each complete in itself, protected
by a digest, and bound to what the training is made from by a key (`leod.reuse`).
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from leod.files import atomic_file, disk_errors, remove_leftovers

logger = logging.getLogger(__name__)

_MAGIC = b"LEOD working checkpoint 1\n"
_DIGEST_LENGTH = hashlib.sha256().digest_size
_NAME = re.compile(r"step-(\d{9})\.ckpt")

KEPT_CHECKPOINTS = 2


def working_folder(output: Path, scratch: Path | None) -> Path:
    """Where the working checkpoints of the training that writes to ``output`` live.

    Args:
        output: The training's results folder.
        scratch: Fast storage for working files, or None to keep them beside the results.

    Returns:
        ``output/checkpoints``, or a folder in ``scratch`` whose name follows from the absolute path of ``output``, so
        that the next attempt finds it.
    """
    if scratch is None:
        return Path(output) / "checkpoints"
    absolute = Path(output).resolve()
    digest = hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16]
    return Path(scratch).expanduser() / f"{absolute.parent.name}-{absolute.name}-{digest}"


class _UnreadableError(Exception):
    """A working checkpoint is cut short or altered."""


def _write(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC)
        file.write(hashlib.sha256(payload).digest())
        file.write(payload)


def _read(path: Path) -> dict[str, Any]:
    # The archive format of torch does not notice altered tensor bytes, hence the digest.
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _UnreadableError("it does not begin like a working checkpoint")
        digest = file.read(_DIGEST_LENGTH)
        payload = file.read()
    if hashlib.sha256(payload).digest() != digest:
        raise _UnreadableError("its content does not fit its digest: it was cut short or altered")
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)


@dataclass(frozen=True)
class WorkingCheckpoints:
    """The working checkpoints of one training. The caller holds the lock of the training's results folder.

    Attributes:
        folder: Where they live.
        key: See `leod.reuse.key`; a checkpoint with another one is never resumed.
    """

    folder: Path
    key: str

    def _by_step(self) -> list[tuple[int, Path]]:
        """Steps and files, newest first."""
        if not self.folder.is_dir():
            return []
        found = [(int(match[1]), path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return sorted(found, reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write the state after ``step`` optimiser steps, replacing one of the same step; delete all but the newest.

        Args:
            step: Finished optimiser steps.
            state: Tensors and plain Python values only.

        Returns:
            The file.

        Raises:
            ResourceError: The disk is full or not writable; the older checkpoints are still there.
        """
        path = self.folder / f"step-{step:09d}.ckpt"
        _write(path, {"key": self.key, "step": step, "state": state})
        for _, old in self._by_step()[KEPT_CHECKPOINTS:]:
            old.unlink(missing_ok=True)
        return path

    def load_newest(self) -> dict[str, Any] | None:
        """Read the newest readable state with this key, or None if there is none.

        Damaged files are renamed to ``*.damaged`` and those of other settings to ``*.other-settings``, with a warning.
        """
        if self.folder.is_dir():
            remove_leftovers(self.folder)
        for _, path in self._by_step():
            try:
                content = _read(path)
                # Those of older programs have no key.
                made_from, state = content.get("key"), content["state"]
            except Exception as error:
                self._set_aside(path, ".damaged", f"cannot be read ({error})")
                continue
            if made_from == self.key:
                return state
            self._set_aside(
                path,
                ".other-settings",
                "was made with other settings, frames, labels or initial weights, or by another program",
            )
        return None

    @staticmethod
    def _set_aside(path: Path, suffix: str, reason: str) -> None:
        target = path.with_name(path.name + suffix)
        logger.warning("%s %s; it is not used and now called %s", path, reason, target.name)
        with disk_errors(path):
            path.replace(target)

    def remove(self) -> None:
        """Delete the working checkpoints; what was set aside stays, and the folder with it."""
        for _, path in self._by_step():
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
