"""Tool `compare`: is what I got what you got?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from leod.comparison.compare import compare_studies
from leod.comparison.sides import opened
from leod.comparison.table import comparison_json, comparison_text
from leod.files import check_writable, write_json
from leod.options import Argument, Names


def compare(
    a: Annotated[Path, Argument()],
    b: Annotated[Path, Argument()],
    report: Annotated[Path | None, Names("--json")] = None,
) -> None:
    """Compare two studies stage by stage: where they first differ, in what, and whether it matters.

    Exit status: 0 = bit-identical results, 3 = equal within the spread of seeds, 4 = different; 1 and 2 = errors.

    Args:
        a: Folder of results, pack, or folder that a pack was unpacked into.
        b: What to compare it with.
        report: JSON file to write, with every difference.

    Raises:
        DataError: One of them is no study, or a pack is damaged or was altered.
        ResourceError: The disk is full or not writable.
    """
    if report is not None:
        check_writable(report)
    with opened(Path(a)) as left, opened(Path(b)) as right:
        comparison = compare_studies(left, right)
    if report is not None:
        write_json(report, comparison_json(comparison, str(a), str(b)))
    sys.stdout.write(comparison_text(comparison, str(a), str(b)))
    sys.stdout.flush()
    raise SystemExit(comparison.verdict.exit_code)
