"""The typed configuration: what a study, a data set and a model file may say.

Every class refuses unknown keys and wrong values; `leod.config.load` turns the complaints into messages that name
file, key, value and what is allowed. Settings are immutable once read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFraction = Annotated[float, Field(gt=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
# Far beyond any clock, and sums of two still fit into 64 bits.
TimeUs = Annotated[int, Field(ge=0, le=1 << 62)]
TimeShiftUs = Annotated[int, Field(ge=-(1 << 62), le=1 << 62)]
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
PositiveFloat = Annotated[float, Field(gt=0.0)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
SHOWN_CONFIDENCE = 0.3
"""Detections that are weaker than this are not shown to people, unless they say otherwise."""
IGNORED_CLASS_NAME = "ignored"
"""What box files and `class_map` call boxes that are neither object nor background."""


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys, no coercion of strings into numbers' neighbours."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --------------------------------------------------------------------------------------------------- data sets


class SensorSize(Settings):
    """Size of the sensor in pixels."""

    height: PositiveInt
    width: PositiveInt


TimeUnit = Literal["s", "ms", "us", "ns"]
US_PER_UNIT: dict[TimeUnit, int | float] = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1e-3}


class RecordingTimesConfig(Settings):
    """The clock of recordings and the part of them that is read (see `leod.recordings.recording`)."""

    unit: TimeUnit | None = Field(
        default=None,
        description="what the files' times count, whole or fractional; null = as the format says, microseconds",
    )
    offset_us: TimeShiftUs = Field(
        default=0, description="added to every time in microseconds; boxes are on the clock after it"
    )
    start_us: TimeUs | None = Field(
        default=None, description="events before this time, on the clock after the offset, are left out unchecked"
    )
    end_us: TimeUs | None = Field(default=None, description="events after this time are left out unchecked")

    @model_validator(mode="after")
    def _in_order(self) -> RecordingTimesConfig:
        if self.start_us is not None and self.end_us is not None and self.start_us > self.end_us:
            raise ValueError(f"start_us {self.start_us} must not lie after end_us {self.end_us}")
        return self


class SimulationConfig(Settings):
    """The simulated driving data set (see `leod.simulation.simulator`)."""

    recordings: dict[Literal["train", "val", "test"], PositiveInt] = Field(
        default={"train": 30, "val": 8, "test": 12}, description="number of recordings in each split"
    )
    duration_s: PositiveFloat = Field(default=10.0, description="length of a recording in seconds")
    label_rate_hz: PositiveFloat = Field(default=4.0, description="labelled frames per second")
    seed: NonNegativeInt = 0
    contrast_threshold: PositiveFloat = Field(
        default=0.2, description="change of log intensity that makes an event, on average over the pixels"
    )
    contrast_variation: Annotated[float, Field(ge=0.0)] = Field(
        default=0.12, description="standard deviation of the pixels' thresholds relative to contrast_threshold"
    )
    refractory_us: NonNegativeInt = Field(
        default=300, description="microseconds after an event in which its pixel is silent"
    )
    render_rate_hz: PositiveFloat = Field(
        default=200.0, description="rendered images per second; event times are interpolated between them"
    )
    noise_rate_hz: Annotated[float, Field(ge=0.0)] = Field(
        default=0.15, description="background activity, events per pixel and second"
    )
    hot_pixel_fraction: Fraction = Field(default=2e-4, description="share of pixels that fire all the time")
    field_of_view_deg: Annotated[float, Field(ge=20.0, le=100.0)] = Field(
        default=64.0, description="horizontal angle that the lens sees; a longer lens makes objects larger"
    )
    objects_per_second: Annotated[float, Field(ge=0.0)] = Field(
        default=0.5, description="mean rate at which objects enter the scene"
    )
    pedestrian_fraction: Fraction = Field(default=0.6, description="share of pedestrians among the objects")
    stop_probability: Fraction = Field(default=0.25, description="share of objects that stop for a while")
    ego_motion: Annotated[float, Field(ge=0.0)] = Field(
        default=1.0, description="speed of the background relative to the default; 0 = a parked car"
    )
    clutter: Annotated[float, Field(ge=0.0)] = Field(
        default=1.0, description="density of background structure (poles, fences, windows) that resembles objects"
    )


class RepresentationConfig(Settings):
    """How the events of one window become a tensor (see `leod.sequences.representations`)."""

    kind: Literal["stacked_histogram", "mixed_density"] = "stacked_histogram"
    bins: PositiveInt = Field(default=10, description="time bins per window")
    count_cutoff: PositiveInt | None = Field(
        default=10, description="counts are cut at this value; null = the type's limit"
    )
    wrap_counts: bool = Field(
        default=False, description="count hot pixels modulo 256 before the cut, as the released data sets do"
    )

    @property
    def channels(self) -> int:
        """Channels of a frame: two polarities per bin for histograms, one per bin for mixed-density stacks."""
        return 2 * self.bins if self.kind == "stacked_histogram" else self.bins

    @property
    def count_limit(self) -> int:
        """Largest count of a stacked histogram."""
        return 255 if self.count_cutoff is None else min(self.count_cutoff, 255)


class LabelTimesConfig(Settings):
    """Which label times become labelled frames (golden semantics: preprocessing, step 5)."""

    mode: Literal["fixed_step", "median_step", "any"] = Field(
        default="any",
        description="fixed_step: multiples of step_us; median_step: the multiple of the median distance between labels "
        "that comes nearest to step_us; any: every label time, however irregular",
    )
    step_us: PositiveInt = Field(default=250_000, description="distance of labelled frames in microseconds")
    first_us: NonNegativeInt = Field(
        default=100_000, description="labels before this time have too little history; counted from windows.origin"
    )
    tolerance_us: NonNegativeInt = Field(default=2_000, description="how far a label time may be off its multiple")

    def step_in_frames(self, window_us: int) -> int:
        """Distance of labelled frames that `step_us` makes likely, in frames of ``window_us`` microseconds."""
        return max(1, round(self.step_us / window_us))


class WindowsConfig(Settings):
    """Which part of a recording becomes frames. Label moments are ends of windows wherever the grid begins.

    The published data sets have windows from zero of the clock (the earliest is left out, as RVT does) to the last
    label: ``{origin: clock_zero, train_until: last_label}``.
    """

    origin: Literal["first_event", "clock_zero"] = Field(
        default="first_event",
        description="where a recording begins: windows start here, and label_times.first_us and "
        "evaluation_filter.skip_us are counted from here",
    )
    train_until: Literal["last_event", "last_label"] = Field(
        default="last_event", description="end of training recordings; last_label: what follows it makes no frames"
    )
    evaluation_until: Literal["last_event", "last_label"] = Field(
        default="last_label", description="the same for recordings of the val and test splits"
    )

    def until(self, split: str) -> str:
        """Where the recordings of ``split`` end."""
        return self.train_until if split == "train" else self.evaluation_until


class AllRecordingTimesConfig(RecordingTimesConfig):
    """`RecordingTimesConfig` of a data set, with exceptions for single recordings."""

    of_recording: dict[str, RecordingTimesConfig] = Field(
        default={}, description="name of a recording → its own times, in place of all of the above"
    )

    def of(self, name: str) -> RecordingTimesConfig:
        """What holds for the recording of that name."""
        common = RecordingTimesConfig(**{field: getattr(self, field) for field in RecordingTimesConfig.model_fields})
        return self.of_recording.get(name, common)


class BoxTimesConfig(Settings):
    """What the times in a box file mean."""

    unit: TimeUnit = Field(default="us", description="unit of the times, also of a column called t_us")
    offset_us: TimeShiftUs = Field(default=0, description="added to every time, in microseconds")
    zero: Literal["clock", "first_event"] = Field(
        default="clock",
        description="what zero is: zero of the recording's clock, or the recording's first event (Metavision's tools "
        "shift times so)",
    )


class AllBoxTimesConfig(BoxTimesConfig):
    """`BoxTimesConfig` of a data set, with exceptions for single recordings."""

    of_recording: dict[str, BoxTimesConfig] = Field(
        default={}, description="name of a recording → the times of its boxes, in place of all of the above"
    )

    def of(self, name: str) -> BoxTimesConfig:
        """What holds for the boxes of the recording of that name."""
        common = BoxTimesConfig(**{field: getattr(self, field) for field in BoxTimesConfig.model_fields})
        return self.of_recording.get(name, common)


class PlausibilityConfig(Settings):
    """When preprocessing refuses a recording or warns about it; null switches a check off."""

    min_events_per_window: Annotated[float, Field(ge=0.0)] | None = Field(
        default=1.0, description="refused: recordings with fewer events per window on average"
    )
    max_clock_start_us: NonNegativeInt | None = Field(
        default=60_000_000,
        description="refused: recordings that begin later on their clock, if windows.origin is clock_zero",
    )
    min_events_per_pixel_s: Annotated[float, Field(ge=0.0)] | None = Field(
        default=0.02, description="warning: fewer events per pixel and second on average"
    )
    max_events_per_pixel_s: PositiveFloat | None = Field(
        default=500.0, description="warning: more events per pixel and second on average"
    )
    max_empty_frames: Fraction | None = Field(default=0.5, description="warning: more frames without events")
    max_label_rate_hz: PositiveFloat | None = Field(default=200.0, description="warning: label moments follow faster")
    max_doubled_boxes: Fraction | None = Field(
        default=0.0, description="warning: a larger share of boxes that lie on another one of their class"
    )
    max_frozen_boxes: Fraction | None = Field(
        default=0.5, description="warning: a larger share of boxes equal to one of the label moment before"
    )
    max_outside_boxes: Fraction | None = Field(
        default=0.05, description="warning: a larger share of boxes that lie outside the sensor"
    )
    max_cut_boxes: Fraction | None = Field(
        default=0.5, description="warning: a larger share of boxes that reach beyond the sensor"
    )
    max_filtered_boxes: Fraction | None = Field(
        default=0.9, description="warning: a larger share of boxes that label_filter drops"
    )
    recording_in_two_splits: Literal["refuse", "warn"] = Field(
        default="refuse", description="what to do where two splits have a recording of the same name or events"
    )


class BoxFilterConfig(Settings):
    """Which boxes are kept, in pixels of the full sensor unless said otherwise."""

    min_diagonal: Annotated[float, Field(ge=0.0)] = 0.0
    min_side: Annotated[float, Field(ge=0.0)] = 0.0
    max_width_fraction: PositiveFraction | None = Field(
        default=None, description="boxes wider than this share of the sensor are dropped; null = no limit"
    )


class SequenceConfig(Settings):
    """What a detector has to know about preprocessed sequences."""

    sensor: SensorSize
    classes: Annotated[tuple[Identifier, ...], Field(min_length=1)] = Field(description="class names in label-id order")
    window_us: PositiveInt = Field(default=50_000, description="length of a window in microseconds")
    representation: RepresentationConfig = RepresentationConfig()
    downsample_by_2: bool = Field(default=False, description="halve the frames (nearest-exact) and the boxes")
    time_reversal_label_offset: Annotated[int, Field(le=0)] = Field(
        default=-1, description="frame i's label belongs to frame i + offset of the reversed sequence"
    )
    partition_split_32: PositiveInt = Field(
        default=1,
        description="attention windows are (padded size / 32 / this); the size is padded to a multiple of 32 * this",
    )

    @field_validator("classes")
    @classmethod
    def _unique(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) != len(classes):
            raise ValueError("class names must differ from each other")
        return classes

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of a frame as the detector sees it, before padding."""
        divisor = 2 if self.downsample_by_2 else 1
        return self.sensor.height // divisor, self.sensor.width // divisor

    @property
    def padded_size(self) -> tuple[int, int]:
        """(height, width) after zero-padding at the right and bottom."""
        multiple = 32 * self.partition_split_32
        height, width = self.frame_size
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    @property
    def partition_size(self) -> tuple[int, int]:
        """Attention window (height, width) in feature cells, equal in every stage."""
        height, width = self.padded_size
        return height // (32 * self.partition_split_32), width // (32 * self.partition_split_32)


