"""A study's cells, paths and jobs in one place: what the rules of the workflow are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from leod.config.load import ORACLE, resolve_study, study_content
from leod.config.schema import Settings
from leod.recordings.discovery import files_of_split
from leod.sequences.layout import SPLITS
from leod.study.experiments import Experiment, study_experiments
from leod.study.jobs import FIGURES, JOBS, OF_EXPERIMENT, OF_ROUND
from leod.study.plan import Benchmark, DetectorFiles, StudyPlan
from leod.study.sharing import SETTINGS, owners


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
        chooses_thresholds: Whether any experiment has its score thresholds chosen.
        gpus: GPUs of a training job; inference takes one.

    Raises:
        ConfigError: The configuration is wrong, or two cells have one name.
    """

    def __init__(self, content: Mapping[str, Any], folders: list[Path], source: str) -> None:
        self.config = resolve_study(_with_nulls(content), folders, source)
        self.experiments = {entry.name: entry for entry in study_experiments(self.config)}
        self._owners = owners(self.experiments.values())
        self.folder = str(self.config.results / self.config.name)
        self.labels = f"{self.folder}/{OF_EXPERIMENT}/labels.json"
        self.round = f"{self.folder}/{OF_ROUND}"
        self.first_round = self.round.replace("{round}", "0")
        dataset = self.config.dataset
        manifests = f"{dataset.sequences}/manifests" if dataset.recordings else f"{self.folder}/data"
        self.manifest = f"{manifests}/{{split}}-{{shard}}.json"
        self.shards = range(self.config.pseudo_labels.shards)
        self.chooses_thresholds = any(cell.rounds and cell.chooses_thresholds for cell in self.experiments.values())
        self.gpus = 0 if self.config.hardware.accelerator == "cpu" else self.config.hardware.devices

    @classmethod
    def read(cls, path: Path, overrides: Iterable[str] = ()) -> Study:
        """Read a study file, see `leod.config.load.load_study`.

        Args:
            path: The study's YAML file.
            overrides: ``key.subkey=value`` strings that win over the file.

        Raises:
            ConfigError: The configuration is wrong, or two cells have one name.
        """
        return cls(*study_content(path, overrides))

    def log(self, rule: str) -> str:
        """Pattern of a rule's log."""
        return f"{self.folder}/logs/{JOBS[rule]}.log"

    def benchmark(self, rule: str) -> str:
        """Pattern of the file in which Snakemake notes time and memory of a rule's jobs."""
        return f"{self.folder}/benchmarks/{JOBS[rule]}.tsv"

    def settings(self, rule: str, experiment: str) -> Settings:
        """What a stage uses in an experiment."""
        return SETTINGS[rule](self.experiments[experiment])

    def _folder(self, rule: str, experiment: str, round: int) -> str:
        """The folder of a round that has what a rule makes, which may be that of another experiment."""
        return self.round.format(experiment=self._owners[rule, experiment, round], round=round)

    def labels_of(self, experiment: str) -> str:
        """The split of record of an experiment."""
        rule = "suggest_labels" if self.experiments[experiment].budget.setting == "suggested" else "subsample_labels"
        return self.labels.format(experiment=self._owners[rule, experiment, 0])

    def first_labels(self, experiment: str) -> list[str]:
        """The labels that are there before a detector chooses the rest; none where it chooses none."""
        chooser = self.experiments[experiment].chooser
        return [] if chooser is None else [self.labels_of(chooser.name)]

    def choosing_detector(self, experiment: str) -> list[str]:
        """The detector that chooses the rest of the labels; none where there is none."""
        chooser = self.experiments[experiment].chooser
        return [] if chooser is None else [self.model(chooser.name, 0)]

    def model(self, experiment: str, round: int) -> str:
        """The detector of a round."""
        return f"{self._training_folder(experiment, round)}/model.ckpt"

    def feeds_rounds(self, experiment: str) -> bool:
        """Whether rounds of self-training wait for the pretraining of this experiment."""
        first = self.model(experiment, 0)
        return any(cell.rounds and self.model(name, 0) == first for name, cell in self.experiments.items())

    def _training_folder(self, experiment: str, round: int) -> str:
        return self._folder("self_train" if round else "pretrain", experiment, round)

    def predictions(self, experiment: str, round: int) -> list[str]:
        """What the detector of the round before saw, shard by shard."""
        folder = self._folder("generate_pseudo_labels", experiment, round)
        return [f"{folder}/predictions/{shard}.h5" for shard in self.shards]

    def pseudo_labels(self, experiment: str, round: int) -> list[str]:
        """The pseudo-labelled data set of a round and its manifest; none where it is trained on ground truth."""
        if self.experiments[experiment].arm == ORACLE:
            return []
        folder = self._folder("track_filter", experiment, round)
        return [f"{folder}/dataset", f"{folder}/dataset.json"]

    def training_set(self, experiment: str, round: int) -> str:
        """The data set that self-training learns from."""
        return next(iter(self.pseudo_labels(experiment, round)), str(self.config.dataset.sequences))

    def manifests(self, *splits: str) -> list[str]:
        """Files that say that the sequences of these splits are complete."""
        return [self.manifest.format(split=split, shard=shard) for split in splits for shard in self._sequence_shards]

    @property
    def _sequence_shards(self) -> range:
        return range(self.config.preprocess.shards if self.config.dataset.recordings else 1)

    def published_weights(self, experiment: str) -> list[str]:
        """The file that pretraining takes instead of training, if the study names one."""
        checkpoint = self.experiments[experiment].study.pretrain.from_checkpoint
        return [] if checkpoint is None else [str(checkpoint)]

    def pretraining_sequences(self, experiment: str) -> list[str]:
        """What pretraining reads, unless it takes published weights."""
        return [] if self.published_weights(experiment) else self.manifests("train", "val")

    def previous_detector(self, experiment: str, round: int) -> list[str]:
        """What self-training starts from: nothing, unless the study says that it goes on from the round before."""
        return [self.model(experiment, round - 1)] if self.experiments[experiment].trains_on else []

    def chosen_thresholds(self, experiment: str, round: int) -> list[str]:
        """The file of a round's chosen score thresholds, if the study has them chosen."""
        if not self.experiments[experiment].chooses_thresholds:
            return []
        return [f"{self._folder('choose_thresholds', experiment, round)}/thresholds.json"]

    def keep_thresholds(self, experiment: str, round: int) -> list[str]:
        """The same file, if thresholds for keeping were chosen along with those for generating."""
        choice = self.experiments[experiment].study.pseudo_labels.choose_thresholds
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

    def figures(self) -> dict[str, str]:
        """The figures that the report will have, with their categories."""
        left_out = set()
        if not self.config.rounds:
            left_out |= {name for name, category in FIGURES.items() if category == "Pseudo-labels"}
        if self.config.pseudo_labels.choose_thresholds is None:
            left_out.add("thresholds")
        if not self.config.arms:
            left_out.add("arms")
        return {name: category for name, category in FIGURES.items() if name not in left_out}

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
        folder, evaluation = self._training_folder(cell.name, round), self.config.evaluate
        pseudo_labels = {}
        if round and cell.arm != ORACLE:
            dataset, manifest = self.pseudo_labels(cell.name, round)
            quality = f"{self._folder('validate_quality', cell.name, round)}/quality.json"
            pseudo_labels = {"dataset": dataset, "manifest": manifest, "quality": quality}
            if chosen := self.chosen_thresholds(cell.name, round):
                pseudo_labels["thresholds"] = chosen[0]
        return DetectorFiles(
            experiment=cell.name,
            arm=cell.arm,
            setting=cell.budget.setting,
            ratio=cell.budget.ratio,
            frames=cell.budget.frames or 0,
            first_frames=cell.budget.first_frames,
            split_offset=cell.split_offset,
            seed=cell.seed,
            round=round,
            labels=self.labels_of(cell.name),
            model=self.model(cell.name, round),
            curves=f"{folder}/training.csv",
            record=f"{folder}/training.json",
            # Evaluations stand beside their detector: who shares it shares them.
            metrics={name: f"{folder}/metrics/{evaluation.split}_{name}.json" for name in evaluation.variants},
            **pseudo_labels,
        )

    def jobs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The jobs that make the results: rule and wildcards."""
        dataset, evaluation = self.config.dataset, self.config.evaluate
        if dataset.simulate is not None:
            yield "simulate", {}
        rule = "preprocess" if dataset.recordings else "check_sequences"
        yield from ((rule, {"split": split, "shard": shard}) for split in SPLITS for shard in self._sequence_shards)
        for (rule, experiment, round), owner in self._owners.items():
            if experiment != owner:
                continue
            of_round = {"experiment": experiment, "round": round}
            if rule == "generate_pseudo_labels":
                yield from ((rule, of_round | {"shard": shard}) for shard in self.shards)
            else:
                yield rule, of_round
            if rule in ("pretrain", "self_train"):
                for variant in evaluation.variants:
                    yield "evaluate", of_round | {"split": evaluation.split, "variant": variant}


def _with_nulls(value: Any) -> Any:
    """`snakemake --config key=null` arrives as the text 'null'."""
    if isinstance(value, Mapping):
        return {key: _with_nulls(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_nulls(entry) for entry in value]
    return None if value == "null" else value
