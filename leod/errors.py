"""The errors that users of ``leod`` are meant to see.

A message says what is wrong, where (file, data set, row or key), what was expected and what to do.
The command line prints the message without a traceback and exits with status 1.
"""

from __future__ import annotations

from pathlib import Path


class LeodError(Exception):
    """Base of all errors that are the input's or the environment's fault, not the code's."""


class ConfigError(LeodError):
    """A configuration file or a setting is wrong."""


class DataError(LeodError):
    """An input file is missing, damaged, or contradicts another one.

    Args:
        path: The file or folder that is at fault.
        problem: What is wrong with it, what was expected, what to do.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        # Worker processes hand errors back by pickling, which needs the constructor's own arguments.
        return type(self), (self.path, self.problem)


class SensorSizeUnknownError(DataError):
    """Neither a recording nor the caller tells the size of the sensor."""


class CheckpointError(DataError):
    """A checkpoint is damaged or belongs to another model."""


class LockedError(LeodError):
    """Another running process works in the same folder."""


class ResourceError(LeodError):
    """The machine ran out of disk or memory."""
