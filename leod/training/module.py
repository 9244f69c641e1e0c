"""One Lightning module for pretraining and self-training: they differ in their data and settings only."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytorch_lightning as pl
import torch

from leod.config.schema import TrainingConfig
from leod.models.detector import Detector
from leod.models.loss import LOSS_NAMES, DetectionLoss
from leod.models.states import LstmState, detach_states, reset_states
from leod.randomness import set_network_generators
from leod.sampling.batch import Batch, upload
from leod.training.processes import Processes
from leod.training.schedule import build_optimizer, build_schedule
from leod.training.uploads import Uploads

CURVE_NAMES = tuple(name for name in LOSS_NAMES if name != "l1_loss")
"""What is averaged between two rows of the training curves, in this order."""


class DetectionTraining(pl.LightningModule):
    """Trains a detector on windows of sequences, carrying the recurrent states from batch to batch.

    Every labelled frame of a batch enters the loss, in streamed and in random samples alike, and the head runs once
    over all of them (Wuziyi616/LEOD, modules/detection.py). Gradients end at the batch's first window.

    The random generators are set from the seed and the number of the batch, so that no batch depends on what was drawn
    before it, in training or elsewhere.

    Args:
        detector: The detector.
        loss: Compares its predictions with the labels.
        training: Learning rate, schedule, precision.
        seed: Seed of the random generators.
        processes: The processes that share the batch.
    """

    def __init__(
        self, detector: Detector, loss: DetectionLoss, training: TrainingConfig, seed: int, processes: Processes
    ) -> None:
        super().__init__()
        self.detector = detector
        self.loss = loss
        self._training_config = training
        self._seed = seed
        self._processes = processes
        self.batches_done = 0
        """Batches since the beginning of training, accumulated ones counted one by one."""
        self.states: list[LstmState] | None = None
        """Recurrent states of this process's slots; None before the first batch."""
        # A buffer, so that it is on the device before the first step.
        self.register_buffer("_interval_sums", torch.zeros(len(CURVE_NAMES)), persistent=False)
        self._interval_batches = 0
        self._uploads = Uploads()

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with the linear one-cycle schedule, stepped after every optimiser step."""
        optimizer = build_optimizer(self.detector.parameters(), self._training_config)
        schedule = build_schedule(optimizer, self._training_config)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move what the network reads, without waiting; the rest stays with the host."""
        del dataloader_idx
        return self._uploads.upload(batch, device)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss over all labelled frames of the batch.

        Args:
            batch: L windows of B samples.
            batch_idx: Number of the batch since this process started; unused.

        Returns:
            The scalar loss. Without a labelled frame it is zero and so are its gradients: the step then follows the
            momentum.
        """
        del batch_idx
        set_network_generators(self._seed, self.batches_done, self._processes.rank)
        batch, states = self._burn_in(batch)
        labelled = torch.nonzero(batch.labelled.flatten()).flatten()
        features, self.states = self._run_backbone(batch, states, labelled)
        self.batches_done += 1
        self._interval_batches += 1
        if features is None:
            return sum((parameter.sum() for parameter in self.detector.parameters()), start=torch.zeros(())) * 0.0
        targets = batch.targets.flatten(0, 1)
        if len(labelled) < len(targets):
            labelled = upload(labelled, targets.device)
            features = [level.index_select(0, labelled) for level in features]
            targets = targets.index_select(0, labelled)
        _, losses = self.detector.forward_head(features, targets, self.loss)
        self._add_to_interval(losses)
        return losses["loss"]

    def _burn_in(self, batch: Batch) -> tuple[Batch, list[LstmState] | None]:
        """Move the states over the batch's first windows without gradient; returns the rest and the states there.

        Detectors trained on short samples only meet states near zero; run over whole sequences, theirs drift away.
        """
        states = None if self.states is None else reset_states(self.states, batch.is_first)
        windows = self._training_config.burn_in
        if not windows:
            return batch, states
        with torch.no_grad():
            _, states = self.detector.forward_sequence(batch.frames[:windows], states)
        rest = {name: getattr(batch, name)[windows:] for name in ("frames", "targets", "labelled", "frame_indices")}
        return dataclasses.replace(batch, **rest), states

    def _run_backbone(
        self, batch: Batch, states: list[LstmState] | None, labelled: torch.Tensor
    ) -> tuple[list[torch.Tensor] | None, list[LstmState]]:
        """Features of all frames up to the last labelled window (or None), and the states after the last window."""
        samples = batch.frames.shape[1]
        # What comes after the last labelled window only moves the states on; no gradient comes back from there.
        windows = int(labelled[-1]) // samples + 1 if len(labelled) else 0
        if self._processes.size > 1:
            # A process without labels still takes part in the exchange of statistics and gradients.
            windows = max(windows, 1)
        features = None
        if windows:
            maps, states = self.detector.forward_sequence(batch.frames[:windows], states)
            features = [level.flatten(0, 1) for level in maps]
        if windows < len(batch.frames):
            with torch.no_grad():
                _, states = self.detector.forward_sequence(batch.frames[windows:], states)
        return features, detach_states(states)

    def _add_to_interval(self, losses: dict[str, torch.Tensor]) -> None:
        self._interval_sums += torch.stack([losses[name].detach() for name in CURVE_NAMES])

    def read_interval(self) -> dict[str, float]:
        """Mean losses over the batches since the last call (those without labels count as 0); reads from the device."""
        means = (self._processes.sum(self._interval_sums) / self._processes.size / self._interval_batches).tolist()
        self._interval_sums.zero_()
        self._interval_batches = 0
        return dict(zip(CURVE_NAMES, means, strict=True))

    def progress_state(self) -> dict[str, Any]:
        """Where training stands beside weights and optimiser: data position, recurrent states, running means."""
        return {
            "batches_done": self.batches_done,
            "states": None if self.states is None else self._processes.join_slots(self.states),
            "interval_sums": (self._processes.sum(self._interval_sums) / self._processes.size).cpu(),
            "interval_batches": self._interval_batches,
        }

    def load_progress_state(self, progress: dict[str, Any]) -> None:
        """Go on from what `progress_state` gave."""
        self.batches_done = progress["batches_done"]
        self.states = None
        if progress["states"] is not None:
            states = self._processes.own_slots(progress["states"])
            self.states = [(hidden.to(self.device), cell.to(self.device)) for hidden, cell in states]
        self._interval_sums.copy_(progress["interval_sums"])
        self._interval_batches = progress["interval_batches"]