class EvaluationFilterConfig(Settings):
    """Boxes that the Prophesee protocol leaves out, in pixels of the (halved) frame."""

    min_diagonal: Annotated[float, Field(ge=0.0)] = 0.0
    min_side: Annotated[float, Field(ge=0.0)] = 0.0
    skip_us: NonNegativeInt = Field(default=500_000, description="boxes up to this time are not evaluated")
    skip_from: Literal["first_event", "clock_zero"] | None = Field(
        default=None,
        description="what skip_us is counted from: the recording's first window, or zero of its clock; null = the data "
        "set's windows.origin",
    )


class SplitExtent(Settings):
    """How much there is of one split."""

    recordings: PositiveInt
    hours: PositiveFloat = Field(description="length of all of them together")


class DatasetExtent(Settings):
    """How large a data set is, for `leod estimate` where it is not at hand."""

    train: SplitExtent
    val: SplitExtent
    test: SplitExtent
    source: str = Field(description="where these numbers are from; estimates name it")


class DatasetConfig(SequenceConfig):
    """One file `configs/datasets/NAME.yaml`: everything the code knows about a data set."""

    name: Identifier
    recordings: Path | None = Field(
        default=None, description="folder with {train,val,test}/ recordings; null = the sequences exist already"
    )
    sequences: Path = Field(description="folder with (or for) the preprocessed sequences in RVT's layout")
    simulate: SimulationConfig | None = Field(default=None, description="make the recordings with the simulator")
    drop_class_ids: tuple[NonNegativeInt, ...] = Field(
        default=(), description="class ids that occur in the files and are left out; any other unknown id is an error"
    )
    class_map: dict[str, str | None] = Field(
        default={},
        description="name or id of a class in the box files → one of 'classes', 'ignored' (neither object nor "
        "background), or null (left out); where an id is mapped, every id that occurs must be",
    )
    windows: WindowsConfig = WindowsConfig()
    recording_times: AllRecordingTimesConfig = AllRecordingTimesConfig()
    box_times: AllBoxTimesConfig = AllBoxTimesConfig()
    label_times: LabelTimesConfig = LabelTimesConfig()
    doubled_boxes: Literal["drop", "keep"] = Field(
        default="drop", description="boxes that a box file holds twice, equal in time, place, size and class"
    )
    label_filter: BoxFilterConfig = Field(default=BoxFilterConfig(), description="applied to all ground truth")
    max_train_width_fraction: PositiveFraction | None = Field(
        default=None, description="additionally dropped from the train split: boxes wider than this share"
    )
    pseudo_label_filter: BoxFilterConfig = Field(
        default=BoxFilterConfig(min_side=5.0, max_width_fraction=0.9), description="in pixels of the (halved) frame"
    )
    evaluation_filter: EvaluationFilterConfig = EvaluationFilterConfig()
    unlabelled_recordings: bool = Field(default=False, description="recordings without a box file are welcome")
    skip_recordings: tuple[str, ...] = Field(default=(), description="names of recordings that are left out")
    ignore_files: tuple[str, ...] = Field(
        default=("*.tmp_index", "*.bias", "README*", "LICENSE*", "*.md"),
        description="patterns of files beside the recordings that are known to be neither recordings nor boxes",
    )
    plausibility: PlausibilityConfig = PlausibilityConfig()
    # No stage uses it: in no stage's settings, so that it makes nothing stale.
    extent: DatasetExtent | None = Field(
        default=None, exclude=True, description="how large the data set is; only `leod estimate` reads it"
    )

    @field_validator("class_map", mode="before")
    @classmethod
    def _ids_as_text(cls, mapping: object) -> object:
        """YAML reads the key 3 as a number."""
        if not isinstance(mapping, dict):
            return mapping
        return {
            str(key) if isinstance(key, int) and not isinstance(key, bool) else key: value
            for key, value in mapping.items()
        }

    @model_validator(mode="after")
    def _class_map_fits(self) -> DatasetConfig:
        for source, target in self.class_map.items():
            if target is not None and target != IGNORED_CLASS_NAME and target not in self.classes:
                raise ValueError(
                    f"class_map.{source} = {target!r}: expected one of the classes {list(self.classes)}, "
                    f"{IGNORED_CLASS_NAME!r}, or null (left out)"
                )
        return self

    def evaluation(self) -> EvaluationFilterConfig:
        """The evaluation filter with everything said."""
        skip_from = self.evaluation_filter.skip_from or self.windows.origin
        return self.evaluation_filter.model_copy(update={"skip_from": skip_from})

    def sequence_config(self) -> SequenceConfig:
        """The part of this that a detector has to know."""
        return SequenceConfig(**{name: getattr(self, name) for name in SequenceConfig.model_fields})


