"""Runs the published code of LEOD for `compare_published.py`, out of a checkout of github.com/Wuziyi616/LEOD.

    python published_code.py FOLDER --code CHECKOUT --output RESULT.json

Its modules are imported from there and run as its own programs run them (`train.py`, `predict.py`), on a CPU in
float32. The Python that runs this needs omegaconf, hydra-core, einops, torchdata 0.9 and what LEOD here needs; packages
that the published code only imports for pictures and logs may be missing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import shutil
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hdf5plugin  # noqa: F401  (the filter of the sequences)
import torch

NOT_NEEDED = {"nerv", "cv2", "plotly", "pandas", "bbox_visualizer", "wandb", "matplotlib", "skimage", "pycocotools"}
"""Imported by the published code, but not used by what is measured here."""


class _Unused(types.ModuleType):
    """Stands for a module that is imported and not used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nothing else has found."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name.partition(".")[0] in NOT_NEEDED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Unused(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def configuration(code: Path, program: str, size: str, dataset: Path, options: list[str]) -> Any:
    """The published configuration of a program for Gen1."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(config_dir=str(code / "config"), version_base="1.2"):
        found = compose(
            program,
            [
                "dataset=gen1",
                f"+experiment/gen1={size}.yaml",
                f"dataset.path={dataset}",
                "hardware.num_workers.eval=0",
                "training.precision=32",
                *options,
            ],
        )
    importlib.import_module("config.modifier").dynamically_modify_train_config(found)
    return found


def load(module: Any, weights: Path) -> None:
    """Load the exported weights into a published module."""
    module.load_state_dict(torch.load(weights, weights_only=True)["state_dict"], strict=True)


def measure(call: Callable[[], Any], repetitions: int) -> dict[str, float]:
    """Median CPU and wall time of a call in seconds."""
    cpu, wall = [], []
    for _ in range(repetitions):
        started = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
    return {"cpu_s": statistics.median(cpu), "wall_s": statistics.median(wall)}


class Published:
    """The published detector of one size.

    Args:
        code: The checkout.
        folder: What `compare_published.py prepare` made.
        case: What it says about this size.
    """

    def __init__(self, code: Path, folder: Path, case: dict[str, Any]) -> None:
        self._code, self._folder, self._case = code, folder, case
        self._weights = folder / case["name"] / "published.ckpt"
        self._tensors = torch.load(folder / "tensors.pt", weights_only=True)

    def training(self) -> tuple[Callable[[], None], list[float]]:
        """One step of training, and the list to which it adds its loss."""
        config = configuration(self._code, "train", self._case["published"], self._folder / "gen1", [])
        config.logging.train.high_dim.enable = False
        module = importlib.import_module("modules.detection").Module(config)
        load(module, self._weights)
        module.setup("fit")
        module.train()
        module._trainer = types.SimpleNamespace(global_step=1)
        settings = config.training
        found = module.configure_optimizers()
        optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
        losses: list[float] = []

        def step() -> None:
            loss = module.training_step(self._batch(), 0, log=False)["loss"]
            loss.backward()
            torch.nn.utils.clip_grad_value_(module.parameters(), settings.gradient_clip_val)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())

        return step, losses

    def _batch(self) -> dict[str, Any]:
        labels = importlib.import_module("data.genx_utils.labels")
        kinds = importlib.import_module("data.utils.types").DataType
        names = importlib.import_module("modules.utils.detection")
        frames, rows = self._tensors["frames"], self._tensors["label_rows"]
        size = tuple(frames.shape[-2:])
        every = [
            labels.SparselyBatchedObjectLabels([labels.ObjectLabels(of_frame.clone(), size) for of_frame in of_step])
            for of_step in rows
        ]
        data = {
            kinds.EV_REPR: list(frames),
            kinds.OBJLABELS_SEQ: every,
            kinds.IS_FIRST_SAMPLE: torch.ones(frames.shape[1], dtype=torch.bool),
        }
        return {names.WORKER_ID_KEY: 0, names.DATA_KEY: data}

    def inference(self, batches: torch.Tensor, carried: bool) -> Callable[[], list[torch.Tensor]]:
        """Detections of the frames [L, B, C, H, W], collected over time as the published test step does."""
        config = configuration(self._code, "train", self._case["published"], self._folder / "gen1", [])
        module = importlib.import_module("modules.detection").Module(config)
        load(module, self._weights)
        module.eval()
        selector_type = importlib.import_module("modules.utils.detection").BackboneFeatureSelector
        postprocess = importlib.import_module("models.detection.yolox.utils.boxes").postprocess
        everything = list(range(batches.shape[1]))
        memory: list[Any] = [None]

        @torch.inference_mode()
        def detect() -> list[torch.Tensor]:
            states = memory[0] if carried else None
            selector = selector_type()
            for frames in module.input_padder.pad_tensor_ev_repr(batches.to(dtype=module.dtype)):
                features, states = module.mdl.forward_backbone(x=frames, previous_states=states)
                selector.add_backbone_features(backbone_features=features, selected_indices=everything)
            memory[0] = states
            predictions, _ = module.mdl.forward_detect(backbone_features=selector.get_batched_backbone_features())
            return postprocess(
                prediction=predictions,
                num_classes=2,
                conf_thre=self._case["confidence_threshold"],
                nms_thre=self._case["nms_threshold"],
                pad=torch.zeros((0, 7)),
            )

        return detect

    def pseudo_labels(self, output: Path) -> Callable[[], None]:
        """Pseudo-labels of all sequences, from files to the pseudo-labelled set."""
        case = self._case

        def generate() -> None:
            config = configuration(
                self._code,
                "predict",
                case["published"],
                self._folder / "gen1",
                [
                    "model=pseudo_labeler",
                    f"checkpoint={self._weights}",
                    f"save_dir={output / 'gen1' / 'train'}",
                    f"batch_size.eval={case['batch_size']}",
                    "tta.enable=True",
                    f"model.postprocess.confidence_threshold={case['confidence_threshold_of_sequences']}",
                    f"model.postprocess.nms_threshold={case['nms_threshold']}",
                    f"model.pseudo_label.obj_thresh={case['score_thresholds']}",
                    f"model.pseudo_label.cls_thresh={case['score_thresholds']}",
                ],
            )
            fetch = importlib.import_module("modules.utils.fetch")
            data, module = fetch.fetch_data_module(config=config), fetch.fetch_model_module(config=config).eval()
            load(module, self._weights)
            data.setup("predict")
            module.setup("predict")
            with torch.inference_mode():
                for index, batch in enumerate(data.predict_dataloader()):
                    module.predict_step(batch, index)
                for sequence in module.ev_path_2_ev_data.values():
                    sequence.save(save_dir=module.save_dir, dst_name=module.dst_name)

        return generate


def main() -> None:
    """Measure what `compare_published.py` asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--code", type=Path, required=True, help="checkout of the published code")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--pseudo-labels", action="store_true")
    arguments = parser.parse_args()
    folder, code = arguments.folder.resolve(), arguments.code.resolve()
    output = arguments.output.resolve()
    torch.set_num_threads(1)
    sys.path.insert(0, str(code))
    os.chdir(code)
    sys.meta_path.append(_StandIns())
    # It asks for the name of its GPU when it is imported.
    torch.cuda.get_device_name = lambda device=None: "none"
    results = {}
    for case in json.loads((folder / "cases.json").read_text()):
        published = Published(code, folder, case)
        frames = published._tensors["frames"]
        found = results[case["name"]] = {}
        if arguments.pseudo_labels:
            place = folder / case["name"] / "theirs"
            shutil.rmtree(place, ignore_errors=True)
            found["pseudo-labels"] = measure(published.pseudo_labels(place), 1)
            continue
        step, losses = published.training()
        step()
        found["training step"] = measure(step, arguments.repetitions)
        found["losses"] = losses
        one = published.inference(frames[:1, :1], carried=True)
        first = one()
        found["inference, 1 frame"] = measure(one, 5 * arguments.repetitions)
        several = published.inference(frames, carried=False)
        all_frames = several()
        found["inference, 5 x 2 frames"] = measure(several, arguments.repetitions)
        torch.save([*first, *all_frames], output.with_suffix(f".{case['name']}.pt"))
    output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
