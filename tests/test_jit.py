"""Compiled loops in an installation that nobody may write to, for a user without a home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "leod"

PROGRAM = """
import importlib, sys
import numpy as np
modules = [importlib.import_module(name) for name in sys.argv[1:]]
assert all(module.__file__.startswith(sys.path[0]) for module in modules)
from leod.boxes.dtypes import LABEL_DTYPE
from leod.sequences.frame_boxes import FrameBoxes
from leod.pseudo_labels.quality import overlaps
found = FrameBoxes(np.ones(1, LABEL_DTYPE), np.zeros(1, int))
assert overlaps(found, found).pseudo.tolist() == [1.0]
"""


def test_loops_are_compiled_where_no_folder_is_writable(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "leod", ignore=shutil.ignore_patterns("__pycache__"))
    sources = sorted((tmp_path / "leod").rglob("*.py"))
    for folder in {source.parent for source in sources}:
        # A file where the folder would be: not even root can write into it.
        (folder / "__pycache__").touch()
    compiling = [source for source in sources if "numba" in (text := source.read_text()) or "leod.jit" in text]
    modules = [".".join(source.relative_to(tmp_path).with_suffix("").parts) for source in compiling]
    assert {"leod.pseudo_labels.tracking", "leod.simulation.sensor"} < set(modules)
    nowhere = str(tmp_path / "leod" / "__pycache__")
    environment = os.environ | {"HOME": nowhere, "XDG_CACHE_HOME": nowhere, "PYTHONPATH": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), *modules], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
