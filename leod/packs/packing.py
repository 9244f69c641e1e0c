"""A finished study as one file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from leod.config.schema import Settings, StudyConfig
from leod.config.settings import EvaluateSettings
from leod.errors import DataError
from leod.files import read_json
from leod.models.checkpoint import detector_file_bytes, read_detector_file
from leod.packs.archive import FORMAT, Contents, PackWriter
from leod.packs.crate import CrateContent, CrateRun, crate_metadata
from leod.packs.names import CONTENTS_NAME, METADATA_NAME, README_NAME, STUDY_FILE
from leod.packs.portable import PortablePaths
from leod.packs.study_files import PLAN_NAME, REPORT_NAMES, StageRun, StudyFiles
from leod.report.summary import budget_name
from leod.sequences.layout import SPLITS
from leod.study.plan import Cell, StudyPlan
from leod.study.study import Study

_WORKFLOW = "workflow"
_JSON, _TEXT = (".json",), (".csv", ".html", ".md", ".smk", ".svg", ".tsv", ".txt", ".yaml", ".lock", ".py", "")


@dataclass(frozen=True)
class PackOptions:
    """What a user says about a pack.

    Attributes:
        detectors: Whether the detectors' weights go into it.
        frames: Whether digests of the sequences are taken.
        locks: Files of locked versions.
        authors: Name → address, or an empty text.
        license: SPDX identifier or address.
    """

    detectors: bool = False
    frames: bool = True
    locks: Sequence[Path] = ()
    authors: Mapping[str, str] = field(default_factory=dict)
    license: str | None = None


def pack_study(files: StudyFiles, study: StudyConfig, workflow: Path, output: Path, options: PackOptions) -> int:
    """Pack a finished study.

    Args:
        files: Its results.
        study: Its configuration.
        workflow: Folder with the Snakefile and its rules.
        output: The file to write.
        options: What goes into it.

    Returns:
        Number of files.

    Raises:
        DataError: The study is not finished, its results are of another configuration, or a file is damaged.
        ResourceError: The disk is full or not writable.
    """
    files.check_finished()
    check_configuration(files, study)
    return _Packing(files, study, workflow, options).write(output)


def check_configuration(files: StudyFiles, study: StudyConfig) -> None:
    """Check that results are those of a configuration.

    Raises:
        DataError: There are other detectors, or a stage was run with other settings.
    """
    content = study.model_dump(mode="json", by_alias=True)
    whole = Study(content, [], "the study")

    def cells(plan: StudyPlan) -> list[dict[str, Any]]:
        names = set(Cell.model_fields)
        return [entry.model_dump(include=names) | {"variants": list(entry.metrics)} for entry in plan.detectors]

    again = "Run the study to its end with this configuration, or name the file that it was run with (--study)."
    if cells(files.plan) != cells(whole.plan()):
        raise DataError(files.folder / PLAN_NAME, f"lists other detectors than the study's configuration has. {again}")
    for run in files.runs:
        settings = _expected_settings(whole, run)
        if settings is None:
            continue
        found = files.provenance(run).get("settings", {})
        for key, expected in flat(settings.model_dump(mode="json")).items():
            # Chosen thresholds stand in the record where the configuration has none.
            recorded = flat(found).get(key, expected)
            if expected is not None and recorded != expected:
                raise DataError(
                    files.path(run.record or "") or files.folder,
                    f"was made with {key} = {recorded!r}, but the study's configuration says {expected!r}. {again}",
                )


def _expected_settings(study: Study, run: StageRun) -> Settings | None:
    if run.stage == "evaluate":
        return EvaluateSettings.from_study(study.config)
    stages = ("subsample_labels", "suggest_labels", "pretrain", "choose_thresholds", "generate_pseudo_labels")
    if run.experiment not in study.experiments or run.stage not in (*stages, "track_filter", "self_train"):
        return None
    if run.stage == "pretrain" and study.published_weights(run.experiment):
        return None
    return study.settings(run.stage, run.experiment)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by their dotted keys; lists are leaves."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: leaf
        for name, entry in value.items()
        for key, leaf in flat(entry, f"{prefix}.{name}" if prefix else str(name)).items()
    }


class _Packing:
    def __init__(self, files: StudyFiles, study: StudyConfig, workflow: Path, options: PackOptions) -> None:
        self.files, self.study, self.workflow, self.options = files, study, workflow, options
        self.pack = PackWriter()
        self.results = f"results/{study.name}"
        self.paths = PortablePaths.of(self._places(), (files.root, Path.cwd()))
        self.sequences = self._sequence_digests()

    def _places(self) -> dict[str | Path, str]:
        """Places that a pack calls by another name: those that mean nothing on another machine."""
        dataset = self.study.dataset
        data = f"data/{dataset.name}"
        places: dict[str | Path, str] = {str(self.files.results): self.results}
        for spelled, name in (
            (dataset.sequences, f"{data}/sequences"),
            (dataset.recordings, f"{data}/recordings"),
            *((path, f"weights/{path.name}") for path in self._weights()),
        ):
            if spelled is not None and (spelled.is_absolute() or ".." in spelled.parts):
                places[spelled] = name
        places[self.files.folder.resolve()] = self.results
        return places

    def _weights(self) -> list[Path]:
        checkpoint = self.study.pretrain.from_checkpoint
        return [] if checkpoint is None else [checkpoint]

    def _sequence_digests(self) -> dict[str, dict[str, dict[str, str]]] | None:
        if not self.options.frames:
            return None
        found = {split: self.files.sequence_digests(split) for split in SPLITS}
        return {
            split: {name: dict(entries) for name, entries in digests.items()}
            for split, digests in found.items()
            if digests is not None
        } or None

    def write(self, output: Path) -> int:
        """Collect the files and write them."""
        content, provenance = {}, {}
        for run in self.files.runs:
            record = self.files.provenance(run)
            for spelled in run.outputs.values():
                digest = self.files.digest(spelled)
                if digest is not None:
                    content[self._name(spelled)] = digest
            if run.stage == "generate_pseudo_labels" and run.record is not None:
                provenance[self._name(run.record)] = self.paths.value(record)
        self._add_results()
        self._add_study()
        self._add_workflow()
        for lock in self.options.locks:
            self.pack.add(f"locks/{lock.name}", self.paths.lock(_read_text(lock)))
        self.pack.add(README_NAME, self._readme())
        self._check_private()
        self.pack.add(METADATA_NAME, self._metadata(content))
        contents = Contents(
            format=FORMAT,
            study=self.study.name,
            results=self.results,
            files=self.pack.digests(),
            content=dict(sorted(content.items())),
            provenance=provenance,
            sequences=self.sequences,
        )
        self.pack.add(CONTENTS_NAME, json.dumps(contents.model_dump(mode="json"), indent=1) + "\n")
        self.pack.write(output)
        return len(self.pack.files)

    def _name(self, spelled: str) -> str:
        """What a file of the study is called in the pack."""
        return PurePosixPath(self.paths.strict_text(spelled)).as_posix()

    # ---------------------------------------------------------------------------------------------- results

    def _add_results(self) -> None:
        runs = {spelled for run in self.files.runs for role, spelled in run.outputs.items() if role != "dataset"}
        shown = [PLAN_NAME, *REPORT_NAMES]
        shown += [f"figures/{path.name}" for path in sorted((self.files.folder / "figures").glob("*.svg"))]
        benchmarks = [str(benchmark.path.as_posix()) for benchmark in self.files.plan.benchmarks]
        for spelled in sorted({*runs, *map(self.files.spell, shown), *benchmarks}):
            path = self.files.path(spelled)
            if path is None or not path.is_file() or path.suffix == ".h5":
                continue
            if path.suffix == ".ckpt":
                if self.options.detectors:
                    self.pack.add(self._name(spelled), self._detector(path))
            else:
                self._add_text(self._name(spelled), path)
        for latency in sorted(self.files.folder.glob("*/round_*/latency.json")):
            self._add_text(self._name(self.files.spell(latency.relative_to(self.files.folder).as_posix())), latency)

    def _add_text(self, name: str, path: Path) -> None:
        if path.suffix in _JSON:
            self.pack.add(name, _json_text(self.paths.value(read_json(path))))
        else:
            self.pack.add(name, self.paths.text(_read_text(path)))

    def _detector(self, path: Path) -> bytes:
        content = read_detector_file(path)
        provenance = self.paths.value(content.provenance)
        return detector_file_bytes(dataclasses.replace(content, provenance=provenance))

    def _add_study(self) -> None:
        content = self.paths.value(self.study.model_dump(mode="json", by_alias=True))
        content["results"] = str(PurePosixPath(self.results).parent)
        # A folder of one machine.
        content["hardware"]["scratch"] = None
        self.pack.add(STUDY_FILE, _json_text(content))

    def _add_workflow(self) -> None:
        snakefile = self.workflow / "Snakefile"
        if not snakefile.is_file():
            raise DataError(snakefile, "does not exist. Run leod pack in the clone, or name its folder: --workflow.")
        parts = [snakefile]
        for pattern in ("rules/*.smk", "workflow/scripts/*.py", "envs/*.yaml"):
            parts += sorted(self.workflow.glob(pattern))
        for path in parts:
            name = path.relative_to(self.workflow).as_posix()
            self.pack.add(f"{_WORKFLOW}/{name}", self.paths.text(_read_text(path)))

    def _check_private(self) -> None:
        for name, content in self.pack.files.items():
            if not name.endswith(".ckpt"):
                self.paths.check(name, content.decode())

    # ------------------------------------------------------------------------------------------ description

    def _description(self) -> str:
        study, dataset = self.study, self.study.dataset
        budgets = ", ".join(
            budget_name(entry.setting, entry.ratio, entry.frames, entry.first_frames) for entry in study.labels
        )
        said = (
            f"Data set {dataset.name} (classes {', '.join(dataset.classes)}); labels: {budgets}; {study.rounds} "
            f"self-training rounds; seeds {', '.join(map(str, study.seeds))}; detector {study.model.name}; "
            f"evaluated on the {study.evaluate.split} split."
        )
        paragraphs = _read_text(self.files.folder / "summary.md").split("\n\n")
        answer = next((text for text in paragraphs if text and not text.startswith(("#", "|", "-"))), "")
        return self.paths.text(f"{said} {answer}".strip())

    def _readme(self) -> str:
        dataset = self.study.dataset
        weights = [self._name(str(path)) for path in self._weights()]
        needed = data_needed(
            self.study, dataset.name, self._name(str(dataset.recordings or dataset.sequences)), weights
        )
        return (
            f"# Study {self.study.name}\n\n{self._description()}\n\n"
            f"- `{self.results}/summary.md`, `{self.results}/report.html`: what came out\n"
            f"- `{STUDY_FILE}`: the configuration as resolved\n"
            f"- `{METADATA_NAME}`: how each file came about (Workflow Run RO-Crate)\n"
            f"- `{CONTENTS_NAME}`: digests of these files and of what is left out\n\n"
            "Run it again in a clone of the LEOD workflow:\n\n"
            + "".join(f"{line}\n" for line in needed)
            + f"\n    leod unpack PACK.zip original\n    snakemake --configfile original/{STUDY_FILE}\n"
            f"    leod compare original {self.results}\n"
        )

    def _metadata(self, content: Mapping[str, str]) -> str:
        digests = self.pack.digests()
        sizes = {name: len(text) for name, text in self.pack.files.items()}
        runs = [self._crate_run(run) for run in self.files.runs]
        named = [name for run in runs for name in (*run.inputs, *run.outputs.values())]
        return crate_metadata(
            CrateContent(
                study=self.study.name,
                description=self._description(),
                files={name: (sizes[name], digest) for name, digest in digests.items()} | {CONTENTS_NAME: (0, "")},
                left_out={name: content.get(name, "") for name in dict.fromkeys(named) if name not in digests},
                runs=runs,
                workflow=f"{_WORKFLOW}/Snakefile",
                locks=[name for name in digests if name.startswith("locks/")],
                results=self.results,
                data=self._data(),
                authors=self.options.authors,
                license=self.options.license,
                url=_project_url(),
            )
        )

    def _data(self) -> dict[str, str]:
        """Folders of data → what they hold."""
        dataset = self.study.dataset
        digested = "" if self.sequences is None else f"; {CONTENTS_NAME} has their digests"
        data = {self._name(dataset.sequences.as_posix()): f"preprocessed sequences of {dataset.name}{digested}"}
        if dataset.recordings is not None:
            data[self._name(dataset.recordings.as_posix())] = f"recordings of {dataset.name}"
        return data

    def _crate_run(self, run: StageRun) -> CrateRun:
        provenance = self.files.provenance(run)
        inputs = [
            path
            for value in provenance.get("inputs", {}).values()
            for path in (value if isinstance(value, list) else [value])
            if isinstance(path, str)
        ]
        if run.stage == "summarise":
            others = [entry for entry in self.files.runs if entry.stage in ("evaluate", "validate_quality")]
            inputs = [path for entry in others for path in entry.outputs.values()]
        record = self.files.path(run.record or next(iter(run.outputs.values())))
        return CrateRun(
            run,
            [self._name(path) for path in inputs],
            {role: self._name(path) for role, path in run.outputs.items()},
            provenance,
            record.stat().st_mtime if record is not None and record.is_file() else None,
        )


def data_needed(study: StudyConfig, name: str, folder: str, weights: Sequence[str]) -> list[str]:
    """What has to be at hand before a study can be run, in sentences.

    Args:
        study: Its configuration.
        name: Name of the data set.
        folder: Where its recordings or sequences have to be.
        weights: Files of weights that it starts from.
    """
    if study.dataset.simulate is not None:
        lines = ["Its recordings are simulated: no data are needed."]
    else:
        kind = "recordings" if study.dataset.recordings is not None else "sequences"
        lines = [
            f"It needs the {kind} of the data set {name} in `{folder}/train`, `/val` and `/test`; elsewhere: "
            f"snakemake … --config 'dataset={{{kind}: FOLDER}}'"
        ]
    return lines + [f"It starts from the weights `{path}`: put that file there." for path in weights]


def _project_url() -> str:
    """Address of the workflow, if its package names one."""
    try:
        entries = metadata.metadata("leod").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    addresses = {label.strip().casefold(): address.strip() for label, _, address in (e.partition(",") for e in entries)}
    return next((addresses[label] for label in ("homepage", "repository", "source") if label in addresses), "")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(path, "does not exist.") from None
    except UnicodeDecodeError as error:
        raise DataError(path, f"is no text in UTF-8 ({error}).") from None


def _json_text(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
