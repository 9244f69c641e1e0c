"""Command `estimate`: what a study will cost before it is started."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from leod.config.schema import NonNegativeInt, PositiveFloat
from leod.config.settings import BenchmarkSettings
from leod.costs.amounts import Amount, find_amount
from leod.costs.benchmark import BenchmarkOptions, run_benchmark
from leod.costs.estimate import Costs, Estimate, Resources
from leod.costs.figures import BenchmarkResult, read_benchmark
from leod.errors import ConfigError, DataError
from leod.files import check_writable, write_json
from leod.gpus import visible_gpus
from leod.options import Argument, Names
from leod.provenance import Stopwatch
from leod.sequences.layout import SPLITS
from leod.study.study import Study
from leod.tables import aligned

logger = logging.getLogger(__name__)

_MOST_SIDE_BY_SIDE = 8


def estimate(
    study: Annotated[Path, Argument()],
    *,
    overrides: Annotated[list[str] | None, Names("--set")] = None,
    benchmark: Path | None = None,
    cores: NonNegativeInt | None = None,
    gpus: NonNegativeInt | None = None,
    recordings: str | None = None,
    frames: str | None = None,
    labelled_frames: str | None = None,
    seconds: PositiveFloat = 3.0,
    output: Path | None = None,
) -> Estimate:
    """Tell what a study will cost: jobs, hours of each rule, wall time, disk space, memory. Needs no data.

    How much data there is follows from the options, else from the sequences or recordings that are there, the settings
    of the simulation, or what the data set's file says of its extent. Nothing of what is finished already is left out.

    Args:
        study: Study file, for example configs/quickstart.yaml.
        overrides: KEY=VALUE changes a value of the study, e.g. seeds=[0,1,2].
        benchmark: What `leod benchmark` wrote on the machine that the study will run on; default: measured here.
        cores: CPU cores that the study may use, 0 = any number, as on a cluster; default: this machine's, any number
            where the study runs on GPUs.
        gpus: GPUs that it may use, 0 = any number; default: this machine's, at least one.
        recordings: Recordings of the splits, TRAIN,VAL,TEST.
        frames: Frames (windows) of the splits, TRAIN,VAL,TEST.
        labelled_frames: Labelled frames of the splits, TRAIN,VAL,TEST.
        seconds: Time for each measurement, if it is measured here.
        output: JSON file to write.

    Raises:
        ConfigError: The study or an option is wrong, or nothing tells how much data there is.
        DataError: The benchmark's file is none, or belongs to another detector or sensor; data are damaged.
        ResourceError: Out of memory, or ``output`` cannot be written.
    """
    if seconds <= 0:
        raise ConfigError(f"--seconds must be above 0; got {seconds:g}")
    if output is not None:
        check_writable(output)
    stopwatch = Stopwatch()
    planned = Study.read(study, overrides or ())
    config = planned.config
    told = [
        _three(name, text)
        for name, text in (("recordings", recordings), ("frames", frames), ("labelled-frames", labelled_frames))
    ]
    amount = find_amount(config.dataset, *told)
    settings = BenchmarkSettings.from_study(config)
    if benchmark is None:
        side_by_side = 1
        if config.hardware.accelerator == "cpu" or not visible_gpus():
            present = os.cpu_count() or 1
            here = min(cores or present, present)
            side_by_side = max(1, min(here // (config.hardware.threads or here), _MOST_SIDE_BY_SIDE))
        options = BenchmarkOptions(seconds, side_by_side, other_ways=False)
        measured = run_benchmark(
            settings, config.hardware, options, lambda: stopwatch.provenance("benchmark", settings, {})
        )
    else:
        measured = read_benchmark(benchmark)
        _check_fits(benchmark, measured, settings)
    on_gpu = measured.training_as_in_study("pretrain").way.device == "cuda"
    wanted_gpu = on_gpu or config.hardware.accelerator == "gpu"
    resources = Resources(
        cores=(None if wanted_gpu else measured.machine.cores) if cores is None else cores or None,
        gpus=max(1, len(visible_gpus())) if gpus is None else gpus or None,
    )
    found = Costs(planned, amount, measured, resources).estimate()
    assumptions = _assumptions(planned, amount, measured, resources)
    sys.stdout.write(_render(planned, amount, measured, resources, found, assumptions) + "\n")
    if output is not None:
        write_json(
            output,
            {
                "provenance": stopwatch.provenance(
                    "estimate", settings, {"study": study} | ({} if benchmark is None else {"benchmark": benchmark})
                ),
                "resources": asdict(resources),
                "amount": asdict(amount),
                "assumptions": assumptions,
                "estimate": asdict(found),
                "benchmark": measured.model_dump(mode="json"),
            },
        )
    return found


def _three(name: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--{name} {text!r}: expected three whole numbers TRAIN,VAL,TEST, for example 30,8,16")
    return [int(part) for part in parts]


def _check_fits(path: Path, measured: BenchmarkResult, settings: BenchmarkSettings) -> None:
    sensor = settings.sequence.sensor.height, settings.sequence.sensor.width
    found = measured.conditions
    for what, there, here in (
        ("model", found.model, settings.model.name),
        ("sensor", tuple(found.sensor), sensor),
        ("frame", tuple(found.frame), settings.sequence.frame_size),
    ):
        if there != here:
            raise DataError(
                path,
                f"was measured with another {what}: {there}; the study's is {here}. Measure again on that machine: "
                "leod benchmark --study STUDY --output FILE",
            )


def _assumptions(study: Study, amount: Amount, measured: BenchmarkResult, resources: Resources) -> list[str]:
    config = study.config
    found = [f"amount of data from {amount.source}", *amount.assumptions]
    found.append("every training takes all its steps, nothing is finished yet, no job waits in a queue or fails")
    if resources.cores is None:
        found.append("any number of CPU cores, as on a cluster")
    if config.hardware.devices > 1:
        found.append("the exchange of gradients between devices takes no time")
    return found + [f"measured: {note}" for note in measured.notes]


def _render(
    study: Study,
    amount: Amount,
    measured: BenchmarkResult,
    resources: Resources,
    found: Estimate,
    assumptions: list[str],
) -> str:
    machine, conditions = measured.machine, measured.conditions
    on_gpu = measured.training_as_in_study("pretrain").way.device == "cuda"
    device = machine.gpu if on_gpu else machine.processor
    cores = "any number of cores" if resources.cores is None else f"{resources.cores} cores"
    gpus = "" if not on_gpu else f", {'any number of' if resources.gpus is None else resources.gpus} GPU(s)"
    splits = ", ".join(
        f"{split} {entry.recordings:,} recordings, {entry.frames:,} frames"
        for split in SPLITS
        for entry in [amount.of(split)]
    )
    lines = [
        f"study {study.config.name}: {found.jobs} jobs; {splits}",
        f"speeds of {device} ({measured.training_as_in_study('pretrain').way.name}, {conditions.threads} thread(s), "
        f"{conditions.side_by_side} process(es) at the same time); {cores}{gpus}",
        "",
    ]
    rows: list[tuple[Any, ...]] = [("rule", "jobs", "a job", "all jobs", "CPU hours", "GPU hours", "memory of a job")]
    for rule in (*found.rules, None):
        if rule is None:
            total = [sum(getattr(entry, name) for entry in found.rules) for name in ("hours", "cpu_hours", "gpu_hours")]
            rows.append(("total", found.jobs, "", _time(total[0]), f"{total[1]:.3g}", f"{total[2]:.3g}", ""))
            continue
        memory = "" if rule.memory_gb is None else f"{rule.memory_gb:.2g} GB"
        rows.append(
            (
                rule.rule,
                rule.jobs,
                _time(rule.hours / rule.jobs),
                _time(rule.hours),
                f"{rule.cpu_hours:.3g}",
                f"{rule.gpu_hours:.3g}",
                memory,
            )
        )
    lines += aligned([tuple(map(str, row)) for row in rows], numbers=True)
    until = (
        f", up to {_time(found.longest_wall_h)} if the longest chain begins last"
        if (found.longest_wall_h > 1.02 * found.wall_h)
        else ""
    )
    disk = ", ".join(f"{name} {_size(size)}" for name, size in found.disk_gb.items())
    lines += [
        "",
        f"wall time     {_time(found.wall_h)}{until}; never less than {_time(found.chain_h)}, the longest chain",
        f"disk space    {_size(sum(found.disk_gb.values()))}: {disk}; working checkpoints meanwhile "
        f"{_size(found.working_gb)}",
        f"peak memory   {found.memory_gb:.2g} GB"
        + ("" if found.gpu_memory_gb is None else f", GPU {found.gpu_memory_gb:.2g} GB"),
        "",
        *(f"assumed: {text}" for text in assumptions),
    ]
    return "\n".join(lines)


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.1f} s"
    if hours < 2:
        return f"{hours * 60:.1f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _size(gigabytes: float) -> str:
    return f"{gigabytes * 1000:.3g} MB" if gigabytes < 1 else f"{gigabytes:.3g} GB"
