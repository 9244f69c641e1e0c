"""Command `benchmark`: how fast this machine trains, infers, loads and preprocesses, without any data."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

from leod.config.load import load_study, read_yaml, validate
from leod.config.schema import HardwareConfig, ModelConfig, PositiveFloat, PositiveInt, StudyConfig
from leod.config.settings import BenchmarkSettings
from leod.costs.benchmark import BenchmarkOptions, run_benchmark
from leod.costs.figures import BenchmarkResult
from leod.errors import ConfigError
from leod.files import check_writable, write_json
from leod.options import FromOptions, Names
from leod.provenance import Stopwatch
from leod.stages.recording_options import sensor_size

logger = logging.getLogger(__name__)

_LEARNING_RATE = 1e-3


def benchmark_settings(
    study: Annotated[Path | None, Names("--study", "-s")] = None,
    overrides: Annotated[list[str] | None, Names("--set")] = None,
    model: Path | None = None,
    sensor: str | None = None,
    batch_size: PositiveInt = 8,
    sequence_length: PositiveInt = 10,
) -> BenchmarkSettings:
    """What is measured.

    Args:
        study: Study file, for example configs/quickstart.yaml: its trainings and its inference are measured.
        overrides: KEY=VALUE changes a value of the study, e.g. pretrain.batch_size=4.
        model: Without a study: model file, for example configs/models/rvt-small.yaml.
        sensor: Without a study: size of the sensor, HEIGHTxWIDTH.
        batch_size: Without a study: samples of a training step.
        sequence_length: Without a study: windows of a sample.

    Raises:
        ConfigError: Neither a study nor model and sensor are given, or both.
    """
    if study is not None:
        if model is not None or sensor is not None:
            raise ConfigError("--model and --sensor are the study's; give either --study or both of them")
        return BenchmarkSettings.from_study(load_study(study, overrides or ()))
    if overrides:
        raise ConfigError("--set changes a value of a study: give --study FILE too")
    size = sensor_size(sensor)
    if model is None or size is None:
        raise ConfigError(
            "give --study FILE, or --model FILE with --sensor HEIGHTxWIDTH, for example --model "
            "configs/models/rvt-small.yaml --sensor 240x304"
        )
    training = {
        "steps": 1000,
        "learning_rate": _LEARNING_RATE,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
    }
    content = {
        "name": "benchmark",
        "dataset": {
            "name": "made-up",
            "sequences": Path("made-up"),
            "sensor": size,
            "classes": ("car", "pedestrian"),
        },
        "model": validate(ModelConfig, read_yaml(model), str(model)),
        "labels": [{"setting": "weakly_supervised", "ratio": 0.1}],
        "pretrain": training,
        "pseudo_labels": {"score_thresholds": {"car": 0.5, "pedestrian": 0.5}},
        "self_train": training,
    }
    return BenchmarkSettings.from_study(validate(StudyConfig, content, "--model, --sensor"))


def benchmark(
    settings: Annotated[BenchmarkSettings, FromOptions(benchmark_settings)],
    output: Path | None = None,
    seconds: PositiveFloat = 3.0,
    side_by_side: PositiveInt = 1,
    density: PositiveFloat | None = None,
    boxes: PositiveInt = 2,
    other_ways: Annotated[bool, Names("--other-ways/--as-in-study")] = True,
    clock: Literal["wall", "cpu"] = "wall",
    hardware: HardwareConfig = HardwareConfig(),  # noqa: B008  (immutable)
) -> BenchmarkResult:
    """Measure training, inference, loading and preprocessing on this machine, as a study runs them. Needs no data.

    Events, frames and boxes are made up. Memory is the most that the process of a measurement held. A table goes to
    standard output; with ``output`` the figures also go to a file that `leod estimate --benchmark` reads.

    Args:
        settings: What is measured.
        output: JSON file to write.
        seconds: Time for each measurement; what comes before, as loading and compiling, is not counted.
        side_by_side: Processes that do the same at the same time, as jobs of a study do.
        density: Events of a pixel in a second; default: as simulated, else 9, as in Gen1.
        boxes: Boxes of a labelled frame.
        other_ways: Also measure with torch.compile and in half precision, where the machine can.
        clock: cpu: count CPU time, on a machine that is busy with other things; with one thread on a CPU.
        hardware: How to use the machine.

    Raises:
        ConfigError: Options contradict each other, or settings do not fit.
        ResourceError: Out of memory, or ``output`` cannot be written.
    """
    if seconds <= 0 or (density is not None and density <= 0):
        raise ConfigError(f"--seconds and --density must be above 0; got {seconds:g} and {density}")
    if output is not None:
        check_writable(output)
    stopwatch = Stopwatch()
    options = BenchmarkOptions(seconds, side_by_side, density, boxes, other_ways, clock)
    result = run_benchmark(settings, hardware, options, lambda: stopwatch.provenance("benchmark", settings, {}))
    sys.stdout.write(result.render() + "\n")
    if output is not None:
        write_json(output, result.model_dump(mode="json"))
    logger.info("measured in %.0f s", stopwatch.elapsed_s)
    return result
