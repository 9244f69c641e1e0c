"""A study's cells, paths and jobs in one place: what the rules of the workflow are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leod.config.load import resolve_study
from leod.config.settings import SubsampleSettings, TrainSettings
from leod.recordings.discovery import files_of_split
from leod.sequences.layout import SPLITS
from leod.study.experiments import Experiment, study_experiments
from leod.study.jobs import FIGURES, JOBS, OF_EXPERIMENT, OF_ROUND
from leod.study.plan import Benchmark, DetectorFiles, StudyPlan


class Study:
    """A study with all its names.

    Patterns hold wildcards in braces, as Snakemake's do: experiment, round, split, shard, variant.

    Args:
        content: The study as YAML gives it, see `leod.config.load.resolve_study`.
        folders: Where data sets and models are looked up.
        source: The study's file, for errors.

    Attributes:
        config: The typed configuration.
        experiments: Name → cell of the study.
        folder: Folder of the results.
        labels: Pattern of the split of record.
        round: Pattern of a round's folder.
        first_round: Pattern of the folder of round 0.
        manifest: Pattern of the files that say that the sequences of a split (and shard) are complete.
        shards: Shards of the pseudo-labels.
        chooses_thresholds: Whether each round has its score thresholds chosen.
        gpus: GPUs of a training job; inference takes one.

    Raises:
        ConfigError: The configuration is wrong, or two cells have one name.
    """

    def __init__(self, content: Mapping[str, Any], folders: list[Path], source: str) -> None:
        self.config = resolve_study(_with_nulls(content), folders, source)
        self.experiments = {entry.name: entry for entry in study_experiments(self.config)}
        self.folder = str(self.config.results / self.config.name)
        self.labels = f"{self.folder}/{OF_EXPERIMENT}/labels.json"
        self.round = f"{self.folder}/{OF_ROUND}"
        self.first_round = self.round.replace("{round}", "0")
        dataset = self.config.dataset
        manifests = f"{dataset.sequences}/manifests" if dataset.recordings else f"{self.folder}/data"
        self.manifest = f"{manifests}/{{split}}-{{shard}}.json"
        self.shards = range(self.config.pseudo_labels.shards)
        self.chooses_thresholds = self.config.pseudo_labels.choose_thresholds is not None
        self.gpus = 0 if self.config.hardware.accelerator == "cpu" else self.config.hardware.devices

    def log(self, rule: str) -> str:
        """Pattern of a rule's log."""
        return f"{self.folder}/logs/{JOBS[rule]}.log"

    def benchmark(self, rule: str) -> str:
        """Pattern of the file in which Snakemake notes time and memory of a rule's jobs."""
        return f"{self.folder}/benchmarks/{JOBS[rule]}.tsv"

    def model(self, experiment: str, round: int) -> str:
        """The detector of a round."""
        return f"{self.round}/model.ckpt".format(experiment=experiment, round=round)

    def manifests(self, *splits: str) -> list[str]:
        """Files that say that the sequences of these splits are complete."""
        return [self.manifest.format(split=split, shard=shard) for split in splits for shard in self._sequence_shards]

    @property
    def _sequence_shards(self) -> range:
        return range(self.config.preprocess.shards if self.config.dataset.recordings else 1)

    def published_weights(self) -> list[str]:
        """The file that pretraining takes instead of training, if the study names one."""
        checkpoint = self.config.pretrain.from_checkpoint
        return [] if checkpoint is None else [str(checkpoint)]

    def pretraining_sequences(self) -> list[str]:
        """What pretraining reads, unless it takes published weights."""
        return [] if self.published_weights() else self.manifests("train", "val")

    def previous_detector(self, experiment: str, round: int) -> list[str]:
        """What self-training starts from: nothing, unless the study says that it goes on from the round before."""
        starts_anew = self.config.self_train.initial_weights == "scratch"
        return [] if starts_anew else [self.model(experiment, round - 1)]

    def chosen_thresholds(self, experiment: str, round: int) -> list[str]:
        """The file of a round's chosen score thresholds, if the study has them chosen."""
        file = f"{self.round}/thresholds.json".format(experiment=experiment, round=round)
        return [file] if self.chooses_thresholds else []

    def keep_thresholds(self, experiment: str, round: int) -> list[str]:
        """The same file where `track_filter` reads it: if thresholds for keeping are chosen, too."""
        choice = self.config.pseudo_labels.choose_thresholds
        return self.chosen_thresholds(experiment, round) if choice and choice.max_background is not None else []

    def missing_data(self) -> str | None:
        """What to tell a user whose data are not there yet; None if they are, or will be simulated."""
        dataset = self.config.dataset
        folder = dataset.recordings or dataset.sequences
        if dataset.simulate is not None or folder.is_dir():
            return None
        kind = "recordings" if dataset.recordings else "preprocessed sequences"
        return (
            f"Data set '{dataset.name}': {folder} does not exist yet. Put its {kind} into {folder}/train, /val and "
            f"/test, or name another folder: dataset: {{base: {dataset.name}, {kind.split()[-1]}: FOLDER}}"
        )

    def recordings(self, split: str) -> list[str]:
        """The files that the sequences of a split are made from."""
        return [str(path) for path in files_of_split(Path(self.config.dataset.recordings or "") / split)]

    def subsample_settings(self, experiment: str) -> SubsampleSettings:
        """What choosing the labels of an experiment uses."""
        cell = self.experiments[experiment]
        return SubsampleSettings.from_study(self.config, cell.budget, cell.split_offset)

    def pretrain_settings(self, experiment: str) -> TrainSettings:
        """What pretraining of an experiment uses."""
        return TrainSettings.for_pretraining(self.config, self.experiments[experiment].budget)

    def figures(self) -> dict[str, str]:
        """The figures that the report will have, with their categories."""
        rounds = any(cell.rounds for cell in self.experiments.values())
        return {
            name: category
            for name, category in FIGURES.items()
            if (rounds or category != "Pseudo-labels") and (self.chooses_thresholds or name != "thresholds")
        }

    def plan(self) -> StudyPlan:
        """All detectors with their files, and what the jobs leave about themselves."""
        return StudyPlan(
            split=self.config.evaluate.split,
            detectors=tuple(
                self._detector(cell, round) for cell in self.experiments.values() for round in range(cell.rounds + 1)
            ),
            manifests={split: self.manifests(split) for split in SPLITS} if self.config.dataset.recordings else {},
            benchmarks=tuple(
                Benchmark(stage=rule, path=self.benchmark(rule).format(**wildcards)) for rule, wildcards in self.jobs()
            ),
        )

    def _detector(self, cell: Experiment, round: int) -> DetectorFiles:
        folder = self.round.format(experiment=cell.name, round=round)
        evaluation = self.config.evaluate
        pseudo_labels = {"dataset": "dataset", "manifest": "dataset.json", "quality": "quality.json"}
        if self.chooses_thresholds:
            pseudo_labels["thresholds"] = "thresholds.json"
        return DetectorFiles(
            experiment=cell.name,
            setting=cell.budget.setting,
            ratio=cell.budget.ratio,
            split_offset=cell.split_offset,
            seed=cell.seed,
            round=round,
            labels=self.labels.format(experiment=cell.name),
            model=self.model(cell.name, round),
            curves=f"{folder}/training.csv",
            record=f"{folder}/training.json",
            metrics={name: f"{folder}/metrics/{evaluation.split}_{name}.json" for name in evaluation.variants},
            **({kind: f"{folder}/{file}" for kind, file in pseudo_labels.items()} if round else {}),
        )

    def jobs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The jobs that make the results: rule and wildcards."""
        dataset, evaluation = self.config.dataset, self.config.evaluate
        if dataset.simulate is not None:
            yield "simulate", {}
        rule = "preprocess" if dataset.recordings else "check_sequences"
        yield from ((rule, {"split": split, "shard": shard}) for split in SPLITS for shard in self._sequence_shards)
        for cell in self.experiments.values():
            yield "subsample_labels", {"experiment": cell.name}
            for round in range(cell.rounds + 1):
                of_round = {"experiment": cell.name, "round": round}
                if round == 0:
                    yield "pretrain", of_round
                else:
                    if self.chooses_thresholds:
                        yield "choose_thresholds", of_round
                    yield from (("generate_pseudo_labels", of_round | {"shard": shard}) for shard in self.shards)
                    yield from ((rule, of_round) for rule in ("track_filter", "validate_quality", "self_train"))
                for variant in evaluation.variants:
                    yield "evaluate", of_round | {"split": evaluation.split, "variant": variant}


def _with_nulls(value: Any) -> Any:
    """`snakemake --config key=null` arrives as the text 'null'."""
    if isinstance(value, Mapping):
        return {key: _with_nulls(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_nulls(entry) for entry in value]
    return None if value == "null" else value
