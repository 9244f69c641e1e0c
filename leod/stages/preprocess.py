"""The stage `preprocess`: recordings become sequences."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leod.config.stages import PreprocessSettings
from leod.errors import ConfigError, DataError, ResourceError
from leod.events.discovery import RecordingFiles, find_recordings
from leod.events.preprocess import NothingLeftError, label_frames, write_sequence
from leod.files import TEMPORARY_PREFIX, atomic_directory, locked, read_json, remove_leftovers, write_json
from leod.labels.files import SPLITS
from leod.progress import progress
from leod.provenance import Stopwatch

logger = logging.getLogger(__name__)

STAMP_NAME = "preprocess.json"
_LOCKS = ".preprocess"
# They say which recordings take part, not what a sequence looks like.
_SELECTING_SETTINGS = {"skip_recordings", "unlabelled_recordings"}


def _describe_file(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    status = path.stat()
    return {"name": path.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _stamp(files: RecordingFiles, settings: PreprocessSettings, split: str) -> dict[str, Any]:
    """What a sequence is made from; equal stamps mean equal sequences."""
    return {
        "split": split,
        "events": _describe_file(files.events),
        "boxes": _describe_file(files.boxes),
        "settings": settings.model_dump(mode="json", exclude=_SELECTING_SETTINGS),
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


def _preprocess_one(
    files: RecordingFiles, sequence: Path, settings: PreprocessSettings, split: str, threads: int
) -> dict[str, Any]:
    """Make one sequence unless it is there already; returns its entry of the manifest."""
    stamp = _stamp(files, settings, split)
    if sequence.is_dir():
        if not _is_ours(sequence):
            raise DataError(
                sequence,
                f"was not made by this stage (it has no {STAMP_NAME}) and would be overwritten. Choose another folder "
                "for the sequences, or move this one away.",
            )
        record = read_json(sequence / STAMP_NAME)
        if record.get("made_from") == stamp:
            return {"name": files.name, **record["counts"]}
        logger.info("%s was made with other settings or from another file: made again", sequence)
    try:
        frames = label_frames(files, settings, is_train=split == "train")
    except NothingLeftError as reason:
        if sequence.is_dir():
            _remove(sequence)
        return {"name": files.name, "removed": str(reason)}
    with atomic_directory(sequence) as folder:
        counts = write_sequence(folder, files.events, frames, settings, threads)
        write_json(folder / STAMP_NAME, {"made_from": stamp, "counts": asdict(counts)})
    return {"name": files.name, **asdict(counts)}


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
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise DataError(
            folder,
            f"holds {len(foreign)} folders that belong to no recording: {shown}. They would become part of the data "
            "set; remove them, or restore their recordings.",
        )


def _run(
    work: list[tuple[RecordingFiles, Path, PreprocessSettings, str, int]], processes: int
) -> Iterator[dict[str, Any]]:
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
    shard: int = 0,
    shards: int = 1,
    processes: int = 1,
) -> None:
    """Turn the recordings of one split into sequences: event representations of windows, with labels.

    Every sequence appears under its name when it is complete, and is kept by later runs as long as its recording and
    the settings stay the same. Recordings whose labels are all filtered out make no sequence; the manifest tells why.

    Args:
        recordings: Folder with train/, val/ and test/, see `leod.events.discovery.find_recordings`.
        output: Folder of the sequences; this split goes to ``output/split``.
        split: train, val or test.
        manifest: JSON list of the sequences, written last.
        settings: What is computed.
        shard: Which part of the recordings, from 0.
        shards: Number of parts: the recordings sorted by name, every ``shards``-th.
        processes: Recordings that are read at the same time.

    Raises:
        DataError: Recordings or boxes are missing or damaged, or ``output`` holds foreign folders.
        LockedError: The same shard is already running.
        ResourceError: The disk is full or memory ran out.
    """
    if split not in SPLITS:
        raise ConfigError(f"split {split!r} is unknown; expected one of {', '.join(SPLITS)}.")
    if not 0 <= shard < shards or processes < 1:
        raise ConfigError(f"expected 0 <= shard < shards and processes >= 1, got {shard}, {shards} and {processes}.")
    stopwatch = Stopwatch()
    output = Path(output)
    found = find_recordings(Path(recordings) / split, settings.unlabelled_recordings, settings.skip_recordings)
    chosen = found[shard::shards]
    folder = output / split
    with locked(output / _LOCKS / f"{split}-{shard}-of-{shards}"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, of={files.name for files in chosen})
        if shard == 0:
            _check_foreign(folder, found, settings.skip_recordings)
        threads = max(_available_cpus() // processes, 1)
        work = [(files, folder / files.name, settings, split, threads) for files in chosen]
        entries = list(progress(_run(work, processes), f"preprocessing {split}", total=len(work), unit="recording"))
        entries.sort(key=lambda entry: entry["name"])
        removed = [entry for entry in entries if "removed" in entry]
        for entry in removed:
            logger.warning("%s/%s makes no sequence: %s", split, entry["name"], entry["removed"])
        write_json(
            manifest,
            {
                "provenance": stopwatch.provenance("preprocess", settings, {"recordings": Path(recordings) / split}),
                "split": split,
                "shard": shard,
                "shards": shards,
                "sequences": [entry for entry in entries if "removed" not in entry],
                "removed": [{"name": entry["name"], "reason": entry["removed"]} for entry in removed],
            },
        )