# ------------------------------------------------------------------------------------------------------ models


class ModelConfig(Settings):
    """One file `configs/models/NAME.yaml`: the recurrent detector's size (RVT, Gehrig & Scaramuzza, CVPR 2023)."""

    name: Identifier
    embed_dim: PositiveInt
    stage_multipliers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (1, 2, 4, 8)
    blocks_per_stage: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1, 1)
    dim_head: PositiveInt = 32
    fpn_depth: PositiveFloat = 0.33
    layer_scale: PositiveFloat | None = 1e-5

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.embed_dim * multiplier for multiplier in self.stage_multipliers)

    @model_validator(mode="after")
    def _heads_fit(self) -> ModelConfig:
        for dim in self.stage_dims:
            if dim % self.dim_head:
                raise ValueError(f"dim_head {self.dim_head} must divide the channels of every stage {self.stage_dims}")
        return self


# ---------------------------------------------------------------------------------------------------- training


class ZoomConfig(Settings):
    """Random zoom of one sample."""

    probability: Fraction = 0.0
    zoom_in_weight: Annotated[float, Field(ge=0.0)] = 0.0
    zoom_out_weight: Annotated[float, Field(ge=0.0)] = 1.0
    max_zoom_in: Annotated[float, Field(ge=1.0)] = 1.5
    max_zoom_out: Annotated[float, Field(ge=1.0)] = 1.2


