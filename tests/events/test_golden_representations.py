"""Event representations against the published code's results."""

import numpy as np
import pytest

from leod.events.representations import mixed_density, stacked_histogram

STACKED = {
    "stacked_hist_fast": {"wrap_counts": True},
    "stacked_hist_slow": {},
    "stacked_hist_fast_nocutoff": {"wrap_counts": True, "count_cutoff": None},
    "stacked_hist_b3_c2": {"bins": 3, "count_cutoff": 2, "wrap_counts": True},
}
MIXED = {
    "mixed_density_cutNone": {"wrap_counts": True},
    "mixed_density_cut32": {"wrap_counts": True, "count_cutoff": 32},
}


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
        for function, variants in ((stacked_histogram, STACKED), (mixed_density, MIXED)):
            for name, options in variants.items():
                expected = golden.get(f"{case}/{name}")
                if expected is None:
                    continue
                frame = function(*events, height, width, **options)
                assert frame.dtype == expected.dtype, (case, name)
                np.testing.assert_array_equal(frame, expected, err_msg=f"{case}/{name}")
                compared += 1
    assert compared >= len(golden["case_names"])
