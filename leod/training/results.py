"""What a training leaves behind."""

from __future__ import annotations

from leod.files import write_json
from leod.models.checkpoint import save_detector
from leod.models.detector import Detector
from leod.provenance import Stopwatch
from leod.training.control import CURVES_NAME, TrainingProgress
from leod.training.job import TrainingJob

MODEL_NAME, RECORD_NAME = "model.ckpt", "training.json"
"""The detector and the account of its training, in the results folder beside the curves."""
RESULTS = (MODEL_NAME, CURVES_NAME, RECORD_NAME)
FINISHED_NAME = ".finished"
"""Second names of the results, see `leod.reuse`."""


def write_results(
    job: TrainingJob, detector: Detector, progress: TrainingProgress, made_from: str, stopwatch: Stopwatch
) -> None:
    """Write the chosen detector, the curves and the account of the training."""
    select = job.settings.training.validation.select
    selected_step = progress.step
    if select == "best" and progress.best_weights is not None and progress.best_step is not None:
        selected_step = progress.best_step
        detector.load_state_dict(progress.best_weights)
    provenance = stopwatch.provenance(job.stage, job.settings, dict(job.inputs), job.seed)
    save_detector(job.output / MODEL_NAME, detector.cpu(), {**provenance, "step": selected_step})
    progress.curves.write(job.output / CURVES_NAME)
    write_json(
        job.output / RECORD_NAME,
        {
            "provenance": {**provenance, "resumed_at": progress.resumed_at},
            "key": made_from,
            "select": select,
            "selected_step": selected_step,
            "steps": progress.step,
            "stopped_early": progress.step < job.settings.training.steps,
            "best": {"step": progress.best_step, "metrics": progress.best_metrics},
            "last": {"step": progress.validated_step, "metrics": progress.last_metrics},
            "parameters": sum(parameter.numel() for parameter in detector.parameters()),
        },
    )