class DropEventsConfig(Settings):
    """Random loss of single events."""

    probability: Fraction = Field(default=0.0, description="share of the samples that lose events")
    max_fraction: Fraction = Field(
        default=0.5, description="such a sample loses each event with one probability between 0 and this"
    )


class JitterCountsConfig(Settings):
    """Other counts of events, as other contrast thresholds would make them."""

    probability: Fraction = Field(default=0.0, description="share of the samples whose counts change")
    max_factor: Annotated[float, Field(ge=1.0)] = Field(
        default=1.5, description="their counts are multiplied by a factor between one over this and this"
    )


class EraseConfig(Settings):
    """A rectangle without events."""

    probability: Fraction = Field(default=0.0, description="share of the samples with such a rectangle")
    max_fraction: PositiveFraction = Field(default=0.2, description="largest share of the frame that it covers")


class AugmentationConfig(Settings):
    """Augmentation of training samples (LEOD's names and defaults in golden semantics, section 15)."""

    mirror: Fraction = Field(default=0.5, description="probability of a horizontal flip")
    time_reversal: Fraction = Field(default=0.5, description="probability of reading a sample backwards in time")
    rotation: Fraction = Field(default=0.0, description="probability of a rotation")
    min_rotation_deg: Annotated[float, Field(ge=0.0)] = 2.0
    max_rotation_deg: Annotated[float, Field(ge=0.0)] = 6.0
    random_zoom: ZoomConfig = ZoomConfig(probability=0.8, zoom_in_weight=8.0, zoom_out_weight=2.0)
    stream_zoom: ZoomConfig = ZoomConfig(probability=0.5, zoom_in_weight=0.0, zoom_out_weight=1.0)
    drop_events: DropEventsConfig = DropEventsConfig()
    drop_polarity: Fraction = Field(default=0.0, description="probability of losing all events of one polarity")
    jitter_counts: JitterCountsConfig = JitterCountsConfig()
    erase: EraseConfig = EraseConfig()

    def check_representation(self, representation: RepresentationConfig) -> None:
        """Refuse what needs counts where frames hold none.

        Raises:
            ValueError: Events shall be dropped or counted otherwise in mixed-density stacks.
        """
        probabilities = {
            "drop_events": self.drop_events.probability,
            "drop_polarity": self.drop_polarity,
            "jitter_counts": self.jitter_counts.probability,
        }
        wanted = [name for name, probability in probabilities.items() if probability > 0]
        if wanted and representation.kind != "stacked_histogram":
            raise ValueError(
                f"augmentation.{wanted[0]} works on counts of events: only with representation.kind stacked_histogram, "
                f"not {representation.kind}"
            )

    @property
    def changes_events(self) -> bool:
        """Whether any of the events may be dropped or counted otherwise."""
        return (
            max(
                self.drop_events.probability, self.drop_polarity, self.jitter_counts.probability, self.erase.probability
            )
            > 0
        )


