"""The command line ``leod``: one subcommand per stage and tool.

Stages are imported only when their command runs, so that ``leod --help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from leod import __version__
from leod.config.load import load_settings, load_study, study_schema, validate
from leod.config.schema import (
    HardwareConfig,
    LabelBudget,
    PlausibilityConfig,
    RecordingTimesConfig,
    SensorSize,
    SequenceConfig,
    Settings,
    StudyConfig,
)
from leod.config.stages import (
    ChooseThresholdsSettings,
    EvaluateSettings,
    GenerateSettings,
    PreprocessSettings,
    QualitySettings,
    ReportSettings,
    SimulateSettings,
    SubsampleSettings,
    TrackFilterSettings,
    TrainSettings,
)
from leod.errors import ConfigError, LeodError

S = TypeVar("S", bound=Settings)

app = typer.Typer(
    name="leod",
    help="Label-efficient object detection for event cameras. Each stage of a study is a command; "
    "`snakemake` runs them all in the right order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

STAGES = "Stages of a study"
TOOLS = "Tools"

StudyOption = Annotated[
    Path | None, typer.Option("--study", "-s", help="Study file, for example configs/quickstart.yaml.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the study, e.g. pretrain.steps=100."),
]
SettingsOption = Annotated[
    str | None,
    typer.Option("--settings", help="The stage's resolved settings: a YAML/JSON file or JSON text; replaces --study."),
]
HardwareOption = Annotated[
    str | None,
    typer.Option("--hardware", help="How to use the machine: a YAML/JSON file or JSON text; default: the study's."),
]
PlausibilityOption = Annotated[
    str | None,
    typer.Option(
        "--plausibility", help="What to refuse and warn about: a YAML/JSON file or JSON text; default: the study's."
    ),
]
PlanOption = Annotated[Path, typer.Option("--plan", help="JSON: the study's detectors and their files.")]
SequencesOption = Annotated[Path, typer.Option("--sequences", help="Folder of the preprocessed data set.")]
LabelsOption = Annotated[Path, typer.Option("--labels", help="labels.json: which labelled frames are kept.")]
CheckpointOption = Annotated[Path, typer.Option("--checkpoint", help="A detector: model.ckpt.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; replaces the value in --hardware.")
]
OnTerminateOption = Annotated[
    Literal["exit", "wait"] | None,
    typer.Option("--on-terminate", help="What to do after saving on SIGTERM; replaces the value in --hardware."),
]
TimeLimitOption = Annotated[
    int,
    typer.Option(
        "--time-limit",
        min=0,
        metavar="MINUTES",
        help="The job is killed after this time, so save before; replaces the value in --hardware. 0: as it says.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of all random numbers.")]
ShardOption = Annotated[int, typer.Option("--shard", min=0, help="Which shard this job does, from 0.")]
ShardsOption = Annotated[int, typer.Option("--shards", min=1, help="Into how many shards the work is divided.")]


def _settings(
    settings_type: type[S],
    settings: str | None,
    study: Path | None,
    overrides: list[str] | None,
    pick: Callable[[StudyConfig], S],
) -> S:
    """The stage's settings, from the exact settings or out of a study."""
    if settings is not None:
        if study is not None or overrides:
            raise ConfigError("--settings holds everything the stage uses; give either it or --study with --set")
        return load_settings(settings_type, settings)
    if study is None:
        raise ConfigError("give --study FILE (with --set KEY=VALUE to change values) or --settings")
    return pick(load_study(study, overrides or ()))


def _hardware(
    hardware: str | None,
    threads: int | None,
    study: Path | None,
    overrides: list[str] | None,
    on_terminate: str | None = None,
    time_limit_min: int = 0,
) -> HardwareConfig:
    """How to use the machine: as told, else as the study says, else the defaults."""
    if hardware is not None:
        chosen = load_settings(HardwareConfig, hardware)
    elif study is not None:
        chosen = load_study(study, overrides or ()).hardware
    else:
        chosen = HardwareConfig()
    told = {
        "threads": threads,
        "on_terminate": on_terminate,
        "time_limit_s": 60.0 * time_limit_min if time_limit_min else None,
    }
    return chosen.model_copy(update={key: value for key, value in told.items() if value is not None})


