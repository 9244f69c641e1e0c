"""A comparison as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from leod.comparison.verdict import Comparison, Difference, StageComparison, Verdict

_MOST_ROWS = 40
_MOST_DIFFERENCES = 3


def comparison_text(comparison: Comparison, a: str, b: str) -> str:
    """The comparison in a table of what differs, the first difference, and a verdict.

    Args:
        comparison: The comparison.
        a: What the first study is called.
        b: What the second one is called.
    """
    shown = [stage for stage in comparison.stages if stage.verdict or stage.news]
    alike = len(comparison.stages) - len(shown)
    lines = [f"A: {a}", f"B: {b}", ""]
    if shown:
        told = list(_rows(shown))
        rows = [("stage", "verdict", "in what (A → B)"), *told[:_MOST_ROWS]]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines += [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]
        if len(told) > _MOST_ROWS:
            lines.append(f"… and {len(told) - _MOST_ROWS} more; --json has all")
        lines.append("")
    lines.append(
        f"{alike} of {len(comparison.stages)} stage runs do not differ" + (", or in nothing new." if shown else ".")
    )
    lines += [f"Note: {note}." for note in comparison.notes]
    if comparison.first is not None:
        lines.append(f"First difference: {comparison.first.run.name}: {_listed(comparison.first.differences)}")
    lines.append(f"Verdict: {_verdict(comparison)}")
    return "\n".join(lines) + "\n"


def comparison_json(comparison: Comparison, a: str, b: str) -> dict[str, Any]:
    """The comparison as plain JSON data; AP in 0..1."""
    spread = comparison.spread
    return {
        "a": a,
        "b": b,
        "verdict": comparison.verdict.text,
        "exit_code": comparison.verdict.exit_code,
        "first_difference": None if comparison.first is None else comparison.first.run.name,
        "spread": None if spread is None else asdict(spread) | {"limit": spread.limit},
        "notes": comparison.notes,
        "stages": [
            {
                "stage": stage.run.stage,
                "experiment": {"a": stage.a and stage.a.experiment, "b": stage.b and stage.b.experiment},
                "round": stage.run.round,
                "part": stage.run.part,
                "verdict": stage.verdict.text,
                "differences": [asdict(entry) for entry in stage.differences],
            }
            for stage in comparison.stages
        ],
    }


def _rows(stages: list[StageComparison]) -> Iterator[tuple[str, str, str]]:
    """A row for each stage run; runs of an experiment that only one study has share one."""
    for (experiment, not_in_a, not_in_b), group in groupby(
        stages, lambda stage: (stage.run.experiment, stage.a is None, stage.b is None)
    ):
        members = list(group)
        if (not_in_a or not_in_b) and len(members) > 1:
            what = f"{len(members)} stage runs, {members[0].run.stage} to {members[-1].run.stage}"
            yield f"{experiment}: {what}", members[0].verdict.text, _listed(members[0].differences)
        else:
            yield from map(_row, members)


def _row(stage: StageComparison) -> tuple[str, str, str]:
    name = stage.run.name
    if stage.a is not None and stage.b is not None and stage.a.experiment != stage.b.experiment:
        name += f" (B: {stage.b.experiment})"
    entries = stage.news or stage.differences
    follows = [entry for entry in stage.differences if entry.kind == "inputs"]
    if not any(entry.kind != "results" for entry in entries) and follows:
        entries = [*follows[:1], *entries]
    return name, stage.verdict.text, _listed(entries)


def _listed(entries: list[Difference]) -> str:
    more = f"; {len(entries) - _MOST_DIFFERENCES} more" if len(entries) > _MOST_DIFFERENCES else ""
    return "; ".join(str(entry) for entry in entries[:_MOST_DIFFERENCES]) + more


def _verdict(comparison: Comparison) -> str:
    verdict, spread = comparison.verdict, comparison.spread
    scatter = (
        "the spread of seeds is not known, since no experiment of either study has two seeds"
        if spread is None
        else f"seeds scatter by {100 * spread.deviation:.1f} AP, so up to {100 * spread.limit:.1f} may be chance"
    )
    if verdict == Verdict.IDENTICAL:
        differs = any(stage.differences for stage in comparison.stages)
        return "bit-identical results" + (
            ", though not everything that they were made from is the same." if differs else "."
        )
    if verdict == Verdict.WITHIN_SPREAD:
        return f"equal within the spread of seeds ({scatter})."
    return f"different ({scatter})."
