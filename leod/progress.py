"""Progress of long work: a bar on a terminal, now and then a line in a log file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_LOG_INTERVAL_S = 30.0


class _Lines:
    """Standard error for log files: each state of the bar becomes a line of its own, which ends with it."""

    def write(self, text: str) -> None:
        state = text.strip()
        if state:
            sys.stderr.write(f"{state}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(iterable: Iterable[T] | None, description: str, total: int | None = None, unit: str = "it") -> tqdm[T]:
    """Wrap ``iterable`` so that its progress shows on standard error.

    Args:
        iterable: What is worked through; None where the caller advances the bar with `update`.
        description: What is being done, in a few words.
        total: Number of items where ``iterable`` does not know it.
        unit: Name of one item.
    """
    on_terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        desc=description,
        total=total,
        unit=unit,
        file=sys.stderr if on_terminal else _Lines(),
        # A log file has no cursor to move back: few updates, plain characters, a line each.
        mininterval=0.1 if on_terminal else _LOG_INTERVAL_S,
        ascii=not on_terminal,
        dynamic_ncols=on_terminal,
        miniters=None if on_terminal else 1,
    )
