"""What a study will cost: seconds and size of each job from measured speeds, and the whole by list scheduling."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from leod.boxes.dtypes import LABEL_DTYPE
from leod.config.schema import TrainingConfig
from leod.config.settings import TrainSettings
from leod.costs.amounts import Amount
from leod.costs.figures import MB, BenchmarkResult, TrainingFigures
from leod.costs.schedule import Task, wall_time
from leod.inference.views import views_of
from leod.study.graph import Job, study_graph
from leod.study.study import Study

BURN_IN_SHARE = 1 / 3
"""A window without gradient costs about a third of one with: the backward pass takes twice the forward pass."""
BETWEEN_JOBS_S = 0.3
"""What Snakemake takes from the end of a job to the start of the next one."""
SNAKEMAKE_START_S = 4.0
"""From the command to the first job."""
BOX_WORK_S_PER_FRAME = 1e-4
"""Tracking, filtering and comparing the boxes of a frame; not measured by the benchmark."""
REPORT_S = 6.0
"""Figures of the report, without the detector's part."""
PREDICTED_BOXES_PER_FRAME = 9
"""Merged boxes of a frame that are kept before tracking (default study)."""
DATASET_KB_PER_SEQUENCE = 30.0
"""Files of a pseudo-labelled sequence beside its boxes, in blocks of the file system."""
EVENT_BYTES = 8
KEPT_CHECKPOINTS = 2
_DETECTOR_RULES = (
    "suggest_labels",
    "pretrain",
    "choose_thresholds",
    "generate_pseudo_labels",
    "self_train",
    "evaluate",
)
"""Rules whose jobs run a detector: on a GPU where there is one."""
_THREADS_WITHOUT_LIMIT = 4
"""CPU threads of a detector's job where neither the study nor the number of cores says, as in `rules/common.smk`."""


@dataclass(frozen=True)
class Resources:
    """What the study may use.

    Attributes:
        cores: CPU cores; None = any number, as on a cluster.
        gpus: GPUs; None = any number.
    """

    cores: int | None
    gpus: int | None


@dataclass(frozen=True)
class RuleCost:
    """What the jobs of a rule cost together.

    Attributes:
        rule: Its name.
        jobs: Number of jobs.
        hours: Their time one after the other.
        cpu_hours: Time multiplied by the cores that they hold.
        gpu_hours: Time multiplied by the GPUs that they hold.
        memory_gb: Most memory that one of them holds; None = not measured, little.
    """

    rule: str
    jobs: int
    hours: float
    cpu_hours: float
    gpu_hours: float
    memory_gb: float | None


@dataclass(frozen=True)
class Estimate:
    """What a study costs.

    Attributes:
        rules: Its rules in the order of the study.
        wall_h: From the start to the end, where what more is waiting for comes first.
        longest_wall_h: The same where it comes last.
        chain_h: The longest chain of jobs that wait for each other: with any number of machines.
        disk_gb: Kind of files → size.
        working_gb: Space for working checkpoints while trainings run.
        memory_gb: Most memory of all jobs that may run at the same time.
        gpu_memory_gb: Most memory of a GPU; None = no GPU.
    """

    rules: tuple[RuleCost, ...]
    wall_h: float
    longest_wall_h: float
    chain_h: float
    disk_gb: dict[str, float]
    working_gb: float
    memory_gb: float
    gpu_memory_gb: float | None

    @property
    def jobs(self) -> int:
        """Number of all jobs."""
        return sum(rule.jobs for rule in self.rules)


def step_seconds(training: TrainingConfig, measured: TrainingFigures, devices: int = 1) -> float:
    """Time of an optimiser step, from one that was measured: proportional to the windows of all samples.

    Args:
        training: What is trained.
        measured: What was measured.
        devices: Devices that share a batch; the exchange of gradients is left out.
    """
    here = _work(training.batch_size / devices, training.sequence_length, training.burn_in) * training.accumulate
    there = _work(measured.batch_size, measured.sequence_length, measured.burn_in) * measured.accumulate
    return measured.step_s * here / there


