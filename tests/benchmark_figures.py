"""A benchmark that nobody measured, with round figures."""

from __future__ import annotations

from leod.costs.figures import (
    BenchmarkResult,
    Conditions,
    JobFigures,
    LatencyFigures,
    LoadingFigures,
    Machine,
    PreprocessingFigures,
    SimulationFigures,
    StreamFigures,
    TrainingFigures,
    Way,
)

ON_CPU = Way(device="cpu", precision="32-true", compile=False, as_in_study=True)
ON_GPU = Way(device="cuda", precision="16-mixed", compile=False, as_in_study=True)


def training_figures(stage="pretrain", way=ON_CPU, **changes):
    """A step of 0.5 s with 8 samples of 4 windows."""
    content = {
        "stage": stage,
        "way": way,
        "batch_size": 8,
        "sequence_length": 4,
        "burn_in": 0,
        "accumulate": 1,
        "steps": 10,
        "step_s": 0.5,
        "first_step_s": 2.5,
        "peak_memory_mb": 1000,
        "gpu_memory_mb": 8000 if way is ON_GPU else None,
    }
    return TrainingFigures(**content | changes)


def made_up_benchmark(way=ON_CPU, **changes):
    """100 frames of pseudo-labels and 200 of validations in a second."""
    streams = tuple(
        StreamFigures(
            task=task,
            way=way,
            views=views,
            batch_size=8,
            frames=1000,
            frames_per_s=speed,
            peak_memory_mb=900,
            gpu_memory_mb=4000 if way is ON_GPU else None,
        )
        for task, views, speed in (("pseudo_labels", 4, 100), ("validation", 1, 200))
    )
    content = {
        "machine": Machine(
            processor="a processor", cores=2, memory_gb=16, gpu=None, gpu_memory_gb=None, system="Linux x86_64"
        ),
        "conditions": Conditions(
            model="rvt-nano",
            sensor=(64, 96),
            frame=(64, 96),
            threads=1,
            side_by_side=2,
            seconds=3,
            events_per_pixel_s=3,
            boxes_per_frame=2,
        ),
        "training": (training_figures("pretrain", way), training_figures("self_train", way, step_s=1.0)),
        "streams": streams,
        "latency": (LatencyFigures(way=way, windows=100, median_ms=8.0, quantile_95_ms=9.5),),
        "loading": LoadingFigures(workers=0, frames_per_s=3000),
        "preprocessing": PreprocessingFigures(
            events_per_s=5e6, frames_per_s=1000, bytes_per_frame=2000, peak_memory_mb=300
        ),
        "simulation": SimulationFigures(recorded_s_per_s=20, events_per_s=20_000, peak_memory_mb=300),
        "job": JobFigures(
            start_detector_s=4,
            start_other_s=1,
            open_sequence_s=0.01,
            checkpoint_s=0.1,
            checkpoint_mb=30,
            detector_mb=8,
            parameters=2_000_000,
        ),
    }
    return BenchmarkResult(**content | changes)
