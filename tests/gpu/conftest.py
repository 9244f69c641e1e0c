"""Fixtures of the tests of GPUs."""

from __future__ import annotations

import sys
from pathlib import Path

# The tiny training of the tests of trainings.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))
