"""Fixtures of the workflow tests."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from checkout import Checkout, pretending_checkout
from plain_study import plain_study


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with the default study in which stages only pretend to work."""
    return pretending_checkout(tmp_path, plain_study())


@pytest.fixture(scope="session")
def _finished_once(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = pretending_checkout(tmp_path_factory.mktemp("finished"), plain_study())
    checkout.snakemake()
    return checkout


@pytest.fixture
def finished(_finished_once: Checkout, tmp_path: Path) -> Checkout:
    """A checkout in which the study has run to its end."""
    folder = tmp_path / "checkout"
    shutil.copytree(_finished_once.folder, folder, symlinks=True)
    return Checkout(folder, copy.deepcopy(_finished_once.study), [folder / "programs"])