class LossConfig(Settings):
    """The YOLOX loss with LEOD's soft anchor assignment."""

    ignore_thresholds: dict[str, Fraction] | None = Field(
        default=None, description="class name → boxes with objectness or class confidence below are ignored; null = off"
    )
    box_weighting: str | None = Field(
        default=None,
        description="obj, cls, objxcls, or an expression in w such as cls-w**2; null = all boxes count the same",
    )
    ignore_background_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0,
        description="share of the highest-scoring unmatched anchors that is left out of the objectness loss",
    )
    objectness_focal: bool = Field(default=False, description="sigmoid focal loss for objectness")


class DetectionConfig(Settings):
    """Post-processing and batching of inference."""

    confidence_threshold: Fraction = Field(default=0.01, description="objectness times class confidence")
    nms_threshold: PositiveFraction = Field(default=0.45, description="IoU above which the weaker box is suppressed")
    batch_size: PositiveInt = Field(default=8, description="sequences that run side by side")
    sequence_length: PositiveInt = Field(default=20, description="windows read at a time")
    precision: Precision = "32-true"


class ValidationConfig(Settings):
    """Evaluation on the validation split during training; chooses the best checkpoint."""

    every_steps: PositiveInt = 20_000
    detection: DetectionConfig = DetectionConfig(confidence_threshold=0.001)
    sequence_fraction: PositiveFraction = Field(
        default=0.5, description="share of the validation sequences that is used"
    )
    select: Literal["best", "last"] = Field(default="best", description="which checkpoint becomes the round's detector")
    patience: PositiveInt | None = Field(
        default=None,
        description="training ends when so many validations in a row were no better than the best before; needs "
        "select: best, and goes with schedule: constant; null = training takes all its steps",
    )

    @model_validator(mode="after")
    def _patience_selects_best(self) -> ValidationConfig:
        if self.patience is not None and self.select != "best":
            raise ValueError(f"patience = {self.patience}: only with select: best, what follows the best is of no use")
        return self


