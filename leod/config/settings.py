"""The settings of each stage: exactly what it uses, no more, so that nothing else makes it stale."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from leod.config.schema import (
    AllBoxTimesConfig,
    AllRecordingTimesConfig,
    BoxFilterConfig,
    DatasetConfig,
    DetectionConfig,
    EvaluateConfig,
    EvaluationFilterConfig,
    Fraction,
    Identifier,
    LabelBudget,
    LabelTimesConfig,
    MergingConfig,
    ModelConfig,
    NonNegativeInt,
    PositiveFraction,
    PositiveInt,
    PseudoLabelConfig,
    ReportConfig,
    RepresentationConfig,
    ScoreThreshold,
    SensorSize,
    SequenceConfig,
    Settings,
    SimulationConfig,
    StudyConfig,
    ThresholdChoiceConfig,
    TrackFilterConfig,
    TrainingConfig,
    ViewsConfig,
    WindowsConfig,
)
from leod.errors import ConfigError


class SimulateSettings(Settings):
    """Settings of `simulate`."""

    sensor: SensorSize
    classes: tuple[str, ...]
    simulation: SimulationConfig

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        dataset = study.dataset
        if dataset.simulate is None:
            raise ConfigError(f"data set {dataset.name!r} has no 'simulate' section: its recordings are real")
        return cls(sensor=dataset.sensor, classes=dataset.classes, simulation=dataset.simulate)


class PreprocessSettings(Settings):
    """Settings of `preprocess`."""

    sensor: SensorSize
    classes: tuple[str, ...]
    drop_class_ids: tuple[NonNegativeInt, ...]
    class_map: dict[str, str | None]
    window_us: PositiveInt
    representation: RepresentationConfig
    downsample_by_2: bool
    windows: WindowsConfig
    recording_times: AllRecordingTimesConfig
    box_times: AllBoxTimesConfig
    label_times: LabelTimesConfig
    doubled_boxes: Literal["drop", "keep"]
    label_filter: BoxFilterConfig
    max_train_width_fraction: PositiveFraction | None
    unlabelled_recordings: bool
    skip_recordings: tuple[str, ...]
    ignore_files: tuple[str, ...]

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        return cls.from_dataset(study.dataset)

    @classmethod
    def from_dataset(cls, dataset: DatasetConfig) -> Self:
        """Pick what the stage uses out of ``dataset``."""
        return cls(**{name: getattr(dataset, name) for name in cls.model_fields})


class SubsampleSettings(Settings):
    """Settings of `subsample_labels`."""

    budget: LabelBudget
    split_offset: NonNegativeInt
    seed: NonNegativeInt | None = None
    """Random labels: that of the experiment; they differ by seed and split offset."""
    history: PositiveInt
    """Frames that must precede the first kept labelled frame, itself included: pretraining's sequence length."""
    representation: RepresentationConfig
    window_us: PositiveInt
    downsample_by_2: bool

    @classmethod
    def from_study(cls, study: StudyConfig, budget: LabelBudget, split_offset: int, seed: int = 0) -> Self:
        """Pick what the stage uses out of ``study`` for one experiment."""
        dataset = study.dataset
        return cls(
            budget=LabelBudget(setting=budget.setting, ratio=budget.ratio, frames=budget.frames),
            split_offset=split_offset,
            seed=seed if budget.setting == "random" else None,
            history=study.pretraining(budget).sequence_length,
            representation=dataset.representation,
            window_us=dataset.window_us,
            downsample_by_2=dataset.downsample_by_2,
        )


class SuggestLabelsSettings(Settings):
    """Settings of `suggest_labels`."""

    budget: LabelBudget
    seed: NonNegativeInt
    history: PositiveInt
    """Frames that must precede a chosen labelled frame, itself included: pretraining's sequence length."""
    sequence: SequenceConfig
    model: ModelConfig

    @classmethod
    def from_study(cls, study: StudyConfig, budget: LabelBudget, seed: int) -> Self:
        """Pick what the stage uses out of ``study`` for one experiment."""
        return cls(
            budget=LabelBudget(setting="suggested", frames=budget.frames, first_share=budget.first_share),
            seed=seed,
            history=study.pretraining(budget).sequence_length,
            sequence=study.dataset.sequence_config(),
            model=study.model,
        )


class TrainSettings(Settings):
    """Settings of `pretrain` and `self_train`."""

    sequence: SequenceConfig
    model: ModelConfig
    training: TrainingConfig
    evaluation_filter: EvaluationFilterConfig

    @model_validator(mode="after")
    def _augmentation_fits(self) -> Self:
        self.training.augmentation.check_representation(self.sequence.representation)
        return self

    @classmethod
    def _from(cls, study: StudyConfig, training: TrainingConfig) -> Self:
        return cls(
            sequence=study.dataset.sequence_config(),
            model=study.model,
            training=training,
            evaluation_filter=study.dataset.evaluation(),
        )

    @classmethod
    def for_pretraining(cls, study: StudyConfig, budget: LabelBudget | None = None) -> Self:
        """Pick what `pretrain` uses out of ``study``, for a label budget with settings of its own if given."""
        training = study.pretrain if budget is None else study.pretraining(budget)
        return cls._from(study, training)

    @classmethod
    def for_self_training(cls, study: StudyConfig) -> Self:
        """Pick what `self_train` uses out of ``study``."""
        return cls._from(study, study.self_train)


