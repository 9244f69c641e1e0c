"""Detections against the published post-processing."""

from __future__ import annotations

import numpy as np
import torch

from leod.models.postprocess import postprocess


def test_every_case(golden_dir):
    with np.load(golden_dir / "postprocess.npz", allow_pickle=False) as file:
        cases = {key: file[key] for key in file.files}
    for name in cases["case_names"]:
        predictions = torch.from_numpy(cases[f"{name}/pred"])
        before = predictions.clone()
        detections = postprocess(predictions, float(cases[f"{name}/conf_thre"]), float(cases[f"{name}/nms_thre"]))
        assert torch.equal(predictions, before), name
        np.testing.assert_array_equal([len(rows) for rows in detections], cases[f"{name}/count"], err_msg=name)
        np.testing.assert_allclose(torch.cat(detections), cases[f"{name}/det"], rtol=1e-5, atol=1e-4, err_msg=name)
