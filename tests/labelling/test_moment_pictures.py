"""Pictures of moments: what is on them, and that a recording is read once and only as far as needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelling_export import HEIGHT, WIDTH, write_recording

from leod.drawing.pictures import LIGHT, paint_counts
from leod.errors import DataError
from leod.labelling.pictures import PictureStyle, labelling_scale, moment_pictures
from leod.recordings.chunk import EventChunk
from leod.recordings.dat import write_dat
from leod.recordings.recording import open_recording

BARE = PictureStyle(windows_us=(50_000,), neighbours=0, scale=3)


def pictures_of(path: Path, times: list[int], style: PictureStyle) -> list:
    with open_recording(path) as recording:
        return list(moment_pictures(recording, times, style))


def test_the_picture_to_label_holds_the_events_of_its_window_and_nothing_else(tmp_path: Path) -> None:
    events = write_recording(tmp_path / "a.dat")
    made = pictures_of(tmp_path / "a.dat", [700_000, 300_000], BARE)
    assert [each.t_us for each in made] == [300_000, 700_000]
    for each in made:
        inside = (events.t > each.t_us - 50_000) & (events.t <= each.t_us)
        counts = np.zeros((2, HEIGHT, WIDTH))
        np.add.at(counts, (events.p[inside], events.y[inside], events.x[inside]), 1)
        np.testing.assert_array_equal(each.picture, paint_counts(counts[1], counts[0], LIGHT, 3))
        assert each.events == inside.sum()
        assert each.sheet is None


def test_chunks_do_not_change_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_recording(tmp_path / "a.dat")
    style = PictureStyle()
    whole = pictures_of(tmp_path / "a.dat", [150_000, 300_000, 310_000, 990_000], style)
    with open_recording(tmp_path / "a.dat") as recording:
        small = recording.chunks
        monkeypatch.setattr(recording, "chunks", lambda: small(97))
        pieces = list(moment_pictures(recording, [150_000, 300_000, 310_000, 990_000], style))
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one.picture, other.picture)
        np.testing.assert_array_equal(one.sheet, other.sheet)


def test_reading_ends_with_the_last_moment(tmp_path: Path) -> None:
    write_recording(tmp_path / "a.dat")
    with open_recording(tmp_path / "a.dat") as recording:
        chunks = recording.chunks
        recording.chunks = lambda: chunks(200)  # type: ignore[method-assign]
        assert len(list(moment_pictures(recording, [300_000], BARE))) == 1
        assert 0.2 < recording.fraction_read < 0.35


def test_old_events_of_a_long_window_are_paler_than_new_ones(tmp_path: Path) -> None:
    events = EventChunk(
        np.array([100_000, 850_000, 980_000], np.int64),
        np.array([0, 10, 20], np.uint16),
        np.array([0, 5, 5], np.uint16),
        np.ones(3, np.uint8),
    )
    write_dat(tmp_path / "a.dat", [events], HEIGHT, WIDTH)
    (made,) = pictures_of(tmp_path / "a.dat", [990_000], PictureStyle((200_000,), 0, scale=1))
    ink = 255 * 3 - made.picture.astype(int).sum(axis=2)
    assert 0 < ink[5, 10] < 0.8 * ink[5, 20]
    assert np.count_nonzero(ink) == 2


def test_the_sheet_shows_neighbours_and_longer_windows(tmp_path: Path) -> None:
    events = EventChunk(
        np.array([100_000, 380_000, 480_000, 580_000, 900_000], np.int64),
        np.array([0, 10, 20, 30, 40], np.uint16),
        np.full(5, 12, np.uint16),
        np.ones(5, np.uint8),
    )
    write_dat(tmp_path / "a.dat", [events], HEIGHT, WIDTH)
    style = PictureStyle((50_000, 150_000), 1, 100_000, scale=1)
    (made,) = pictures_of(tmp_path / "a.dat", [500_000], style)
    height, width = made.sheet.shape[0] // 2, made.sheet.shape[1] // 3
    tiles = [made.sheet[: height - 40, n * width : (n + 1) * width - 8] for n in range(3)]
    tiles.append(made.sheet[height : 2 * height - 40, : width - 8])
    blue = [
        (tile[..., 2].astype(int) > tile[..., 0].astype(int) + 20).any(axis=0).nonzero()[0] // (width // WIDTH)
        for tile in tiles
    ]
    assert [sorted(set(columns.tolist())) for columns in blue] == [[10], [20], [30], [10, 20]]


def test_large_sensors_are_not_enlarged_and_small_ones_are() -> None:
    assert [labelling_scale(width) for width in (1280, 640, 346, 96, 8)] == [1, 2, 3, 8, 8]


@pytest.mark.parametrize(("t_us", "said"), [(99_000, "before the first event"), (1_100_000, "after the last event")])
def test_moments_outside_of_the_recording_are_refused(tmp_path: Path, t_us: int, said: str) -> None:
    write_recording(tmp_path / "a.dat")
    with pytest.raises(DataError, match=f"a.dat: the moment {t_us} µs lies {said}.*clock of the recording"):
        pictures_of(tmp_path / "a.dat", [t_us], BARE)
