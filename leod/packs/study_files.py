"""A study's results, read as the stage runs that made them, in the order of the DAG.

What a run was made from stands in the provenance of its own results; `plan.json` says which results there are. A folder
of results and an unpacked pack look alike: what a pack leaves out, it has the digests of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from leod.config.schema import RepresentationConfig
from leod.errors import DataError
from leod.files import file_digest, read_json
from leod.packs.content import combined_digest, content_digest, essential
from leod.sequences.layout import SPLITS, label_file, list_sequences, representations_dir
from leod.sequences.representations import representation_name
from leod.study.jobs import JOBS
from leod.study.plan import DetectorFiles, StudyPlan, read_plan

PLAN_NAME, STUDY_NAME, SUMMARY_NAME = "plan.json", "study.json", "summary.csv"
"""The list of detectors, the configuration as resolved, the table of evaluations, in the folder of results."""
REPORT_NAMES = (SUMMARY_NAME, "summary.md", "report.html")
RECORDINGS_MANIFEST = "manifest.json"
_ORDER = {stage: number for number, stage in enumerate(JOBS)}
_FINISH = "The study is not finished: run it to its end (snakemake --configfile …), then try again."


@dataclass(frozen=True)
class StageRun:
    """One run of a stage.

    Attributes:
        stage: Name of the stage.
        outputs: Role → file or folder, as `plan.json` spells it.
        record: The output that holds the run's provenance; None if none does.
        experiment: Whose folder the results are in; empty for what belongs to the whole study.
        round: Round of self-training; None for what belongs to none.
        part: Which of several runs: shard, split, variant of the evaluation; empty if there is one.
    """

    stage: str
    outputs: Mapping[str, str]
    record: str | None = None
    experiment: str = ""
    round: int | None = None
    part: str = ""

    @property
    def name(self) -> str:
        """The run in words."""
        where = [self.part, self.experiment, "" if self.round is None else f"round {self.round}"]
        return ", ".join((self.stage, *filter(None, where)))


@dataclass
class StudyFiles:
    """The results of a study.

    Attributes:
        folder: The folder of results.
        known: File or folder, as `plan.json` spells it → digest of what it says (`StudyFiles.digest`), noted earlier.
        known_provenance: Record → provenance of what is not at hand.
        known_sequences: Split → sequence → file → digest, where the sequences are not at hand.
    """

    folder: Path
    known: Mapping[str, str] = field(default_factory=dict)
    known_provenance: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    known_sequences: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None

    @cached_property
    def plan(self) -> StudyPlan:
        """What the study consists of."""
        if not self.folder.is_dir():
            raise DataError(self.folder, "no such folder. Give a folder of results, results/<study>, or a pack.")
        path = self.folder / PLAN_NAME
        if not path.is_file():
            raise DataError(self.folder, f"holds no {PLAN_NAME}: it is no folder of results, or {_FINISH.lower()}")
        plan = read_plan(path)
        if not plan.detectors:
            raise DataError(path, "lists no detector.")
        return plan

    @cached_property
    def results(self) -> PurePosixPath:
        """The folder of results as `plan.json` spells it."""
        return PurePosixPath(self.plan.detectors[0].labels.as_posix()).parent.parent

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.results.name

    @cached_property
    def root(self) -> Path | None:
        """The folder that the study's relative paths start from; None if the results were moved out of it."""
        parts = self.results.parts
        folder = self.folder.resolve()
        if not self.results.is_absolute() and folder.parts[-len(parts) :] == parts:
            return folder.parents[len(parts) - 1]
        return None

    def path(self, spelled: str | Path) -> Path | None:
        """Where a file of the study is; None if that cannot be told."""
        name = PurePosixPath(Path(spelled).as_posix())
        if name.is_relative_to(self.results):
            return self.folder / name.relative_to(self.results)
        if name.is_absolute():
            return Path(name)
        return None if self.root is None else self.root / name

    def spell(self, name: str) -> str:
        """A file in the folder of results as `plan.json` would spell it."""
        return str(self.results / name)

    def check_finished(self) -> None:
        """Check that every result is there.

        Raises:
            DataError: One is missing.
        """
        results = [path for detector in self.plan.detectors for path in detector.results()]
        for spelled in (*results, *map(self.spell, REPORT_NAMES)):
            path = self.path(spelled)
            if path is None or not path.exists():
                raise DataError(path or spelled, f"does not exist. {_FINISH}")

    # ------------------------------------------------------------------------------------------------ content

    def json(self, spelled: str) -> Any:
        """A JSON result.

        Raises:
            DataError: It is missing or no JSON.
        """
        path = self.path(spelled)
        if path is None:
            raise DataError(spelled, "is not at hand.")
        return read_json(path)

    def digest(self, spelled: str) -> str | None:
        """Digest of what a result says (`content_digest`); of a pseudo-labelled set: of its labels. None: not at hand.

        Raises:
            DataError: It cannot be read.
        """
        if spelled in self.known:
            return self.known[spelled]
        path = self.path(spelled)
        if path is None or not path.exists():
            return None
        if not path.is_dir():
            return content_digest(path)
        files = (file for pattern in ("*.npz", "*.npy") for file in path.glob(f"train/*/*/**/{pattern}"))
        # Frames and their times are links to the sequences.
        own = [file for file in files if not file.is_symlink()]
        return combined_digest({file.relative_to(path).as_posix(): content_digest(file) for file in own})

    def provenance(self, run: StageRun) -> dict[str, Any]:
        """What a run says about itself; empty if it says nothing.

        Raises:
            DataError: Its record is damaged.
        """
        if run.record is None:
            return {}
        path = self.path(run.record)
        if path is None or not path.is_file():
            return self.known_provenance.get(run.record, {})
        if path.suffix == ".h5":
            try:
                with h5py.File(path) as file:
                    return json.loads(file.attrs.get("provenance", "{}"))
            except (OSError, json.JSONDecodeError) as error:
                raise DataError(path, f"cannot be read ({error}). Delete it and generate it again.") from None
        content = read_json(path)
        found = content.get("provenance", {}) if isinstance(content, dict) else {}
        return found if isinstance(found, dict) else {}

    def values(self, spelled: str) -> Any:
        """The values of a JSON result without how it came about."""
        return essential(self.json(spelled))

    # --------------------------------------------------------------------------------------------- sequences

    @cached_property
    def sequences(self) -> str | None:
        """Folder of the sequences as the study spells it; None if no result names it."""
        for run in self.runs:
            if run.stage in ("pretrain", "self_train", "subsample_labels", "suggest_labels", "track_filter"):
                found = self.provenance(run).get("inputs", {}).get("sequences")
                if isinstance(found, str):
                    return found
        return None

    @cached_property
    def _representation(self) -> str:
        """Pattern of the folder of the representation that the study uses."""
        for run in self.runs:
            settings = self.provenance(run).get("settings", {})
            settings = settings.get("sequence", settings)
            if {"representation", "window_us"} <= settings.keys():
                representation = RepresentationConfig.model_validate(settings["representation"])
                return representation_name(representation, settings["window_us"])
        return "*"

    def sequence_files(self, split: str) -> dict[str, dict[str, Path]] | None:
        """Files of the sequences of a split: sequence → name → file; None if they are not at hand."""
        root = None if self.sequences is None else self.path(self.sequences)
        if root is None or not (root / split).is_dir():
            return None
        found = {}
        for folder in list_sequences(root, split):
            representations = representations_dir(folder).glob(f"{self._representation}/*")
            files = [label_file(folder), *(file for file in representations if file.suffix in (".h5", ".npy"))]
            found[folder.name] = {file.relative_to(folder).as_posix(): file for file in sorted(files) if file.is_file()}
        return found

    def sequence_digests(self, split: str) -> Mapping[str, Mapping[str, str]] | None:
        """SHA-256 of the bytes of the sequences' files, sequence → name → digest; None if they are not at hand."""
        if self.known_sequences is not None:
            return self.known_sequences.get(split)
        files = self.sequence_files(split)
        if files is None:
            return None
        return {
            sequence: {name: file_digest(path).hex() for name, path in entries.items()}
            for sequence, entries in files.items()
        }

    # -------------------------------------------------------------------------------------------- stage runs

    @cached_property
    def runs(self) -> list[StageRun]:
        """All runs of stages whose results are there, each once, none before what it was made from."""
        runs = [*self._data_runs()]
        seen: set[str] = set()
        for detector in self.plan.detectors:
            for run in self._detector_runs(detector):
                first = next(iter(run.outputs.values()))
                if first not in seen:
                    seen.add(first)
                    runs.append(run)
        return [*runs, StageRun("summarise", {"summary": self.spell(SUMMARY_NAME)})]

    def _data_runs(self) -> Iterator[StageRun]:
        manifests: dict[str, list[str]] = {
            split: [path.as_posix() for path in paths] for split, paths in self.plan.manifests.items()
        }
        if not manifests:
            for split in SPLITS:
                found = sorted(path.name for path in (self.folder / "data").glob(f"{split}-*.json"))
                manifests[split] = [self.spell(f"data/{name}") for name in found]
        preprocessed = [
            StageRun(
                "preprocess" if self.plan.manifests else "check_sequences",
                {"manifest": path},
                path,
                part=PurePosixPath(path).stem,
            )
            for split in SPLITS
            for path in manifests.get(split, ())
        ]
        if preprocessed:
            recordings = self.provenance(preprocessed[0]).get("inputs", {}).get("recordings")
            if isinstance(recordings, str):
                manifest = str(PurePosixPath(recordings).parent / RECORDINGS_MANIFEST)
                path = self.path(manifest)
                if path is not None and path.is_file():
                    yield StageRun("simulate", {"manifest": manifest}, manifest)
        yield from preprocessed

    def _detector_runs(self, detector: DetectorFiles) -> Iterator[StageRun]:
        yield self._run(self._labels_stage(detector.labels), {"labels": detector.labels}, detector.labels)
        if detector.thresholds is not None:
            yield self._run("choose_thresholds", {"thresholds": detector.thresholds}, detector.thresholds)
        if detector.manifest is not None and detector.dataset is not None:
            filtering = self._run(
                "track_filter", {"manifest": detector.manifest, "dataset": detector.dataset}, detector.manifest
            )
            for path in _texts(self.provenance(filtering).get("inputs", {}).get("predictions")):
                yield self._run("generate_pseudo_labels", {"predictions": path}, path, f"shard {Path(path).stem}")
            yield filtering
        if detector.quality is not None:
            yield self._run("validate_quality", {"quality": detector.quality}, detector.quality)
        training = {"model": detector.model, "curves": detector.curves, "record": detector.record}
        yield self._run("self_train" if detector.round else "pretrain", training, detector.record)
        for path in detector.metrics.values():
            yield self._run("evaluate", {"metrics": path}, path, path.stem)

    def _labels_stage(self, labels: Path) -> str:
        path = self.path(labels)
        content = read_json(path) if path is not None and path.is_file() else {}
        stage = content.get("provenance", {}).get("stage") if isinstance(content, dict) else None
        return stage if isinstance(stage, str) else "subsample_labels"

    def _run(self, stage: str, outputs: Mapping[str, Path | str], record: Path | str, part: str = "") -> StageRun:
        spelled = {role: Path(path).as_posix() for role, path in outputs.items()}
        name = PurePosixPath(Path(record).as_posix())
        parts = name.relative_to(self.results).parts if name.is_relative_to(self.results) else ("",)
        number = parts[1].removeprefix("round_") if len(parts) > 2 else ""
        return StageRun(stage, spelled, str(name), parts[0], int(number) if number.isdecimal() else None, part)


def in_order(runs: Iterable[StageRun]) -> list[str]:
    """The stages that occur, in their order."""
    return sorted({run.stage for run in runs}, key=lambda stage: _ORDER.get(stage, len(_ORDER)))


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [entry for entry in value or [] if isinstance(entry, str)]