def _work(samples: float, length: int, burn_in: int) -> float:
    return samples * (length - burn_in + burn_in * BURN_IN_SHARE)


def validations(training: TrainingConfig) -> int:
    """Validations of a training that takes all its steps: every so many, and at the end."""
    return math.ceil(training.steps / training.validation.every_steps)


def checkpoints(training: TrainingConfig) -> int:
    """Working checkpoints of a training: every so many steps, before and after each validation."""
    regular = training.steps // training.checkpoint_every_steps
    return regular + 2 * validations(training)


def training_seconds(
    training: TrainingConfig, measured: TrainingFigures, benchmark: BenchmarkResult, amount: Amount, devices: int = 1
) -> float:
    """Time of a training without the start of its job."""
    job = benchmark.job
    # The first step was measured with what it takes longer.
    first = max(0.0, measured.first_step_s - measured.step_s)
    opening = (amount.train.recordings + amount.val.recordings) * job.open_sequence_s
    validated = amount.val.frames * training.validation.sequence_fraction / devices
    per_frame = 1 / benchmark.stream_as_in_study("validation").frames_per_s
    return (
        opening
        + first
        + training.steps * step_seconds(training, measured, devices)
        + validations(training) * validated * per_frame
        + checkpoints(training) * job.checkpoint_s
    )