def _plausibility(text: str | None, study: Path | None, overrides: list[str] | None) -> PlausibilityConfig:
    """What is refused or warned about: as told, else as the study's data set says, else the defaults."""
    if text is not None:
        return load_settings(PlausibilityConfig, text)
    return PlausibilityConfig() if study is None else load_study(study, overrides or ()).dataset.plausibility


@app.callback(invoke_without_command=True)
def _main_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also log details.")] = False,
) -> None:
    if version:
        typer.echo(f"leod {__version__}")
        raise typer.Exit
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("numba", "matplotlib", "PIL", "h5py", "fsspec", "torch"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


# ------------------------------------------------------------------------------------------------------ stages


@app.command(rich_help_panel=STAGES)
def simulate(
    output: Annotated[Path, typer.Option("--output", help="Folder for the recordings.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="JSON list of what was made, written last.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    processes: Annotated[int, typer.Option("--processes", min=0, help="Recordings at a time; 0 = all cores.")] = 0,
) -> None:
    """Simulate driving recordings with boxes: *_td.dat and *_bbox.npy in train/, val/ and test/."""
    from leod.stages.simulate import simulate as run

    run(
        output,
        manifest,
        _settings(SimulateSettings, settings, study, overrides, SimulateSettings.from_study),
        processes,
    )


@app.command(rich_help_panel=STAGES)
def preprocess(
    recordings: Annotated[Path, typer.Option("--recordings", help="Folder with train/, val/ and test/ recordings.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for the sequences, in RVT's layout.")],
    split: Annotated[str, typer.Option("--split", help="train, val or test.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="JSON list of the sequences, written last.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    shard: ShardOption = 0,
    shards: ShardsOption = 1,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Recordings at a time.")] = 1,
    plausibility: PlausibilityOption = None,
) -> None:
    """Turn recordings into sequences: event representations of 50 ms windows, with labels."""
    from leod.stages.preprocess import preprocess as run

    chosen = _settings(PreprocessSettings, settings, study, overrides, PreprocessSettings.from_study)
    limits = _plausibility(plausibility, study, overrides)
    run(recordings, output, split, manifest, chosen, shard=shard, shards=shards, processes=processes, limits=limits)


@app.command("subsample-labels", rich_help_panel=STAGES)
def subsample_labels(
    sequences: SequencesOption,
    output: Annotated[Path, typer.Option("--output", help="labels.json, the split of record.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    setting: Annotated[
        str, typer.Option("--setting", help="weakly_supervised, semi_supervised or fully_supervised; with --study.")
    ] = "weakly_supervised",
    ratio: Annotated[float, typer.Option("--ratio", help="Share of the labels that is kept; with --study.")] = 0.05,
    split_offset: Annotated[int, typer.Option("--split-offset", min=0, help="Which of the possible shares.")] = 0,
) -> None:
    """Choose which labelled frames an experiment may use."""
    from leod.config.load import validate
    from leod.stages.subsample_labels import subsample_labels as run

    def pick(loaded: StudyConfig) -> SubsampleSettings:
        budget = validate(LabelBudget, {"setting": setting, "ratio": ratio}, "--setting/--ratio")
        return SubsampleSettings.from_study(loaded, budget, split_offset)

    run(sequences, output, _settings(SubsampleSettings, settings, study, overrides, pick))


@app.command(rich_help_panel=STAGES)
def pretrain(
    sequences: SequencesOption,
    labels: LabelsOption,
    output: Annotated[Path, typer.Option("--output", help="Folder of the round: model.ckpt, training.csv, …")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    on_terminate: OnTerminateOption = None,
    time_limit: TimeLimitOption = 0,
    seed: SeedOption = 0,
) -> None:
    """Train a detector on the kept labels (round 0). An interrupted training goes on where it was."""
    from leod.stages.train import pretrain as run

    chosen = _settings(TrainSettings, settings, study, overrides, TrainSettings.for_pretraining)
    used = _hardware(hardware, threads, study, overrides, on_terminate, time_limit)
    run(sequences, labels, output, chosen, seed=seed, hardware=used)


@app.command("choose-thresholds", rich_help_panel=STAGES)
def choose_thresholds(
    checkpoint: CheckpointOption,
    sequences: SequencesOption,
    output: Annotated[Path, typer.Option("--output", help="JSON file: thresholds and the curves that led to them.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Choose score thresholds on the validation split, so that pseudo-labels are as precise as wanted."""
    from leod.stages.choose_thresholds import choose_thresholds as run

    chosen = _settings(ChooseThresholdsSettings, settings, study, overrides, ChooseThresholdsSettings.from_study)
    run(checkpoint, sequences, output, chosen, hardware=_hardware(hardware, threads, study, overrides))


@app.command("generate-pseudo-labels", rich_help_panel=STAGES)
def generate_pseudo_labels(
    checkpoint: CheckpointOption,
    sequences: SequencesOption,
    labels: LabelsOption,
    output: Annotated[Path, typer.Option("--output", help="HDF5 file for this shard's predictions.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    shard: ShardOption = 0,
    shards: ShardsOption = 1,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", help="What choose-thresholds wrote; replaces the study's thresholds.")
    ] = None,
) -> None:
    """Run a detector over all training events with test-time augmentation and keep the confident boxes."""
    from leod.stages.generate import generate_pseudo_labels as run

    chosen = _settings(GenerateSettings, settings, study, overrides, GenerateSettings.from_study)
    used = _hardware(hardware, threads, study, overrides)
    run(checkpoint, sequences, labels, output, chosen, shard=shard, shards=shards, hardware=used, thresholds=thresholds)


@app.command("track-filter", rich_help_panel=STAGES)
def track_filter(
    predictions: Annotated[list[Path], typer.Argument(help="The shards of generate-pseudo-labels.")],
    sequences: SequencesOption,
    labels: LabelsOption,
    output: Annotated[Path, typer.Option("--output", help="Folder for the pseudo-labelled data set.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="JSON account of what was kept, written last.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
) -> None:
    """Mark boxes outside long tracks as ignored, inpaint gaps, and write the pseudo-labelled data set."""
    from leod.stages.track_filter import track_filter as run

    chosen = _settings(TrackFilterSettings, settings, study, overrides, TrackFilterSettings.from_study)
    run(predictions, sequences, labels, output, manifest, chosen)


@app.command("validate-quality", rich_help_panel=STAGES)
def validate_quality(
    predictions: Annotated[list[Path], typer.Argument(help="The shards of generate-pseudo-labels.")],
    dataset: Annotated[Path, typer.Option("--dataset", help="The pseudo-labelled data set of track-filter.")],
    sequences: SequencesOption,
    labels: LabelsOption,
    output: Annotated[Path, typer.Option("--output", help="JSON file for the figures.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
) -> None:
    """Measure pseudo-labels against the hidden ground truth, before and after tracking."""
    from leod.stages.quality import validate_quality as run

    chosen = _settings(QualitySettings, settings, study, overrides, QualitySettings.from_study)
    run(predictions, dataset, sequences, labels, output, chosen)


@app.command("self-train", rich_help_panel=STAGES)
def self_train(
    dataset: Annotated[Path, typer.Option("--dataset", help="The pseudo-labelled data set of track-filter.")],
    sequences: SequencesOption,
    output: Annotated[Path, typer.Option("--output", help="Folder of the round: model.ckpt, training.csv, …")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    on_terminate: OnTerminateOption = None,
    time_limit: TimeLimitOption = 0,
    seed: SeedOption = 0,
    previous: Annotated[
        Path | None, typer.Option("--previous", help="The previous round's detector, to start from.")
    ] = None,
) -> None:
    """Train a detector on pseudo-labels (round 1, 2, …). An interrupted training goes on where it was."""
    from leod.stages.train import self_train as run

    chosen = _settings(TrainSettings, settings, study, overrides, TrainSettings.for_self_training)
    used = _hardware(hardware, threads, study, overrides, on_terminate, time_limit)
    run(dataset, sequences, output, chosen, seed=seed, hardware=used, previous=previous)


@app.command(rich_help_panel=STAGES)
def evaluate(
    checkpoint: CheckpointOption,
    sequences: SequencesOption,
    output: Annotated[Path, typer.Option("--output", help="JSON file for the metrics.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
    split: Annotated[str, typer.Option("--split", help="val or test.")] = "test",
    variant: Annotated[str, typer.Option("--variant", help="plain, tta or time_reversed.")] = "plain",
) -> None:
    """Evaluate a detector by the Prophesee protocol (COCO AP)."""
    from leod.stages.evaluate import evaluate as run

    chosen = _settings(EvaluateSettings, settings, study, overrides, EvaluateSettings.from_study)
    used = _hardware(hardware, threads, study, overrides)
    run(checkpoint, sequences, output, chosen, split=split, variant=variant, hardware=used)


@app.command(rich_help_panel=STAGES)
def summarise(
    plan: PlanOption,
    output: Annotated[Path, typer.Option("--output", help="CSV file, one row per evaluation.")],
    table: Annotated[Path, typer.Option("--table", help="Readable table (Markdown).")],
) -> None:
    """Say in one table whether self-training helped."""
    from leod.stages.summarise import summarise as run
    from leod.study.plan import read_plan

    run(read_plan(plan), output, table)


@app.command(rich_help_panel=STAGES)
def report(
    plan: PlanOption,
    summary: Annotated[Path, typer.Option("--summary", help="summary.csv of the study.")],
    output: Annotated[Path, typer.Option("--output", help="HTML file; it needs no other file.")],
    figures: Annotated[Path, typer.Option("--figures", help="Folder for the figures as SVG files.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 = PyTorch's choice.")] = 0,
) -> None:
    """Write the report of a study: settings, tables, figures and sample frames in one page."""
    from leod.stages.report import report as run
    from leod.study.plan import read_plan

    chosen = _settings(ReportSettings, settings, study, overrides, ReportSettings.from_study)
    run(read_plan(plan), summary, output, figures, chosen, threads)


# ------------------------------------------------------------------------------------------------------- tools


def _sequence_config(settings: str | None, study: Path | None, overrides: list[str] | None) -> SequenceConfig | None:
    """What the data set looks like, if told."""
    if settings is not None:
        return load_settings(SequenceConfig, settings)
    return load_study(study, overrides or ()).dataset.sequence_config() if study is not None else None


@app.command("check-dataset", rich_help_panel=TOOLS)
def check_dataset(
    folder: Annotated[Path, typer.Argument(help="Root of a data set in RVT's layout, pseudo-labelled or not.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split; default: all.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every frame; finds damaged chunks.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="Also write the report as JSON.")] = None,
) -> None:
    """Inspect a data set: what it holds, and what is wrong with it, file by file."""
    from leod.errors import DataError
    from leod.files import check_writable, write_json
    from leod.stages.check_dataset import check_dataset as run

    if output is not None:
        check_writable(output)
    limits = _plausibility(None, study, overrides)
    report = run(folder, _sequence_config(settings, study, overrides), deep=deep, split=split, limits=limits)
    typer.echo(report.render())
    if not report.sound:
        raise DataError(folder, f"{len(report.problems)} problem(s), listed above.")
    if output is not None:
        write_json(output, report.to_json())


@app.command("import-split", rich_help_panel=TOOLS)
def import_split(
    split: Annotated[Path, typer.Argument(help="A released split file (pickle). Nothing in it is executed.")],
    output: Annotated[Path, typer.Option("--output", help="labels.json to write.")],
    sequences: Annotated[Path | None, typer.Option("--sequences", help="Data set that the split must fit.")] = None,
) -> None:
    """Convert a released split of LEOD into labels.json."""
    from leod.stages.import_split import import_split as run

    run(split, output, sequences)


@app.command("import-weights", rich_help_panel=TOOLS)
def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="A released RVT or LEOD checkpoint. Nothing in it is executed.")],
    output: Annotated[Path, typer.Option("--output", help="model.ckpt to write.")],
    study: StudyOption = None,
    overrides: SetOption = None,
) -> None:
    """Turn released weights into a detector of this project; says which model and data set they belong to."""
    from leod.stages.import_weights import import_weights as run

    if study is None:
        run(checkpoint, output)
    else:
        loaded = load_study(study, overrides or ())
        run(checkpoint, output, loaded.model, loaded.dataset.sequence_config())


@app.command("export-weights", rich_help_panel=TOOLS)
def export_weights(
    checkpoint: CheckpointOption,
    output: Annotated[Path, typer.Option("--output", help="File to write.")],
    container: Annotated[
        Literal["original", "lightning", "bare"],
        typer.Option("--container", help="As it was imported, with Lightning's state_dict, or the bare state dict."),
    ] = "original",
) -> None:
    """Write a detector's weights under the published names."""
    from leod.stages.export_weights import export_weights as run

    run(checkpoint, output, container)


@app.command(rich_help_panel=TOOLS)
def refilter(
    dataset: Annotated[Path, typer.Argument(help="A pseudo-labelled data set, ours or LEOD's.")],
    output: Annotated[Path, typer.Option("--output", help="Folder for the filtered data set.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
) -> None:
    """Filter an existing pseudo-labelled data set by tracks, without running the detector again."""
    from leod.stages.track_filter import refilter_dataset as run

    run(dataset, output, _settings(TrackFilterSettings, settings, study, overrides, TrackFilterSettings.from_study))


@app.command(rich_help_panel=TOOLS)
def visualize(
    sequence: Annotated[Path, typer.Argument(help="Folder of a preprocessed or pseudo-labelled sequence.")],
    output: Annotated[
        Path, typer.Option("--output", help="*.mp4: video; *.png: contact sheet; no suffix: folder of pictures.")
    ],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    ground_truth: Annotated[
        Path | None, typer.Option("--ground-truth", help="The same sequence in another set: drawn on top.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="A shard of generate-pseudo-labels to draw.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="A detector to run and draw.")] = None,
    confidence: Annotated[float, typer.Option("--confidence", help="Weaker detections are left out.")] = 0.3,
    start: Annotated[float, typer.Option("--start", help="First second that is shown.")] = 0.0,
    duration: Annotated[float | None, typer.Option("--duration", help="Seconds that are shown.")] = None,
    speed: Annotated[float, typer.Option("--speed", help="Recorded seconds per second of video.")] = 1.0,
    pictures: Annotated[int, typer.Option("--pictures", help="Pictures on a contact sheet.")] = 12,
    theme: Annotated[str, typer.Option("--theme", help="light or dark.")] = "light",
) -> None:
    """Draw a sequence with its labels, and detections if asked, as video or pictures."""
    from leod.stages.visualize import visualize as run

    config = _sequence_config(settings, study, overrides)
    if config is None:
        raise ConfigError("give --study FILE or --settings, so that the sensor and the classes are known")
    run(
        sequence,
        output,
        config,
        ground_truth=ground_truth,
        predictions=predictions,
        checkpoint=checkpoint,
        confidence_threshold=confidence,
        start_s=start,
        duration_s=duration,
        speed=speed,
        pictures=pictures,
        theme=theme,
    )


def _sensor(text: str | None) -> SensorSize | None:
    """A size such as 720x1280 (height x width)."""
    if text is None:
        return None
    height, separator, width = text.lower().partition("x")
    if not separator or not height.isdecimal() or not width.isdecimal() or not int(height) or not int(width):
        raise ConfigError(f"--sensor {text!r}: expected HEIGHTxWIDTH in pixels, for example 720x1280")
    return SensorSize(height=int(height), width=int(width))


@app.command(rich_help_panel=TOOLS)
def detect(
    recording: Annotated[
        Path, typer.Argument(help="Recording: *.raw, *.dat, *.h5, *.hdf5, *.aedat4, *.bag, *.mcap or *.db3.")
    ],
    weights: Annotated[Path, typer.Option("--weights", "--checkpoint", help="A detector: model.ckpt.")],
    video: Annotated[Path | None, typer.Option("--video", help="MP4 file of events and boxes to write.")] = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", help="Box file to write: *.npy, *.csv or *.json (COCO).")
    ] = None,
    confidence: Annotated[float, typer.Option("--confidence", help="Weaker detections are left out.")] = 0.3,
    nms: Annotated[float, typer.Option("--nms", help="IoU above which the weaker of two boxes is left out.")] = 0.45,
    sensor: Annotated[
        str | None, typer.Option("--sensor", metavar="HxW", help="Size of the sensor where the file is silent.")
    ] = None,
    downsample: Annotated[
        bool | None, typer.Option("--downsample/--full-resolution", help="Halve the frames; default: as in training.")
    ] = None,
    speed: Annotated[float, typer.Option("--speed", help="Recorded seconds per second of video.")] = 1.0,
    theme: Annotated[str, typer.Option("--theme", help="Colours of the video: light or dark.")] = "light",
    time_unit: Annotated[
        str | None, typer.Option("--time-unit", help="What the file's times count: s, ms, us or ns; default: us.")
    ] = None,
    time_offset_us: Annotated[int, typer.Option("--time-offset-us", help="Added to every time, microseconds.")] = 0,
    start_us: Annotated[
        int | None, typer.Option("--start-us", help="Events before this time (after the offset) are left out.")
    ] = None,
    end_us: Annotated[int | None, typer.Option("--end-us", help="Events after this time are left out.")] = None,
    hardware: HardwareOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Run a detector over a recording, of any supported format, and write boxes or a video."""
    from leod.stages.detect import detect as run

    run(
        recording,
        weights,
        video=video,
        boxes=boxes,
        confidence_threshold=confidence,
        nms_threshold=nms,
        sensor=_sensor(sensor),
        downsample_by_2=downsample,
        speed=speed,
        theme=theme,
        times=validate(
            RecordingTimesConfig,
            {"unit": time_unit, "offset_us": time_offset_us, "start_us": start_us, "end_us": end_us},
            "--time-unit, --time-offset-us, --start-us, --end-us",
        ),
        hardware=_hardware(hardware, threads, None, None),
    )


@app.command("export-onnx", rich_help_panel=TOOLS)
def export_onnx(
    checkpoint: CheckpointOption,
    output: Annotated[Path, typer.Option("--output", help="*.onnx file to write.")],
) -> None:
    """Write a detector as ONNX file, its recurrent state as inputs and outputs, and check it against PyTorch."""
    from leod.stages.export_onnx import export_onnx as run

    run(checkpoint, output)


@app.command("export-labels", rich_help_panel=TOOLS)
def export_labels(
    source: Annotated[Path, typer.Argument(help="Data set, pseudo-labelled or not, or a shard of predictions (*.h5).")],
    output: Annotated[Path, typer.Option("--output", help="*.json (COCO) or *.csv file to write.")],
    study: StudyOption = None,
    overrides: SetOption = None,
    settings: SettingsOption = None,
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "train",
    sequences: Annotated[
        Path | None, typer.Option("--sequences", help="For predictions: the data set, which knows the time stamps.")
    ] = None,
) -> None:
    """Write all labels or detections of a split into one COCO JSON or CSV file."""
    from leod.stages.export_labels import export_labels as run

    config = _sequence_config(settings, study, overrides)
    if config is None:
        raise ConfigError("give --study FILE or --settings, so that the sensor and the classes are known")
    run(source, output, config, split=split, sequences=sequences)


@app.command("convert-boxes", rich_help_panel=TOOLS)
def convert_boxes(
    source: Annotated[Path, typer.Argument(help="Box file: *.npy, *.csv or *.json (COCO).")],
    output: Annotated[Path, typer.Argument(help="Box file to write; its suffix names the format.")],
    classes: Annotated[str, typer.Option("--classes", help="Class names in label-id order, separated by commas.")],
) -> None:
    """Convert the boxes of a recording between NumPy, CSV and COCO JSON, and check every row."""
    from leod.labels.formats import read_boxes, write_boxes

    names = tuple(name.strip() for name in classes.split(","))
    write_boxes(output, read_boxes(source, names), names)


@app.command(rich_help_panel=TOOLS)
def schema() -> None:
    """Print the JSON schema of a study file, for editors that check and complete YAML."""
    typer.echo(json.dumps(study_schema(), indent=2))


def main() -> None:
    """Run the command line; errors that users can mend are printed without a traceback."""
    try:
        app()
    except LeodError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
