"""The way of a batch to the device."""

from __future__ import annotations

import torch

from leod.sampling.batch import Batch

READ_BY_NETWORK = ("frames", "is_first", "targets")
"""What of a batch goes to the device. Only the host looks at the rest: reading that back would stall a GPU."""


class Uploads:
    """Copies batches to a GPU on a stream of their own: they travel while the GPU computes the step before."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    def upload(self, batch: Batch, device: torch.device) -> Batch:
        """Start copying what the network reads; work that is given to the device from now on waits for it there.

        Args:
            batch: On the host, in page-locked memory where ``device`` is a GPU.
            device: Where the network is.

        Returns:
            The batch with `READ_BY_NETWORK` on ``device``, the rest on the host. The host does not wait.
        """
        if device.type != "cuda":
            return batch.with_uploaded(READ_BY_NETWORK, device)
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        computing = torch.cuda.current_stream(device)
        with torch.cuda.stream(self._stream):
            uploaded = batch.with_uploaded(READ_BY_NETWORK, device)
        computing.wait_stream(self._stream)
        for name in READ_BY_NETWORK:
            # Otherwise the next copy could take the memory while the step that reads it is still running.
            getattr(uploaded, name).record_stream(computing)
        return uploaded