class ChooseThresholdsSettings(Settings):
    """Settings of `choose_thresholds`."""

    sequence: SequenceConfig
    model: ModelConfig
    views: ViewsConfig
    detection: DetectionConfig
    merging: MergingConfig = MergingConfig()
    box_filter: BoxFilterConfig
    choice: ThresholdChoiceConfig

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        pseudo_labels = study.pseudo_labels
        if pseudo_labels.choose_thresholds is None:
            raise ConfigError(
                f"study {study.name!r} has fixed score thresholds; "
                "give pseudo_labels.choose_thresholds to have them chosen"
            )
        return cls(
            sequence=study.dataset.sequence_config(),
            model=study.model,
            views=pseudo_labels.views,
            detection=pseudo_labels.detection,
            merging=pseudo_labels.merging,
            box_filter=study.dataset.pseudo_label_filter,
            choice=pseudo_labels.choose_thresholds,
        )


class GenerateSettings(Settings):
    """Settings of `generate_pseudo_labels`."""

    sequence: SequenceConfig
    model: ModelConfig
    views: ViewsConfig
    detection: DetectionConfig
    merging: MergingConfig = MergingConfig()
    score_thresholds: dict[str, float | ScoreThreshold] | None
    """None: they come from a file that `choose_thresholds` wrote."""
    box_filter: BoxFilterConfig
    use_ground_truth: bool
    skip_first_frames: NonNegativeInt

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        pseudo_labels = study.pseudo_labels
        return cls(
            sequence=study.dataset.sequence_config(),
            model=study.model,
            views=pseudo_labels.views,
            detection=pseudo_labels.detection,
            merging=pseudo_labels.merging,
            score_thresholds=None if pseudo_labels.choose_thresholds else pseudo_labels.score_thresholds,
            box_filter=study.dataset.pseudo_label_filter,
            use_ground_truth=pseudo_labels.use_ground_truth,
            skip_first_frames=pseudo_labels.skip_first_frames,
        )


class TrackFilterSettings(Settings):
    """Settings of `track_filter`."""

    sequence: SequenceConfig
    track_filter: TrackFilterConfig
    use_ground_truth: bool

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        return cls(
            sequence=study.dataset.sequence_config(),
            track_filter=study.track_filter,
            use_ground_truth=study.pseudo_labels.use_ground_truth,
        )


class QualitySettings(Settings):
    """Settings of `validate_quality`."""

    sequence: SequenceConfig
    ignore_thresholds: dict[str, Fraction] | None = None
    """Which pseudo-labels the loss of self-training ignores."""
    smooth_frames: NonNegativeInt = 0
    """Unless 0, the data set's boxes need not lie where the predictions do."""

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        return cls(
            sequence=study.dataset.sequence_config(),
            ignore_thresholds=study.self_train.loss.ignore_thresholds,
            smooth_frames=study.track_filter.smooth_frames,
        )


class EvaluateSettings(Settings):
    """Settings of `evaluate`."""

    sequence: SequenceConfig
    model: ModelConfig
    detection: DetectionConfig
    merging: MergingConfig = MergingConfig()
    evaluation_filter: EvaluationFilterConfig

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        return cls(
            sequence=study.dataset.sequence_config(),
            model=study.model,
            detection=study.evaluate.detection,
            merging=study.evaluate.merging,
            evaluation_filter=study.dataset.evaluation(),
        )


class LatencySettings(Settings):
    """Settings of `measure_latency`."""

    sequence: SequenceConfig
    model: ModelConfig
    detection: DetectionConfig

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        return cls(sequence=study.dataset.sequence_config(), model=study.model, detection=study.evaluate.detection)


class BenchmarkSettings(Settings):
    """Settings of `benchmark`: what a study runs, or what is usual for a model and a sensor."""

    sequence: SequenceConfig
    model: ModelConfig
    preprocess: PreprocessSettings
    pretrain: TrainSettings
    self_train: TrainSettings
    pseudo_labels: GenerateSettings
    latency: DetectionConfig
    simulation: SimulationConfig | None
    label_every: PositiveInt
    """Distance of labelled frames, in frames."""
    kept_share: PositiveFraction
    """Share of the labelled frames that pretraining may use."""

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the command uses out of ``study``; of its label budgets the first."""
        budget = study.labels[0]
        return cls(
            sequence=study.dataset.sequence_config(),
            model=study.model,
            preprocess=PreprocessSettings.from_study(study),
            pretrain=TrainSettings.for_pretraining(study, budget),
            self_train=TrainSettings.for_self_training(study),
            pseudo_labels=GenerateSettings.from_study(study),
            latency=study.evaluate.detection,
            simulation=study.dataset.simulate,
            label_every=study.dataset.label_times.step_in_frames(study.dataset.window_us),
            kept_share=budget.ratio,
        )


class ReportSettings(Settings):
    """Settings of `report`: the study but for folders of results and the use of the machine."""

    name: Identifier
    dataset: DatasetConfig
    model: ModelConfig
    labels: tuple[LabelBudget, ...]
    split_offsets: tuple[NonNegativeInt, ...]
    seeds: tuple[NonNegativeInt, ...]
    rounds: NonNegativeInt
    references: tuple[str, ...]
    arms: dict[str, dict[str, Any]]
    pretrain: TrainingConfig
    pseudo_labels: PseudoLabelConfig
    track_filter: TrackFilterConfig
    self_train: TrainingConfig
    evaluate: EvaluateConfig
    report: ReportConfig

    @classmethod
    def from_study(cls, study: StudyConfig) -> Self:
        """Pick what the stage uses out of ``study``."""
        return cls(**{name: getattr(study, name) for name in cls.model_fields})