class HardwareConfig(Settings):
    """How training and inference use the machine. Changing it never makes a finished stage stale."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt = Field(
        default=1, description="processes of distributed training; batch_size is divided among them"
    )
    num_workers: NonNegativeInt = Field(default=2, description="loader processes")
    compile: bool = Field(default=False, description="torch.compile the detector's backbone")
    gradient_checkpointing: bool = Field(default=False, description="recompute activations instead of keeping them")
    deterministic: bool = Field(
        default=False,
        description="train on a GPU with algorithms only that give the same bits each time, as CPUs do; slower",
    )
    threads: NonNegativeInt = Field(default=0, description="CPU threads of one process; 0 = PyTorch's choice")
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        default=(), description="beside the CSV that is always written"
    )
    scratch: Path | None = Field(
        default=None, description="folder for working checkpoints; null = the round's own folder"
    )
    on_terminate: Literal["exit", "wait"] = Field(
        default="exit",
        description="after SIGTERM training saves; then exit: it ends with status 143; wait: it waits to be killed, so "
        "that a scheduler which requeues jobs does not call it failed",
    )
    time_limit_s: PositiveFloat | None = Field(
        default=None, description="seconds that the job may run; training saves before and ends with an error"
    )
    save_before_time_limit_s: PositiveFloat = Field(
        default=120.0, description="how many seconds before the time limit training saves and ends"
    )


class TrainingConfig(Settings):
    """One training: pretraining or self-training."""

    steps: PositiveInt = Field(description="optimiser steps")
    learning_rate: PositiveFloat
    batch_size: PositiveInt = Field(
        default=8, description="samples of one optimiser step over all devices, before accumulation"
    )
    accumulate: PositiveInt = Field(default=1, description="batches whose gradients are added up for one step")
    sequence_length: PositiveInt = Field(description="windows of one sample")
    burn_in: NonNegativeInt = Field(
        default=0,
        description="first windows of a sample that only move the recurrent states on, without gradient or loss; "
        "with random sampling only: streams carry their states anyway",
    )
    sampling: Literal["random", "stream", "mixed"] = "mixed"
    random_weight: PositiveFloat = 1.0
    stream_weight: PositiveFloat = 1.0
    schedule: Literal["one_cycle", "constant"] = Field(
        default="one_cycle",
        description="the learning rate after warm-up: one_cycle falls to its last value, constant stays (final_divisor "
        "is not used)",
    )
    warmup_fraction: PositiveFraction = 0.005
    start_divisor: PositiveFloat = Field(default=20.0, description="first learning rate = learning_rate / this")
    final_divisor: PositiveFloat = Field(default=10_000.0, description="last learning rate = learning_rate / this")
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    clip_value: PositiveFloat | None = Field(default=1.0, description="gradients are clipped to ± this value")
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None,
        description="validate and keep an exponential moving average of the weights, in which this share of the old "
        "average remains in each step (less in the first steps); null = the weights themselves",
    )
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = LossConfig()
    validation: ValidationConfig = ValidationConfig()
    checkpoint_every_steps: PositiveInt = Field(default=1_000, description="distance of the working checkpoints")
    initial_weights: Literal["scratch", "previous"] = Field(
        default="scratch", description="self-training: start anew or from the previous round's detector"
    )
    from_checkpoint: Path | None = Field(
        default=None, alias="from", description="pretraining: take these weights instead of training"
    )
    precision: Precision = "32-true"

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @model_validator(mode="after")
    def _burn_in_fits(self) -> TrainingConfig:
        if self.burn_in and self.sampling != "random":
            raise ValueError(f"burn_in = {self.burn_in}: only with sampling: random, streams carry their states anyway")
        if self.burn_in >= self.sequence_length:
            raise ValueError(f"burn_in = {self.burn_in}: must be less than sequence_length = {self.sequence_length}")
        return self


# ------------------------------------------------------------------------------------------- labels and stages


class PretrainChanges(Settings):
    """Where pretraining on one label budget differs from the study's `pretrain`; null = it does not."""

    steps: PositiveInt | Literal["all_rounds"] | None = Field(
        default=None, description="optimiser steps; all_rounds: as many as `pretrain` and all self-training rounds"
    )
    sequence_length: PositiveInt | None = None
    time_reversal: Fraction | None = None

    def apply(self, training: TrainingConfig, self_training_steps: int) -> TrainingConfig:
        """Return ``training`` with these changes; ``self_training_steps`` are those of all rounds together."""
        changes: dict[str, object] = {
            name: value for name in ("steps", "sequence_length") if (value := getattr(self, name)) is not None
        }
        if self.steps == "all_rounds":
            changes["steps"] = training.steps + self_training_steps
        if self.time_reversal is not None:
            changes["augmentation"] = training.augmentation.model_copy(update={"time_reversal": self.time_reversal})
        return training.model_copy(update=changes)


LabelSetting = Literal["weakly_supervised", "semi_supervised", "fully_supervised", "random", "suggested"]
"""How the labels of an experiment are chosen."""


class LabelBudget(Settings):
    """Which share of the labels an experiment may use."""

    setting: LabelSetting = Field(
        description="weakly_supervised: every n-th labelled frame of each sequence; semi_supervised: all labels of "
        "some sequences; fully_supervised: all labels; random: labelled frames at random; suggested: a first share at "
        "random, the rest as suggest-frames chooses with the detector that was trained on the first share"
    )
    ratio: PositiveFraction = Field(
        default=1.0, description="share of the labels; only weakly_supervised and semi_supervised"
    )
    frames: PositiveInt | None = Field(
        default=None, description="number of labelled frames; only random and suggested, which need it"
    )
    first_share: Fraction = Field(
        default=0.5,
        description="suggested: share of the frames that is taken at random before; 0 = all are chosen by their events",
    )
    pretrain: PretrainChanges = PretrainChanges()

    @model_validator(mode="after")
    def _size_fits(self) -> LabelBudget:
        if self.counts_frames != (self.frames is not None):
            wanted = "needs a number of labelled frames" if self.counts_frames else "takes a ratio, not frames"
            raise ValueError(f"setting {self.setting}: {wanted}")
        if self.counts_frames and self.ratio != 1.0:
            raise ValueError(f"ratio = {self.ratio:g}: setting {self.setting} takes frames, not a ratio")
        if self.setting == "suggested" and self.first_frames == self.frames:
            raise ValueError(f"first_share = {self.first_share:g}: leaves nothing to choose of {self.frames} frames")
        return self

    @property
    def counts_frames(self) -> bool:
        """Whether its size is a number of frames."""
        return self.setting in ("random", "suggested")

    @property
    def first_frames(self) -> int:
        """Number of frames that train the detector that chooses the rest."""
        return round(self.first_share * (self.frames or 0)) if self.setting == "suggested" else 0

    @property
    def slug(self) -> str:
        """Short name for paths."""
        if self.setting == "fully_supervised":
            return self.setting
        if self.setting == "suggested" and self.first_share != 0.5:
            return f"{self.setting}-{self.frames}-first{self.first_frames}"
        return f"{self.setting}-{self.frames if self.counts_frames else format(self.ratio, 'g')}"


