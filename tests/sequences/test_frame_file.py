import h5py
import hdf5plugin  # noqa: F401 -- registers the filter
import numpy as np
import pytest

from leod.sequences.frame_file import FrameCompressor, FrameFile

SHAPE = (4, 10, 14)  # 560 bytes, a multiple of 8
ODD_SHAPE = (2, 5, 7)


@pytest.mark.parametrize("shape", [SHAPE, ODD_SHAPE, (20, 96, 128)])
@pytest.mark.parametrize("share", [0.0, 0.004, 0.2, 1.0])  # empty, byte-wise, bit planes, too dense to compress
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_hdf5_reads_back_what_was_written(tmp_path, shape, share, dtype):
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (3, *shape)).astype(np.uint8).view(dtype)
    frames[rng.random(frames.shape) >= share] = 0
    compressor = FrameCompressor(frames[0].nbytes)
    with FrameFile(tmp_path / "frames.h5", 3, shape, np.dtype(dtype)) as file:
        for index, frame in enumerate(frames):
            file.write(index, compressor.compress(frame))
    with h5py.File(tmp_path / "frames.h5") as file:
        assert file["data"].dtype == dtype
        assert file["data"].chunks == (1, *shape)
        np.testing.assert_array_equal(file["data"][:], frames)


def test_small_counts_in_dense_frames_take_little_space():
    frame = np.random.default_rng(0).integers(0, 4, (20, 96, 128)).astype(np.uint8)
    assert len(FrameCompressor(frame.nbytes).compress(frame)) < frame.nbytes * 0.3  # two bits of eight
