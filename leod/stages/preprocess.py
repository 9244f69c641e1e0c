"""The stage `preprocess`: recordings become sequences."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leod.config.schema import NonNegativeInt, PlausibilityConfig, PositiveInt
from leod.config.settings import PreprocessSettings
from leod.errors import ConfigError, DataError, ResourceError
from leod.files import TEMPORARY_PREFIX, atomic_directory, locked, read_json, remove_leftovers, write_json
from leod.progress import progress
from leod.provenance import Stopwatch
from leod.recordings.discovery import RecordingFiles, find_recordings, names_in, overlooked_files
from leod.reuse import key
from leod.sequences.layout import SPLITS, STAMP_NAME
from leod.sequences.plausibility import RecordingFacts, describe, findings_of, judge, shorten, table
from leod.sequences.writing import NothingLeftError, write_sequence

logger = logging.getLogger(__name__)

_LOCKS = ".preprocess"
# They say which recordings take part, not what a sequence looks like.
_SELECTING_SETTINGS = {"skip_recordings", "unlabelled_recordings", "ignore_files"}
_TIMES = ("recording_times", "box_times")


def _describe_file(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    status = path.stat()
    return {"name": path.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _stamp(files: RecordingFiles, settings: PreprocessSettings, split: str) -> dict[str, Any]:
    """What a sequence is made from."""
    return {
        "split": split,
        "events": _describe_file(files.events),
        "boxes": _describe_file(files.boxes),
        "settings": settings.model_dump(mode="json", exclude=_SELECTING_SETTINGS)
        # Exceptions for other recordings are none of its business.
        | {name: getattr(settings, name).of(files.name).model_dump(mode="json") for name in _TIMES},
    }


def _is_ours(sequence: Path) -> bool:
    return (sequence / STAMP_NAME).is_file()


def _remove(sequence: Path) -> None:
    """Delete a sequence such that an interruption leaves no part of it under its name."""
    retired = sequence.with_name(f"{TEMPORARY_PREFIX}removed-{sequence.name}")
    sequence.replace(retired)
    shutil.rmtree(retired)


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class _Entry:
    """What became of one recording: the counts of its sequence, or why there is none."""

    name: str
    facts: RecordingFacts | None = None
    removed: str = ""


def _preprocess_one(
    files: RecordingFiles,
    sequence: Path,
    settings: PreprocessSettings,
    split: str,
    threads: int,
    limits: PlausibilityConfig,
) -> _Entry:
    """Make one sequence unless it is there already."""
    stamp = _stamp(files, settings, split)
    made_from = key("preprocess", None, stamp)
    if sequence.is_dir():
        if not _is_ours(sequence):
            raise DataError(
                sequence,
                f"was not made by this stage (it has no {STAMP_NAME}) and would be overwritten. Choose another folder "
                "for the sequences, or move this one away.",
            )
        record = read_json(sequence / STAMP_NAME)
        if record.get("key") == made_from:
            facts = RecordingFacts.from_json(record["facts"])
            _refuse(files, facts, settings, limits)
            return _Entry(files.name, facts)
        logger.info("%s was made with other settings, from another file or by another program: made again", sequence)
    try:
        with atomic_directory(sequence) as folder:
            facts = write_sequence(folder, files, settings, split, threads, limits)
            _refuse(files, facts, settings, limits)
            write_json(folder / STAMP_NAME, {"key": made_from, "made_from": stamp, "facts": facts.to_json()})
    except NothingLeftError as reason:
        if sequence.is_dir():
            _remove(sequence)
        return _Entry(files.name, removed=str(reason))
    return _Entry(files.name, facts)


def _refuse(
    files: RecordingFiles, facts: RecordingFacts, settings: PreprocessSettings, limits: PlausibilityConfig
) -> None:
    for finding in judge(facts, settings.window_us, limits):
        if finding.refused:
            raise DataError(files.events, finding.text)


def _in_two_splits(
    recordings: Path, output: Path, split: str, facts: dict[str, RecordingFacts]
) -> Iterator[tuple[str, Path]]:
    """Compare the recordings with those of the other splits that are preprocessed already.

    Whichever split is preprocessed last sees all others, so that no pair is missed.

    Yields:
        Name of a recording, and the sequence of another split that begins with the same events.
    """
    own = {entry.fingerprint: name for name, entry in facts.items()}
    for other in SPLITS:
        if other == split or not (output / other).is_dir():
            continue
        for sequence in sorted((output / other).iterdir()):
            if sequence.name.startswith(".") or not _is_ours(sequence):
                continue
            stamp = read_json(sequence / STAMP_NAME)
            name = own.get(stamp.get("facts", {}).get("fingerprint"))
            # What became of a recording that is gone will be removed when its split is preprocessed again.
            if name is not None and (recordings / other / stamp["made_from"]["events"]["name"]).exists():
                yield name, sequence


def _check_foreign(folder: Path, recordings: list[RecordingFiles], skipped: tuple[str, ...]) -> None:
    """Remove sequences of recordings that are skipped now; complain about folders that belong to no recording."""
    known = {files.name for files in recordings}
    foreign = []
    for entry in sorted(folder.iterdir()):
        if entry.name in known or entry.name.startswith(".") or not entry.is_dir():
            continue
        if entry.name in skipped and _is_ours(entry):
            logger.info("%s is on the list of skipped recordings: removed", entry)
            _remove(entry)
        else:
            foreign.append(entry.name)
    if foreign:
        raise DataError(
            folder,
            f"holds {len(foreign)} folders that belong to no recording: {shorten(foreign)}. They would become part of "
            "the data set; remove them, or restore their recordings.",
        )


def _run(
    work: list[tuple[RecordingFiles, Path, PreprocessSettings, str, int, PlausibilityConfig]], processes: int
) -> Iterator[_Entry]:
    if processes == 1 or len(work) < 2:
        for arguments in work:
            yield _preprocess_one(*arguments)
        return
    # Fresh interpreters: forking would copy the locks of threads that do not exist in the child.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(work)), mp_context=context) as pool:
        futures = [pool.submit(_preprocess_one, *arguments) for arguments in work]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise ResourceError(
                "a process that preprocessed a recording was killed, most likely because memory ran out. Use fewer "
                "processes or ask for more memory; what is complete will be kept."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def preprocess(
    recordings: Path,
    output: Path,
    split: str,
    manifest: Path,
    settings: PreprocessSettings,
    shard: NonNegativeInt = 0,
    shards: PositiveInt = 1,
    processes: PositiveInt = 1,
    limits: PlausibilityConfig = PlausibilityConfig(),  # noqa: B008  (immutable)
) -> None:
    """Turn recordings into sequences: event representations of 50 ms windows, with labels.

    Every sequence appears under its name when it is complete, and is kept by later runs as long as its recording and
    the settings stay the same. Recordings whose labels are all filtered out make no sequence; the manifest tells why.

    Args:
        recordings: Folder with train/, val/ and test/, see `leod.recordings.discovery.find_recordings`.
        output: Folder of the sequences; this split goes to ``output/split``.
        split: train, val or test.
        manifest: JSON list of the sequences, written last.
        settings: What is computed.
        shard: Which part of the recordings, from 0.
        shards: Number of parts: the recordings sorted by name, every ``shards``-th.
        processes: Recordings that are read at the same time.
        limits: What is refused because it cannot be right, and what is warned about. Other limits make no other
            sequences.

    Raises:
        ConfigError: The arguments are out of range, or name recordings that do not exist.
        DataError: Recordings or boxes are missing or damaged, contradict each other or cannot be right, a recording is
            in two splits, or ``output`` holds foreign folders.
        LockedError: The same shard is already running.
        ResourceError: The disk is full or memory ran out.
    """
    if split not in SPLITS:
        raise ConfigError(f"split {split!r} is unknown; expected one of {', '.join(SPLITS)}.")
    if not 0 <= shard < shards or processes < 1:
        raise ConfigError(f"expected 0 <= shard < shards and processes >= 1, got {shard}, {shards} and {processes}.")
    stopwatch = Stopwatch()
    recordings, output = Path(recordings), Path(output)
    found = find_recordings(
        recordings / split, settings.unlabelled_recordings, settings.skip_recordings, settings.ignore_files
    )
    overlooked = overlooked_files(recordings / split, settings.ignore_files)
    names = {name: names_in(recordings / name, settings.skip_recordings, settings.ignore_files) for name in SPLITS}
    twice = {files.name: other for files in found for other in SPLITS if other != split and files.name in names[other]}
    if twice and limits.recording_in_two_splits == "refuse":
        name, other = next(iter(twice.items()))
        raise DataError(
            recordings / split,
            f"has the recording {name}, and so has {recordings / other} ({len(twice)} such recording(s)): evaluations "
            "would show what was trained on. Keep it in one split only, or rename it if it is another one.",
        )
    known = set().union(*names.values())
    for section in _TIMES:
        unknown = getattr(settings, section).of_recording.keys() - known
        if unknown:
            raise ConfigError(
                f"{section}.of_recording names {sorted(unknown)}, but {recordings} has no such recording; it has "
                f"{shorten(sorted(known))}."
            )
    chosen = found[shard::shards]
    folder = output / split
    with locked(output / _LOCKS / f"{split}-{shard}-of-{shards}"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, of={files.name for files in chosen})
        if shard == 0:
            _check_foreign(folder, found, settings.skip_recordings)
        threads = max(_available_cpus() // processes, 1)
        work = [(files, folder / files.name, settings, split, threads, limits) for files in chosen]
        entries = list(progress(_run(work, processes), f"preprocessing {split}", total=len(work), unit="recording"))
        entries.sort(key=lambda entry: entry.name)
        removed = [entry for entry in entries if entry.facts is None]
        for entry in removed:
            logger.warning("%s/%s makes no sequence: %s", split, entry.name, entry.removed)
        facts = {entry.name: entry.facts for entry in entries if entry.facts is not None}
        findings = findings_of(facts, settings.window_us, settings.classes if shards == 1 else (), limits)
        for name, twin in _in_two_splits(recordings, output, split, facts):
            if limits.recording_in_two_splits == "refuse":
                raise DataError(
                    recordings / split / name,
                    f"begins with the same events as {twin.parent.name}/{twin.name}: a recording is in two splits, so "
                    "that evaluations would show what was trained on. Remove one of the two recordings, and its "
                    "sequence; or, if that is wanted, set plausibility: {recording_in_two_splits: warn}.",
                )
            twice[name] = twin.parent.name
        if twice:
            text = ", ".join(f"{name} (also in {other})" for name, other in twice.items())
            findings.append({"kind": "recordings in two splits", "text": text, "recordings": sorted(twice)})
        if overlooked and shard == 0:
            findings.append(
                {
                    "kind": "files overlooked",
                    "text": f"{len(overlooked)} file(s) in {recordings / split} belong to no recording: "
                    f"{shorten([path.name for path in overlooked])}. Rename them, move them away, or list them in the "
                    "data set file's ignore_files.",
                    "recordings": [],
                }
            )
        counts = table(list(facts.values()), [entry.box_file for entry in facts.values() if entry.box_file is not None])
        logger.info("%s: what was read\n%s", split, "\n".join(f"    {title}: {value}" for title, value in counts))
        for finding in findings:
            logger.warning("%s: %s", split, describe(finding))
        write_json(
            manifest,
            {
                "provenance": stopwatch.provenance("preprocess", settings, {"recordings": recordings / split}),
                "split": split,
                "shard": shard,
                "shards": shards,
                "sequences": [
                    {"name": name, **{key: getattr(entry, key) for key in ("frames", "labelled_frames", "boxes")}}
                    for name, entry in facts.items()
                ],
                "removed": [{"name": entry.name, "reason": entry.removed} for entry in removed],
                "facts": {name: entry.to_json() for name, entry in facts.items()},
                "findings": findings,
            },
        )
