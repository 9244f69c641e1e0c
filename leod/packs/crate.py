"""The metadata of a pack: a Workflow Run RO-Crate, one action for each run of a stage.

Profiles: Process Run Crate, Workflow Run Crate and Provenance Run Crate 0.5 (Leo et al., Recording provenance of
workflow runs with RO-Crate, PLoS ONE 2024) on RO-Crate 1.1. The library `rocrate` knows their rules of writing.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate

from leod.packs.names import CONTENTS_NAME, README_NAME, STUDY_FILE
from leod.packs.study_files import PLAN_NAME, REPORT_NAMES, SUMMARY_NAME, StageRun, in_order

_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}

PAPERS = {
    "https://arxiv.org/abs/2311.17286": (
        "LEOD: Label-Efficient Object Detection for Event Cameras",
        ("Ziyi Wu", "Mathias Gehrig", "Qing Lyu", "Xudong Liu", "Igor Gilitschenski"),
        "2024",
    ),
    "https://arxiv.org/abs/2212.05598": (
        "Recurrent Vision Transformers for Object Detection with Event Cameras",
        ("Mathias Gehrig", "Davide Scaramuzza"),
        "2023",
    ),
}
"""What a study builds on: address → title, authors, year of the conference."""

_STAGES = {
    "simulate": "Simulates recordings of an event camera with boxes",
    "preprocess": "Turns recordings into sequences of event representations",
    "check_sequences": "Checks sequences that were preprocessed elsewhere",
    "subsample_labels": "Chooses the labelled frames that an experiment may learn from",
    "suggest_labels": "Lets a detector choose the frames to label",
    "import_split": "Takes over a released split",
    "pretrain": "Trains the detector on the kept labels (round 0)",
    "choose_thresholds": "Chooses score thresholds of pseudo-labels on the validation split",
    "generate_pseudo_labels": "Runs the previous detector over all training events, in several views, and merges them",
    "track_filter": "Keeps boxes of long tracks, marks doubtful ones as ignored, and writes the pseudo-labelled set",
    "validate_quality": "Compares pseudo-labels with the hidden ground truth",
    "self_train": "Trains the detector on pseudo-labels",
    "evaluate": "Evaluates a detector by the Prophesee protocol",
    "summarise": "Gathers all evaluations in one table",
}
_ROLES = {
    "labels": "the split of record: which labelled frames are kept",
    "model": "the detector's weights",
    "curves": "curves of the training and its validations",
    "record": "account of the training: settings, seed, versions, chosen step",
    "metrics": "average precision and precision-recall curves",
    "thresholds": "chosen score thresholds and what they were chosen by",
    "predictions": "merged detections of every frame, before tracking",
    "dataset": "the pseudo-labelled data set",
    "quality": "quality of the pseudo-labels",
    "summary": "all evaluations, a row each",
}
_KINDS = {
    STUDY_FILE: "configuration of the whole study as resolved; Snakemake's --configfile takes it",
    CONTENTS_NAME: "digests of everything in this pack and of what it leaves out",
    PLAN_NAME: "the study's detectors and where their files are",
    SUMMARY_NAME: "all evaluations, a row each",
    "summary.md": "the answer: did self-training help?",
    "report.html": "the report: tables, curves, pseudo-label quality and pictures",
    README_NAME: "what this pack is and how to run the study again",
}
_MEDIA_TYPES = {
    ".md": "text/markdown",
    ".ckpt": "application/octet-stream",
    ".smk": "text/plain",
    ".tsv": "text/tab-separated-values",
    "": "text/plain",
}


@dataclass(frozen=True)
class CrateRun:
    """A run of a stage as the crate tells it.

    Attributes:
        run: The run.
        inputs: Names of files and folders, in the pack or not.
        outputs: Role → name.
        provenance: What the run says about itself.
        ended: When it ended, in seconds since 1970; None if that is not known.
    """

    run: StageRun
    inputs: Sequence[str]
    outputs: Mapping[str, str]
    provenance: Mapping[str, Any]
    ended: float | None


@dataclass(frozen=True)
class CrateContent:
    """What the metadata of a pack are made of.

    Attributes:
        study: Name of the study.
        description: What it is and what came out.
        files: File in the pack → its size and SHA-256.
        left_out: What runs read or wrote and the pack does not hold → digest of what it says, or an empty text.
        runs: Runs of stages, in their order.
        workflow: The main Snakefile in the pack.
        locks: Files of locked versions in the pack.
        results: Folder of the results in the pack.
        data: Folder of data that is not in the pack → what it holds.
        authors: Whose results these are: name → ORCID or other address, or an empty text.
        license: SPDX identifier or address; None: none was named.
        url: Address of the workflow; empty if unknown.
    """

    study: str
    description: str
    files: Mapping[str, tuple[int, str]]
    left_out: Mapping[str, str]
    runs: Sequence[CrateRun]
    workflow: str
    locks: Sequence[str]
    results: str
    data: Mapping[str, str]
    authors: Mapping[str, str] = field(default_factory=dict)
    license: str | None = None
    url: str = ""


def crate_metadata(content: CrateContent) -> str:
    """The text of ``ro-crate-metadata.json``."""
    return _Writer(ROCrate(version="1.1"), content).text()


class _Writer:
    """Fills a crate, entity by entity."""

    def __init__(self, crate: ROCrate, content: CrateContent) -> None:
        self.crate, self.content = crate, content
        times = [run.ended for run in content.runs if run.ended is not None]
        self.published = _time(max(times, default=0.0))

    def text(self) -> str:
        """Everything, as JSON-LD."""
        # Not among the terms of RO-Crate 1.1.
        self.crate.metadata.extra_terms["sha256"] = "http://schema.org/sha256"
        self.people = [self._person(name, address) for name, address in self.content.authors.items()]
        self.makers = self._entity(
            "#leod-authors", "Organization", name="The LEOD workflow authors", **self._url(self.content.url)
        )
        self._files()
        self._workflow()
        self._root()
        actions = [self._stage_action(run) for run in self.content.runs]
        self.crate.root_dataset["mentions"] = [self._workflow_action(), *actions]
        return json.dumps(self.crate.metadata.generate(), indent=2, ensure_ascii=False) + "\n"

    # -------------------------------------------------------------------------------------------- the whole

    def _root(self) -> None:
        root = self.crate.root_dataset
        root["name"] = f"Study “{self.content.study}”: self-training of an object detector for event cameras"
        root["description"] = self.content.description
        root["datePublished"] = self.published
        root["keywords"] = "event camera, object detection, self-training, pseudo-labels, label-efficient learning"
        root["license"] = self._license(self.content.license)
        root["conformsTo"] = [
            self._entity(address, "CreativeWork", name=name, version=address.rpartition("/")[2])
            for address, name in _PROFILES.items()
        ]
        root["citation"] = [
            self._entity(
                address,
                "ScholarlyArticle",
                name=title,
                author=[self._entity(f"#{quote(name)}", "Person", name=name) for name in authors],
                datePublished=year,
                url=address,
            )
            for address, (title, authors, year) in PAPERS.items()
        ]
        if self.people:
            root["author"] = _single(self.people)

    def _license(self, license: str | None) -> ContextEntity:
        if license is None:
            return self._entity(
                "#no-licence",
                "CreativeWork",
                name="No licence named",
                description="Whoever packed this study named no licence for its results: ask before using them. The "
                "workflow itself is under the MIT licence.",
            )
        address = license if "://" in license else f"https://spdx.org/licenses/{quote(license)}"
        return self._entity(
            address, "CreativeWork", name=license.rpartition("/")[2] or license, url=address, identifier=address
        )

    def _person(self, name: str, address: str) -> ContextEntity:
        return self._entity(address or f"#{quote(name)}", "Person", name=name)

    # --------------------------------------------------------------------------------------------- the files

    def _files(self) -> None:
        described = {
            name: f"{_ROLES.get(role, _STAGES.get(run.run.stage, role))} ({run.run.name})"
            for run in self.content.runs
            for role, name in run.outputs.items()
        }
        for name, (size, digest) in self.content.files.items():
            if name == self.content.workflow:
                continue
            properties = {
                "name": PurePosixPath(name).name,
                "description": described.get(name) or self._kind(name),
                "encodingFormat": _media_type(name),
                # The file of digests is written last: neither is known of it.
                **({"contentSize": str(size), "sha256": digest} if digest else {}),
            }
            file = self.crate.add_file(dest_path=name, properties=properties)
            if name == README_NAME:
                file["about"] = self.crate.root_dataset
        for name, digest in self.content.left_out.items():
            self._entity(
                f"#{quote(name)}",
                "CreativeWork",
                name=name,
                description=f"{described.get(name) or self._left_out_kind(name)}; not in this pack",
                **({"identifier": f"sha256 of the content: {digest}"} if digest else {}),
            )

    def _kind(self, name: str) -> str:
        path = PurePosixPath(name)
        if path.name in _KINDS:
            return _KINDS[path.name]
        if name in self.content.locks:
            return "exact versions of the packages that the study was installed with"
        if "benchmarks" in path.parts:
            return "time and memory of a job, as Snakemake measured them"
        if path.suffix == ".svg":
            return f"figure of the report: {path.stem.replace('_', ' ')}"
        return "part of the workflow" if path.parts[0] == "workflow" else "result of the study"

    def _left_out_kind(self, name: str) -> str:
        place = PurePosixPath(name)
        for folder, kind in self.content.data.items():
            if place.is_relative_to(folder):
                return kind if str(place) == folder else f"{kind}: {place.relative_to(folder)}"
        return "what a stage read"

    def _reference(self, name: str) -> Any:
        """The entity of a file of the pack, or of what was left out."""
        return self.crate.get(name) or self.crate.get(f"#{quote(name)}")

    # ------------------------------------------------------------------------------------------ the workflow

    def _workflow(self) -> None:
        versions = next((dict(run.provenance["versions"]) for run in self.content.runs if run.provenance), {})
        leod = versions.pop("leod", None)
        stages = in_order(run.run for run in self.content.runs)
        packages = [
            self._entity(
                # Package URLs, which name no index (ECMA-427).
                f"pkg:generic/python@{version}" if name == "python" else f"pkg:pypi/{name}@{version}",
                "SoftwareApplication",
                name="Python" if name == "python" else name,
                softwareVersion=version,
            )
            for name, version in versions.items()
        ]
        self.tools = {
            stage: self._entity(
                f"#leod-{stage}",
                "SoftwareApplication",
                name=f"leod {stage.replace('_', '-')}",
                description=_STAGES.get(stage, stage),
                author=self.makers,
                license=self._license("MIT"),
                softwareRequirements=packages,
                **({"softwareVersion": leod} if leod else {}),
                **self._url(self.content.url),
            )
            for stage in stages
        }
        self.steps = {
            stage: self._entity(
                f"#step-{stage}",
                "HowToStep",
                name=stage,
                description=_STAGES.get(stage, stage),
                position=str(number),
                workExample=tool,
            )
            for number, (stage, tool) in enumerate(self.tools.items())
        }
        size, digest = self.content.files[self.content.workflow]
        workflow = self.crate.add_workflow(
            dest_path=self.content.workflow,
            main=True,
            lang="snakemake",
            properties={
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": "LEOD workflow",
                "description": "From recordings of an event camera with few labelled frames to a detector: "
                "pretraining, rounds of pseudo-labelling and self-training, evaluation, report",
                "encodingFormat": "text/plain",
                "contentSize": str(size),
                "sha256": digest,
            },
        )
        workflow["author"] = workflow["creator"] = self.makers
        workflow["license"] = self._license("MIT")
        workflow["conformsTo"] = self._entity(
            "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE",
            "CreativeWork",
            name="ComputationalWorkflow",
            version="1.0-RELEASE",
        )
        if leod:
            workflow["version"] = leod
        if self.content.url:
            workflow["url"] = self.content.url
        workflow["hasPart"] = list(self.tools.values())
        workflow["step"] = list(self.steps.values())
        self.workflow = workflow

    def _workflow_action(self) -> ContextEntity:
        started = [start for run in self.content.runs if (start := _start(run)) is not None]
        results = [f"{self.content.results}/{name}" for name in REPORT_NAMES]
        metrics = [name for run in self.content.runs if run.run.stage == "evaluate" for name in run.outputs.values()]
        inputs = [name for name in (STUDY_FILE, *self.content.locks) if name in self.content.files]
        return self._entity(
            "#run",
            "CreateAction",
            name=f"The study {self.content.study}",
            description="Run of the whole workflow; its stages are actions of their own",
            instrument=self.workflow,
            object=self._references(inputs),
            result=self._references([*results, *metrics]),
            endTime=self.published,
            **({"startTime": _time(min(started))} if started else {}),
            **self._agent(),
        )

    def _stage_action(self, run: CrateRun) -> ContextEntity:
        place = quote("/".join(filter(None, (run.run.stage, run.run.experiment, _round(run.run), run.run.part))))
        inputs = self._references(run.inputs)
        seed = run.provenance.get("seed")
        if seed is not None:
            inputs.append(self._entity(f"#seed-{seed}", "PropertyValue", name="seed", value=str(seed)))
        started = _start(run)
        action = self._entity(
            f"#run/{place}",
            "CreateAction",
            name=run.run.name,
            description=f"{_STAGES.get(run.run.stage, run.run.stage)}; its settings stand in its result",
            instrument=self.tools[run.run.stage],
            object=inputs,
            result=self._references(run.outputs.values()),
            **({"endTime": _time(run.ended)} if run.ended is not None else {}),
            **({"startTime": _time(started)} if started is not None else {}),
            **self._agent(),
        )
        self._entity(
            f"#step-run/{place}",
            "ControlAction",
            name=f"Snakemake's job: {run.run.name}",
            instrument=self.steps[run.run.stage],
            object=action,
        )
        return action

    def _agent(self) -> dict[str, Any]:
        return {"agent": self.people[0]} if self.people else {}

    def _references(self, names: Any) -> list[Any]:
        return [entity for name in dict.fromkeys(names) if (entity := self._reference(name)) is not None]

    def _url(self, url: str) -> dict[str, str]:
        return {"url": url} if url else {}

    def _entity(self, identifier: str, kind: str, /, **properties: Any) -> ContextEntity:
        """A contextual entity, each identifier once."""
        found = self.crate.get(identifier)
        if found is None:
            plain = {"@type": kind} | {key: value for key, value in properties.items() if _is_plain(value)}
            found = self.crate.add(ContextEntity(self.crate, identifier, properties=plain))
            for key, value in properties.items():
                # References are made of entities only when they are set.
                if not _is_plain(value) and value != []:
                    found[key] = _single(value)
        return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, str)


def _single(value: Any) -> Any:
    """A value alone, as RO-Crate wants it, instead of a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _round(run: StageRun) -> str:
    return "" if run.round is None else f"round_{run.round}"


def _start(run: CrateRun) -> float | None:
    seconds = run.provenance.get("wall_time_s")
    return None if run.ended is None or seconds is None else run.ended - seconds


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds), UTC).isoformat()


def _media_type(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