class ViewsConfig(Settings):
    """Which test-time-augmentation views the detector sees."""

    mirror: bool = True
    time_reversal: bool = True


class MergingConfig(Settings):
    """How the boxes of several views become one set."""

    method: Literal["nms", "weighted_box_fusion"] = Field(
        default="nms",
        description="nms: the strongest of several boxes suppresses the others, at detection.nms_threshold; "
        "weighted_box_fusion: they become one box, their mean weighted by score",
    )
    iou_threshold: PositiveFraction = Field(
        default=0.55, description="fusion: a box joins the fused box that it overlaps by more than this IoU"
    )
    agreement: bool = Field(
        default=True,
        description="fusion: the objectness of a fused box is multiplied by the share of the views that contribute",
    )


class ScoreThreshold(Settings):
    """Both scores of a pseudo-label must exceed these."""

    objectness: Fraction
    class_confidence: Fraction


class ThresholdChoiceConfig(Settings):
    """Choosing score thresholds on the validation split (see `leod.pseudo_labels.thresholds`)."""

    target_precision: PositiveFraction | dict[str, PositiveFraction] = Field(
        description="share of pseudo-labels that shall be right; one number, or class name → number"
    )
    minimum: Fraction = Field(default=0.05, description="thresholds below are not considered")
    minimum_boxes: PositiveInt = Field(
        default=20, description="thresholds that leave fewer boxes of a class are not considered: luck, not precision"
    )
    iou_threshold: PositiveFraction = Field(default=0.5, description="a box is right above this IoU with ground truth")
    max_background: Fraction | None = Field(
        default=None,
        description="choose a lower threshold as well: above it boxes are generated, and track_filter takes those that "
        "do not exceed the threshold chosen for the precision as weak; the highest one that leaves at most this share "
        "of the validation split's objects without any box. null = one threshold, no weak boxes",
    )


class PseudoLabelConfig(Settings):
    """Generating pseudo-labels: views, score thresholds, shards."""

    views: ViewsConfig = ViewsConfig()
    detection: DetectionConfig = DetectionConfig()
    merging: MergingConfig = MergingConfig()
    score_thresholds: dict[str, float | ScoreThreshold] = Field(
        default={}, description="class name → both scores, or each one; needed unless choose_thresholds is given"
    )
    choose_thresholds: ThresholdChoiceConfig | None = Field(
        default=None,
        description="choose the thresholds of each round on the validation split instead; null = score_thresholds",
    )
    use_ground_truth: bool = Field(
        default=True, description="kept ground truth stays; false: it is replaced too (noisy labels)"
    )
    skip_first_frames: NonNegativeInt = Field(
        default=0, description="frames at the start of a sequence without pseudo-labels"
    )
    shards: PositiveInt = Field(default=1, description="jobs that the sequences are divided into")

    @field_validator("score_thresholds")
    @classmethod
    def _in_range(cls, thresholds: dict[str, float | ScoreThreshold]) -> dict[str, float | ScoreThreshold]:
        for name, threshold in thresholds.items():
            if isinstance(threshold, float) and not 0.0 <= threshold <= 1.0:
                raise ValueError(f"the threshold of {name!r} must lie in 0..1, got {threshold}")
        return thresholds


class TrackFilterConfig(Settings):
    """Keep boxes that form long tracks (paper, Sec. 3.3)."""

    enabled: bool = Field(default=True, description="false: there are no tracks; weak boxes are ignored all the same")
    min_track_length: PositiveInt = Field(default=6, description="frames a track must span")
    direction: Literal["forward", "forward_or_backward"] = "forward_or_backward"
    inpaint: bool = Field(default=True, description="fill the gaps of long tracks with ignored boxes")
    iou_threshold: PositiveFraction = Field(default=0.45, description="least IoU between prediction and detection")
    keep_thresholds: dict[str, Fraction] | None = Field(
        default=None,
        description="class name → pseudo-labels whose lesser score does not exceed it are weak: they continue tracks "
        "but start none; a class that is not named has no weak boxes, null = no class has",
    )
    weak_boxes: Literal["ignore", "keep"] = Field(
        default="ignore",
        description="weak boxes on long tracks become ignored, or stay labels; those elsewhere are always ignored",
    )
    smooth_frames: NonNegativeInt = Field(
        default=0,
        description="boxes of long tracks move onto a straight line through their track's boxes of so many frames "
        "before and behind, weighted by score; 0 = they stay where they are",
    )


