"""Stage by stage, in what two studies differ."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from leod.comparison.verdict import Comparison, Difference, Spread, StageComparison, Verdict
from leod.errors import DataError
from leod.packs.content import content_digest
from leod.packs.packing import flat
from leod.packs.portable import ELSEWHERE
from leod.packs.study_files import StageRun, StudyFiles
from leod.sequences.layout import SPLITS
from leod.study.plan import Cell, DetectorFiles

_DATA = ("simulate", "preprocess", "subsample_labels")
"""Stages before any training: what differs in their results is no scatter of seeds."""
_TRAININGS = ("pretrain", "self_train")
_GROUPS = {"check_sequences": "preprocess", "suggest_labels": "subsample_labels", "import_split": "subsample_labels"}
_MOST_SHOWN = 20
_FIRST_FIGURES = ("metrics.AP", "best.metrics.AP")
_WHAT = {"model": "weights", "predictions": "detections", "dataset": "labels of the pseudo-labelled set"}

Key = tuple[str, str, int | None, str]


def compare_studies(a: StudyFiles, b: StudyFiles) -> Comparison:
    """Compare two studies, stage by stage in the order of the DAG.

    Raises:
        DataError: A file that says what a study consists of is missing or damaged.
    """
    return _Comparing(a, b).compare()


class _Comparing:
    def __init__(self, a: StudyFiles, b: StudyFiles) -> None:
        self.a, self.b = a, b
        self.notes: list[str] = []
        self.found: dict[Key, StageComparison] = {}
        self.produced: dict[str, Key] = {}

    def compare(self) -> Comparison:
        """Everything."""
        partners = _partners(self.a, self.b)
        runs_a = {_key(run, run.experiment): run for run in self.a.runs}
        runs_b = {_key(run, partners.get(run.experiment, run.experiment)): run for run in self.b.runs}
        self.produced = {path: key for key, run in runs_a.items() for path in run.outputs.values()}
        for key in _merged(list(runs_a), list(runs_b)):
            self.found[key] = self._stage(key, runs_a.get(key), runs_b.get(key))
        stages = list(self.found.values())
        spread = self._spread()
        _judge(self.found, spread, self._average_precision)
        _mark_news(stages)
        return Comparison(stages, spread, self.notes)

    # -------------------------------------------------------------------------------------------- one stage

    def _stage(self, key: Key, a: StageRun | None, b: StageRun | None) -> StageComparison:
        if a is None or b is None:
            only = "only in A" if b is None else "only in B"
            return StageComparison(a, b, [_nothing(only)])
        try:
            made = [*self._made(a, b)]
        except DataError as error:
            made = [_nothing(str(error))]
        results = [entry for role in a.outputs for entry in self._output(role, a, b)]
        if key[0] == "preprocess":
            results += self._sequences(a, b)
        return StageComparison(a, b, [*made, *results])

    def _made(self, a: StageRun, b: StageRun) -> Iterator[Difference]:
        """In what the ways differ that two results were made."""
        left, right = self.a.provenance(a), self.b.provenance(b)
        if not left or not right:
            return
        yield from _settings(left, right)
        yield from self._inputs(left)
        yield from _program(left, right)
        old, new = left.get("versions", {}), right.get("versions", {})
        for name in dict.fromkeys((*old, *new)):
            if name != "leod" and old.get(name) != new.get(name):
                yield Difference("versions", name, old.get(name), new.get(name))
        old, new = left.get("machine", {}), right.get("machine", {})
        for name in old.keys() & new.keys():
            if old[name] != new[name]:
                yield Difference("machine", name, old[name], new[name])

    def _inputs(self, left: Mapping[str, Any]) -> Iterator[Difference]:
        for role, value in left.get("inputs", {}).items():
            for path in value if isinstance(value, list) else [value]:
                for key in self._producers(str(path)):
                    made = self.found.get(key)
                    if made is not None and made.results_differ:
                        yield Difference("inputs", f"{role} of {made.run.name}", None, None, new=False)

    def _producers(self, path: str) -> list[Key]:
        if path in self.produced:
            return [self.produced[path]]
        sequences, name = self.a.sequences, PurePosixPath(path)
        if sequences is None or not name.is_relative_to(sequences):
            return []
        used = (name.name,) if name.name in SPLITS else ("train", "val")
        return [key for key in self.found if key[0] == "preprocess" and key[3].startswith(used)]

    # ---------------------------------------------------------------------------------------------- results

    def _output(self, role: str, a: StageRun, b: StageRun) -> Iterator[Difference]:
        if role not in b.outputs:
            yield _nothing(f"{role} only in A")
            return
        left, right = _tried(self.a, a.outputs[role]), _tried(self.b, b.outputs[role])
        if left == right:
            return
        for side, found in (("A", left), ("B", right)):
            if found is None:
                yield _nothing(f"{role} is missing in {side}")
                return
            if isinstance(found, DataError):
                yield _nothing(f"{role} in {side}: {found}")
                return
        paths = self.a.path(a.outputs[role]), self.b.path(b.outputs[role])
        if all(path is not None and path.is_file() for path in paths):
            if a.outputs[role].endswith(".json"):
                yield from _values(role, self.a.values(a.outputs[role]), self.b.values(b.outputs[role]))
                return
            if a.outputs[role].endswith(".csv"):
                yield from _tables(role, *(path for path in paths if path is not None))
                return
        yield Difference("results", f"{_WHAT.get(role, role)} differ", None, None)

    def _sequences(self, a: StageRun, b: StageRun) -> Iterator[Difference]:
        """In what the sequences of a split differ; told with the first of its shards."""
        split, _, shard = a.part.partition("-")
        if shard != "0":
            return
        files = self.a.sequence_files(split), self.b.sequence_files(split)
        if self.a.sequences == self.b.sequences and files[0] is not None and files[0] == files[1]:
            return
        left, right = self.a.sequence_digests(split), self.b.sequence_digests(split)
        for side, found in (("A", left), ("B", right)):
            if found is None:
                self.notes.append(f"the {split} sequences of {side} are not at hand, so their files were not compared")
        if left is None or right is None:
            return
        for sequence in dict.fromkeys((*left, *right)):
            old, new = left.get(sequence, {}), right.get(sequence, {})
            for name in dict.fromkeys((*old, *new)):
                if old.get(name) == new.get(name):
                    continue
                problem = _same_content(*((entry or {}).get(sequence, {}).get(name) for entry in files))
                if problem is not None:
                    digests = (None if value is None else value[:12] for value in (old.get(name), new.get(name)))
                    yield Difference("results", f"{split}/{sequence}/{name}{problem}", *digests)

    # --------------------------------------------------------------------------------------------- figures

    def _average_precision(self, stage: StageComparison) -> tuple[float, float] | None:
        if stage.a is None or stage.b is None:
            return None
        left, right = _ap(self.a, stage.a), _ap(self.b, stage.b)
        return None if left is None or right is None else (left, right)

    def _spread(self) -> Spread | None:
        """Scatter between the seeds of the first study, or of the second one if the first has one seed only."""
        count = sum(1 for key, stage in self.found.items() if key[0] == "evaluate" and stage.a and stage.b)
        return next((spread for side in (self.a, self.b) if (spread := Spread.of(_by_seed(side), count))), None)


def _nothing(what: str) -> Difference:
    """A result that is not there to be compared."""
    return Difference("results", what, None, None, incomplete=True)


def _key(run: StageRun, experiment: str) -> Key:
    return _GROUPS.get(run.stage, run.stage), experiment, run.round, run.part


def _partners(a: StudyFiles, b: StudyFiles) -> dict[str, str]:
    """Experiment of B → that of A which it is compared with, where their names differ.

    Of the same arm and labels if there is one, else of the same arm; in the order of the studies.
    """
    left, right = ({entry.experiment: entry for entry in side.plan.detectors} for side in (a, b))
    free = [name for name in left if name not in right]
    partners: dict[str, str] = {}
    for alike in (_budget, lambda entry: entry.arm):
        for name, entry in right.items():
            if name in left or name in partners:
                continue
            match = next((other for other in free if alike(left[other]) == alike(entry)), None)
            if match is not None:
                free.remove(match)
                partners[name] = match
    return partners


def _budget(entry: DetectorFiles) -> tuple[Any, ...]:
    """Arm and labels of a detector: what is the same for all seeds and rounds."""
    return tuple(getattr(entry, name) for name in Cell.model_fields if name not in ("experiment", "seed", "round"))


def _merged(first: list[Key], second: list[Key]) -> list[Key]:
    """Both lists in one order: what only the second one has comes after what it follows there."""
    merged, known, place = list(first), set(first), 0
    for key in second:
        if key in known:
            place = merged.index(key) + 1
        else:
            merged.insert(place, key)
            place += 1
    return merged


def _settings(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Difference]:
    old, new = (flat(side.get("settings", {})) | {"seed": side.get("seed")} for side in (left, right))
    for key in dict.fromkeys((*old, *new)):
        a, b = old.get(key), new.get(key)
        if a != b and not _same_file(a, b):
            yield Difference("settings", key, a, b)


def _same_file(a: Any, b: Any) -> bool:
    """Whether both are one file, which a pack calls by another name."""
    if not isinstance(a, str) or not isinstance(b, str) or PurePosixPath(a).name != PurePosixPath(b).name:
        return False
    return any(text.startswith(("/", "weights/", f"{ELSEWHERE}/")) for text in (a, b))


def _program(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Difference]:
    old, new = (side.get("versions", {}).get("leod") for side in (left, right))
    if old != new:
        yield Difference("program", "leod", old, new)
    for name in ("source", "git_commit"):
        old, new = left.get(name), right.get(name)
        if old and new:
            if old != new:
                yield Difference("program", name.replace("_", " "), old[:12], new[:12])
            return


def _tried(side: StudyFiles, spelled: str) -> str | DataError | None:
    try:
        return side.digest(spelled)
    except DataError as error:
        return error


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested JSON by their places; entries of lists by their names where they have one."""
    if isinstance(value, Mapping):
        items = {f"{prefix}.{key}" if prefix else str(key): entry for key, entry in value.items()}
    elif isinstance(value, list):
        items = {
            f"{prefix}[{entry.get('name', number) if isinstance(entry, Mapping) else number}]": entry
            for number, entry in enumerate(value)
        }
    else:
        return {prefix: value}
    return {place: leaf for key, entry in items.items() for place, leaf in _leaves(entry, key).items()}


