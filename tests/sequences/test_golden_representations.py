"""Event representations against the published code's results."""

import re

import numpy as np
import pytest
from event_frames import mixed_density, stacked_histogram


def variant_of(name):
    """The function and options that an array of the golden file is named after; None for the events themselves."""
    if match := re.fullmatch(r"mixed_density_cut(None|\d+)", name):
        return mixed_density, {"wrap_counts": True, "count_cutoff": None if match[1] == "None" else int(match[1])}
    if match := re.fullmatch(r"stacked_hist(_fast|_slow|)(_nocutoff|)(?:_b(\d+)_c(\d+))?", name):
        options = {"wrap_counts": match[1] != "_slow"}
        if match[2]:
            options["count_cutoff"] = None
        if match[3]:
            options |= {"bins": int(match[3]), "count_cutoff": int(match[4])}
        return stacked_histogram, options
    assert name in ("t", "x", "y", "p", "hw"), f"unknown variant {name}"
    return None


@pytest.fixture(scope="module")
def golden(golden_dir):
    path = golden_dir / "representations.npz"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_every_case_and_variant(golden):
    compared = 0
    for case in golden["case_names"]:
        events = [golden[f"{case}/{name}"] for name in "txyp"]
        height, width = (int(side) for side in golden[f"{case}/hw"])
        for key, expected in golden.items():
            if not key.startswith(f"{case}/"):
                continue
            variant = variant_of(key.removeprefix(f"{case}/"))
            if variant is None:
                continue
            function, options = variant
            frame = function(*events, height, width, **options)
            assert frame.dtype == expected.dtype, key
            np.testing.assert_array_equal(frame, expected, err_msg=key)
            compared += 1
    assert compared >= len(golden["case_names"])