class Costs:
    """Seconds, memory and devices of the jobs of one study.

    Args:
        study: The study.
        amount: How much data it has.
        benchmark: What was measured.
        resources: What it may use.
    """

    def __init__(self, study: Study, amount: Amount, benchmark: BenchmarkResult, resources: Resources) -> None:
        self._study, self._amount, self._benchmark, self._resources = study, amount, benchmark, resources
        self._jobs = study_graph(study)
        self.on_gpu = benchmark.training_as_in_study("pretrain").way.device == "cuda"
        self._devices = study.config.hardware.devices

    # ---------------------------------------------------------------------------------------------------- one job

    def seconds(self, job: Job) -> float:
        """Time of one job, its start included."""
        figures, amount, config = self._benchmark.job, self._amount, self._study.config
        other, detector = figures.start_other_s, figures.start_detector_s
        opening = figures.open_sequence_s
        if job.rule == "simulate":
            return self._simulating()
        if job.rule == "preprocess":
            return self._preprocessing(job)
        if job.rule == "check_sequences":
            return other + amount.of(job.wildcards["split"]).recordings * opening
        if job.rule == "subsample_labels":
            return other + amount.train.recordings * opening
        if job.rule in ("pretrain", "self_train"):
            settings = self._study.settings(job.rule, job.wildcards["experiment"])
            return detector + self._training(settings, job.rule)
        if job.rule == "suggest_labels":
            return detector + self._watching("train", 1)
        if job.rule == "choose_thresholds":
            settings = self._study.settings(job.rule, job.wildcards["experiment"])
            # Only labelled frames pass the head, as in a validation.
            return detector + self._watching("val", len(views_of(settings.views)), task="validation")
        if job.rule == "generate_pseudo_labels":
            settings = self._study.settings(job.rule, job.wildcards["experiment"])
            views = len(views_of(settings.views))
            return detector + self._watching("train", views, share=1 / len(self._study.shards))
        if job.rule == "evaluate":
            return detector + self._watching(
                job.wildcards["split"], 4 if job.wildcards["variant"] == "tta" else 1, task="validation"
            )
        if job.rule in ("track_filter", "validate_quality"):
            work = amount.train.frames * BOX_WORK_S_PER_FRAME
            return other + amount.train.recordings * opening + work
        if job.rule == "write_report":
            shown = config.report.sample_sequences * config.report.sample_span * (config.rounds + 1)
            return detector + REPORT_S + shown / self._benchmark.stream_as_in_study("validation").frames_per_s
        return other if job.rule == "summarise" else 0.0

    def _simulating(self) -> float:
        figures, simulation = self._benchmark, self._study.config.dataset.simulate
        if figures.simulation is None or simulation is None:
            return figures.job.start_other_s
        recorded = sum(simulation.recordings.values()) * simulation.duration_s
        processes = self._resources.cores or _THREADS_WITHOUT_LIMIT
        # Its processes begin anew, as the command does.
        return 2 * figures.job.start_other_s + recorded / figures.simulation.recorded_s_per_s / processes

    def _preprocessing(self, job: Job) -> float:
        figures, config = self._benchmark, self._study.config
        share = self._amount.of(job.wildcards["split"])
        processes = min(config.preprocess.processes, self._resources.cores or config.preprocess.processes)
        starts = 1 if processes == 1 else 2
        frames = share.frames / config.preprocess.shards
        speed = figures.preprocessing.frames_per_s
        if self._amount.events is not None:
            # Of events there are more or fewer than in what was measured.
            events = self._amount.events * share.frames / max(1, self._amount.frames) / config.preprocess.shards
            measured = figures.preprocessing.events_per_s
            return starts * figures.job.start_other_s + max(events / measured, frames / speed) / processes
        return starts * figures.job.start_other_s + frames / speed / processes

    def _training(self, settings: TrainSettings, rule: str) -> float:
        if settings.training.from_checkpoint is not None:
            return 0.0
        measured = self._benchmark.training_as_in_study(rule)
        return training_seconds(settings.training, measured, self._benchmark, self._amount, self._devices)

    def _watching(self, split: str, views: int, share: float = 1.0, task: str = "pseudo_labels") -> float:
        """A detector over a split."""
        amount, figures = self._amount.of(split), self._benchmark.stream_as_in_study(task)
        opening = amount.recordings * self._benchmark.job.open_sequence_s
        return opening + share * amount.frames * views / figures.frames_per_s

    def gpus(self, rule: str) -> int:
        """GPUs of a job."""
        if not self.on_gpu or rule not in _DETECTOR_RULES:
            return 0
        return self._devices if rule in ("pretrain", "self_train") else 1

    def cores(self, rule: str) -> int:
        """CPU cores of a job, as the rules ask for them."""
        config, cores = self._study.config, self._resources.cores
        if rule == "simulate":
            wanted = cores or _THREADS_WITHOUT_LIMIT
        elif rule == "preprocess":
            wanted = config.preprocess.processes
        elif rule in (*_DETECTOR_RULES, "write_report"):
            wanted = config.hardware.threads or cores or _THREADS_WITHOUT_LIMIT
        else:
            wanted = 1
        return wanted if cores is None else min(wanted, cores)

    def memory_mb(self, rule: str) -> float | None:
        """Most memory of a job; None = not measured."""
        benchmark = self._benchmark
        if rule in ("pretrain", "self_train"):
            # The validation of a training is held together with it.
            return self._devices * benchmark.training_as_in_study(rule).peak_memory_mb
        if rule in ("choose_thresholds", "generate_pseudo_labels", "suggest_labels"):
            return benchmark.stream_as_in_study("pseudo_labels").peak_memory_mb
        if rule in ("evaluate", "write_report"):
            return benchmark.stream_as_in_study("validation").peak_memory_mb
        if rule == "preprocess":
            return self._study.config.preprocess.processes * benchmark.preprocessing.peak_memory_mb
        if rule == "simulate" and benchmark.simulation is not None:
            return (self._resources.cores or _THREADS_WITHOUT_LIMIT) * benchmark.simulation.peak_memory_mb
        return None

    # ------------------------------------------------------------------------------------------------------ whole

    def estimate(self) -> Estimate:
        """What the study costs."""
        tasks = [
            Task(
                self.seconds(job) + BETWEEN_JOBS_S,
                job.after,
                self.cores(job.rule),
                self.gpus(job.rule),
                job.priority,
            )
            for job in self._jobs
        ]
        cores, gpus = self._resources.cores, self._resources.gpus if self.on_gpu else None
        walls = [
            (SNAKEMAKE_START_S + wall_time(tasks, *limits, first)) / 3600
            for limits, first in (((cores, gpus), True), ((cores, gpus), False), ((None, None), True))
        ]
        counts = Counter(job.rule for job in self._jobs)
        return Estimate(
            rules=tuple(self._rule_cost(rule, tasks) for rule in counts),
            wall_h=walls[0],
            longest_wall_h=max(walls[:2]),
            chain_h=walls[2],
            disk_gb=self._disk_gb(counts),
            working_gb=self._at_the_same_time() * KEPT_CHECKPOINTS * self._benchmark.job.checkpoint_mb * MB / 1e9,
            memory_gb=self._memory_gb(counts),
            gpu_memory_gb=self._gpu_memory_gb(),
        )

    def _rule_cost(self, rule: str, tasks: SequenceOf[Task]) -> RuleCost:
        own = [task for job, task in zip(self._jobs, tasks, strict=True) if job.rule == rule]
        hours = sum(task.seconds for task in own) / 3600
        memory = self.memory_mb(rule)
        return RuleCost(
            rule,
            len(own),
            hours,
            hours * self.cores(rule),
            hours * self.gpus(rule),
            None if memory is None else memory * MB / 1e9,
        )

    def _disk_gb(self, counts: Counter[str]) -> dict[str, float]:
        amount, figures, config = self._amount, self._benchmark, self._study.config
        frames = amount.frame_bytes or amount.frames * figures.preprocessing.bytes_per_frame
        sizes = {"sequences": frames}
        if config.dataset.simulate is not None and figures.simulation is not None:
            simulation = config.dataset.simulate
            seconds = sum(simulation.recordings.values()) * simulation.duration_s
            sizes = {"recordings": seconds * figures.simulation.events_per_s * EVENT_BYTES} | sizes
        boxes = amount.train.frames * PREDICTED_BOXES_PER_FRAME * LABEL_DTYPE.itemsize
        shards = len(self._study.shards)
        if rounds := counts["generate_pseudo_labels"] // shards:
            sizes["predictions"] = rounds * boxes
        if sets := counts["track_filter"]:
            sizes["pseudo-labelled sets"] = sets * (boxes + 1000 * DATASET_KB_PER_SEQUENCE * amount.train.recordings)
        sizes["detectors"] = (counts["pretrain"] + counts["self_train"]) * figures.job.detector_mb * MB
        return {name: size / 1e9 for name, size in sizes.items()}

    def _at_the_same_time(self) -> int:
        """Trainings that can run at the same time."""
        trainings = sum(1 for job in self._jobs if job.rule in ("pretrain", "self_train"))
        limits = [trainings]
        if self._resources.cores is not None:
            limits.append(self._resources.cores // self.cores("pretrain"))
        if self.on_gpu and self._resources.gpus is not None:
            limits.append(self._resources.gpus // self._devices)
        return max(1, min(limits))

    def _memory_gb(self, counts: Counter[str]) -> float:
        """Memory of the largest jobs, as many of them as can run at the same time; of one on a cluster."""
        largest = 0.0
        for rule in counts:
            memory = self.memory_mb(rule) or 0.0
            together = 1
            if self._resources.cores is not None:
                together = min(counts[rule], max(1, self._resources.cores // self.cores(rule)))
                if self.gpus(rule) and self._resources.gpus is not None:
                    together = min(together, max(1, self._resources.gpus // self.gpus(rule)))
            largest = max(largest, memory * together)
        return largest * MB / 1e9

    def _gpu_memory_gb(self) -> float | None:
        figures = [*self._benchmark.training, *self._benchmark.streams]
        used = [entry.gpu_memory_mb for entry in figures if entry.way.as_in_study and entry.gpu_memory_mb is not None]
        return max(used) * MB / 1e9 if used else None