def _values(role: str, left: Any, right: Any) -> Iterator[Difference]:
    old, new = _leaves(left), _leaves(right)
    # The figure that is known best comes first.
    places = sorted(dict.fromkeys((*old, *new)), key=lambda place: place not in _FIRST_FIGURES)
    differing = [place for place in places if place not in old or place not in new or old[place] != new[place]]
    for place in differing[:_MOST_SHOWN]:
        yield Difference("results", f"{role}: {place}", old.get(place), new.get(place))
    if len(differing) > _MOST_SHOWN:
        yield Difference("results", f"{role}: {len(differing) - _MOST_SHOWN} more values", None, None)


def _tables(role: str, left: Path, right: Path) -> Iterator[Difference]:
    tables = []
    for path in (left, right):
        with path.open(encoding="utf-8", newline="") as file:
            tables.append(list(csv.reader(file)))
    header = tables[0][0] if tables[0] else []
    rows = 0
    for number, (old, new) in enumerate(zip_longest(*tables, fillvalue=[])):
        if old == new:
            continue
        rows += 1
        if rows == 1:
            cells = enumerate(zip_longest(old, new))
            column, (a, b) = next((place, pair) for place, pair in cells if pair[0] != pair[1])
            name = header[column] if column < len(header) else f"column {column + 1}"
            yield Difference("results", f"{role}: row {number}, {name}", a, b)
    if rows > 1:
        yield Difference("results", f"{role}: {rows - 1} more rows", None, None)