class EvaluateConfig(Settings):
    """Evaluation of a trained detector."""

    split: Literal["val", "test"] = "test"
    variants: Annotated[tuple[Literal["plain", "tta", "time_reversed"], ...], Field(min_length=1)] = ("plain",)
    detection: DetectionConfig = DetectionConfig(confidence_threshold=0.001)
    merging: MergingConfig = Field(default=MergingConfig(), description="of the views of the variant tta")


class ReportConfig(Settings):
    """The study's report. Its sample frames need a detector run over the first frames of a few sequences."""

    sample_sequences: NonNegativeInt = Field(default=2, description="sequences that frames are shown of; 0 = none")
    sample_frames: PositiveInt = Field(default=2, description="frames that are shown of each")
    sample_span: PositiveInt = Field(default=60, description="the frames shown are among so many first ones")
    confidence_threshold: Fraction = Field(default=SHOWN_CONFIDENCE, description="weaker detections are not drawn")


class PreprocessConfig(Settings):
    """How the recordings are preprocessed; what is computed is the data set's business."""

    shards: PositiveInt = Field(default=1, description="jobs per split")
    processes: PositiveInt = Field(default=1, description="recordings that one job reads at the same time")


class StudyConfig(Settings):
    """One study: `labels` × `split_offsets` × `seeds` experiments of `rounds` self-training rounds each."""

    name: Identifier
    dataset: DatasetConfig
    model: ModelConfig
    labels: Annotated[tuple[LabelBudget, ...], Field(min_length=1)]
    split_offsets: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    rounds: NonNegativeInt = 2
    references: tuple[Literal["control", "fully_supervised", "oracle"], ...] = Field(
        default=("control", "fully_supervised"),
        description="what self-training is compared with; control: the same labels, supervised only, as many steps as "
        "all rounds together; fully_supervised: all labels, the ceiling; oracle: one round on the hidden ground truth",
    )
    reference_pretrain: PretrainChanges = Field(
        default=PretrainChanges(), description="where training on all labels, the ceiling, differs from `pretrain`"
    )
    arms: dict[Identifier, dict[str, Any]] = Field(
        default={},
        description="variants that every experiment is run with as well: name → what it changes of rounds, pretrain, "
        "pseudo_labels, track_filter, self_train; what a label budget says of pretraining holds in each",
    )
    results: Path = Field(default=Path("results"), description="folder of all results")
    hardware: HardwareConfig = HardwareConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    pretrain: TrainingConfig
    pseudo_labels: PseudoLabelConfig
    track_filter: TrackFilterConfig = TrackFilterConfig()
    self_train: TrainingConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    @property
    def self_training_steps(self) -> int:
        """Optimiser steps of all self-training rounds together."""
        return self.rounds * self.self_train.steps

    def pretraining(self, budget: LabelBudget) -> TrainingConfig:
        """How round 0 of ``budget`` is trained."""
        return budget.pretrain.apply(self.pretrain, self.self_training_steps)

    @model_validator(mode="after")
    def _augmentation_fits(self) -> StudyConfig:
        for training in (self.pretrain, self.self_train):
            training.augmentation.check_representation(self.dataset.representation)
        return self

    @model_validator(mode="after")
    def _classes_exist(self) -> StudyConfig:
        known = self.dataset.classes
        choice = self.pseudo_labels.choose_thresholds
        targets = choice.target_precision if choice and isinstance(choice.target_precision, dict) else None
        for key, names in (
            ("pseudo_labels.score_thresholds", self.pseudo_labels.score_thresholds),
            ("pseudo_labels.choose_thresholds.target_precision", targets or {}),
            ("track_filter.keep_thresholds", self.track_filter.keep_thresholds or {}),
            ("pretrain.loss.ignore_thresholds", self.pretrain.loss.ignore_thresholds or {}),
            ("self_train.loss.ignore_thresholds", self.self_train.loss.ignore_thresholds or {}),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{key}: {name!r} is not a class of data set {self.dataset.name!r} {list(known)}")
        if choice and choice.max_background is not None and self.track_filter.keep_thresholds is not None:
            raise ValueError(
                "pseudo_labels.choose_thresholds.max_background: thresholds for keeping are chosen; leave "
                "track_filter.keep_thresholds out, or give max_background = null"
            )
        for name in known:
            if choice is None and name not in self.pseudo_labels.score_thresholds:
                raise ValueError(
                    f"pseudo_labels.score_thresholds: class {name!r} has no threshold; give it one, or let "
                    "pseudo_labels.choose_thresholds choose"
                )
            if targets is not None and name not in targets:
                raise ValueError(f"pseudo_labels.choose_thresholds.target_precision: class {name!r} has no target")
        return self