def _same_content(left: Path | None, right: Path | None) -> str | None:
    """None if two files say the same though their bytes differ; else what to add to the difference."""
    if left is None or right is None:
        return ""
    try:
        return None if content_digest(left) == content_digest(right) else ""
    except DataError as error:
        return f" ({error.problem})"


def _ap(side: StudyFiles, run: StageRun) -> float | None:
    try:
        return float(side.json(run.outputs["metrics"])["metrics"]["AP"])
    except (DataError, KeyError, TypeError, ValueError):
        return None


def _by_seed(side: StudyFiles) -> list[list[float]]:
    groups: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    runs = {run.outputs["metrics"]: run for run in side.runs if run.stage == "evaluate"}
    for detector, variant, path in side.plan.evaluations():
        run = runs.get(path.as_posix())
        ap = None if run is None else _ap(side, run)
        if ap is not None:
            groups[(*_budget(detector), detector.round, variant)][detector.seed] = ap
    return [list(group.values()) for group in groups.values()]


def _judge(found: Mapping[Key, StageComparison], spread: Spread | None, figures: Any) -> None:
    """Give every stage its verdict."""
    for key, stage in found.items():
        if key[0] == "evaluate" and stage.results_differ:
            pair = figures(stage)
            scattered = spread is not None and pair is not None and abs(pair[0] - pair[1]) <= spread.limit
            stage.verdict = Verdict.WITHIN_SPREAD if scattered and not _is_odd(key, stage) else Verdict.DIFFERENT
    for key, stage in found.items():
        if key[0] == "evaluate" or not stage.results_differ:
            continue
        if key[0] in _DATA or _is_odd(key, stage):
            stage.verdict = Verdict.DIFFERENT
            continue
        # What has no AP of its own is judged by the evaluations that follow from it.
        following = [
            other.verdict
            for (name, experiment, number, _), other in found.items()
            if name == "evaluate"
            and key[1] in ("", experiment)
            and (key[2] is None or number is None or number >= key[2])
        ]
        stage.verdict = max((Verdict.WITHIN_SPREAD, *following)) if following else Verdict.DIFFERENT


def _is_odd(key: Key, stage: StageComparison) -> bool:
    """Whether chance cannot be why the results differ: one is missing, or nothing differs that they were made with."""
    unexplained = all(entry.kind == "results" for entry in stage.differences)
    return stage.incomplete or (unexplained and key[0] not in _TRAININGS)


def _mark_news(stages: list[StageComparison]) -> None:
    """Mark what an earlier stage differs in, too."""
    seen: set[tuple[str, str, str, str]] = set()
    for stage in stages:
        for number, entry in enumerate(stage.differences):
            if entry.kind in ("results", "inputs"):
                continue
            name = (entry.kind, entry.what, repr(entry.a), repr(entry.b))
            if name in seen:
                stage.differences[number] = replace(entry, new=False)
            seen.add(name)
