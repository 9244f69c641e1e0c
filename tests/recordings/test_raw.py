import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_writer import HEADERS, encode_evt2, encode_evt3, encode_evt21, evt2_words, evt3_words, evt21_words

from leod.config.schema import SensorSize
from leod.errors import DataError
from leod.recordings.chunk import MAXIMUM_LATENESS_US
from leod.recordings.raw import RawRecording
from leod.recordings.recording import open_recording

SAMPLES = Path(os.environ.get("LEOD_SAMPLES", Path(__file__).resolve().parents[3] / "shared" / "data"))
ENCODERS = {"EVT2": encode_evt2, "EVT21": encode_evt21, "EVT3": encode_evt3}
EVT3_PERIOD = 1 << 24
EVT2_PERIOD = 1 << 34


def write(tmp_path, content):
    path = tmp_path / "a.raw"
    path.write_bytes(content)
    return path


def read(path, max_events=1_000_000, sensor=None):
    with RawRecording(path, sensor) as recording:
        chunks = list(recording.chunks(max_events))
    assert all(0 < len(chunk) <= max_events for chunk in chunks)
    return [event for chunk in chunks for event in zip(*(getattr(chunk, n).tolist() for n in "txyp"), strict=True)]


events_of_a_recording = st.lists(
    st.tuples(st.integers(0, 9_000), st.integers(0, 31), st.integers(0, 23), st.integers(0, 1)), min_size=1, max_size=80
)


@pytest.mark.parametrize("encoding", ENCODERS)
@settings(max_examples=60, deadline=None)
@given(events=events_of_a_recording, start=st.sampled_from([0, 12_345_678, EVT3_PERIOD - 500]), size=st.integers(1, 90))
def test_what_is_encoded_is_read_in_chunks_of_any_size(tmp_path_factory, encoding, events, start, size):
    # A recording that begins after the clock of 24 bits has wrapped cannot be told from one that begins before.
    events = sorted((start + t, x, y, p) for t, x, y, p in [(0, 0, 0, 0), *events])
    path = tmp_path_factory.mktemp("raw") / "a.raw"
    path.write_bytes(HEADERS[encoding] + ENCODERS[encoding](events))
    assert sorted(read(path, size)) == events


def test_state_is_carried_from_block_to_block(tmp_path, monkeypatch):
    monkeypatch.setattr("leod.recordings.raw._BLOCK_WORDS", 3)
    events = [(t, x, 5, 1) for t in (10, 5_000, 9_999) for x in (3, 4, 7, 12)]
    assert read(write(tmp_path, HEADERS["EVT3"] + encode_evt3(events))) == events
    assert read(write(tmp_path, HEADERS["EVT2"] + encode_evt2(events))) == events
    assert read(write(tmp_path, HEADERS["EVT21"] + encode_evt21(events))) == events


def test_vectors_of_32_pixels(tmp_path):
    words = [
        ("cd", 1, 1, 1, 1, 0xFF),
        ("high", 3),
        ("other", 0xA1234567),
        ("cd", 5, 0, 23, 1, 0xFFFFFFFF),
        ("cd", 6, 30, 0, 0, 0b11),
        ("cd", 7, 31, 0, 0, 0),
        ("cd", 7, 3, 2, 0, 1 << 28),
    ]
    expected = [(197, x, 23, 1) for x in range(32)] + [(198, 30, 0, 0), (198, 31, 0, 0), (199, 31, 2, 0)]
    path = write(tmp_path, HEADERS["EVT21"] + evt21_words(*words))
    # A vector is never split, whatever the size of a chunk.
    for size in (1, 31, 32, 33, 1_000):
        assert read(path, size) == expected
    words = [("high", 2**28 - 1), ("cd", 60, 1, 1, 1, 1), ("high", 0), ("cd", 3, 1, 1, 1, 1)]
    times = [event[0] for event in read(write(tmp_path, HEADERS["EVT21"] + evt21_words(*words)))]
    assert times == [EVT2_PERIOD - 4, EVT2_PERIOD + 3]


@pytest.mark.parametrize(
    ("header", "legacy"),
    [
        (b"% evt 2.1\n% endianness little\n% geometry 32x24\n% end\n", False),
        (b"% evt 2.1\n% endianness legacy\n% geometry 32x24\n% end\n", True),
        (b"% format EVT21;height=24;width=32;endianness=legacy\n% end\n", True),
        (b"% format EVT21;height=24;width=32\n% end\n", False),
        (b"% format EVT21;height=24;width=32\n% end\n", True),
    ],
)
def test_order_of_the_halves(tmp_path, header, legacy):
    events = [(1_000 + 70 * i, i % 20, i % 24, i % 2) for i in range(200)]
    events += [(20_000 + i, x, 5, 1) for i in range(5) for x in (3, 4, 7, 31)]
    assert read(write(tmp_path, header + encode_evt21(events, legacy)), 50) == events


def test_order_of_the_halves_that_nothing_tells(tmp_path):
    header = b"% evt 2.1\n% geometry 32x24\n% end\n"
    with pytest.raises(DataError, match=r"order the halves.*% endianness legacy"):
        read(write(tmp_path, header + evt21_words(("cd", 1, 1, 1, 1, 1))))
    assert read(write(tmp_path, header)) == []


def test_evt21_as_evlib_reads_it(tmp_path):
    evlib = pytest.importorskip("evlib")
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(0, 40, 3_000)).tolist()
    events = [(t, int(x), int(y), t % 2) for t, x, y in zip(times, *rng.integers(0, 24, (2, 3_000)), strict=True)]
    events = sorted({*events, *((t, x + 1, y, p) for t, x, y, p in events)})
    path = write(tmp_path, HEADERS["EVT21"] + encode_evt21(events))
    theirs = evlib.load_events(str(path)).collect()
    columns = [theirs[name].to_list() for name in ("x", "y", "polarity")]
    ours = sorted((x, y, p) for _, x, y, p in read(path))
    assert sorted(zip(*columns[:2], [max(p, 0) for p in columns[2]], strict=True)) == ours


def test_vectors_continue_where_the_last_one_ended(tmp_path):
    words = [("high", 0), ("low", 7), ("y", 2), ("base", 1, 1), ("vector12", 0b100000000001), ("vector8", 0b10000001)]
    expected = [(7, x, 2, 1) for x in (1, 12, 13, 20)]
    assert read(write(tmp_path, HEADERS["EVT3"] + evt3_words(*words))) == expected


def test_clocks_wrap_around(tmp_path):
    # Nothing happens for 12 of the 16.8 seconds that the clock lasts; the camera goes on writing the time.
    words = [
        ("y", 1),
        ("high", 4000),
        ("low", 1),
        ("x", 1, 0),
        ("high", 4095),
        ("high", 0),
        ("high", 3000),
        ("x", 2, 0),
    ]
    times = [event[0] for event in read(write(tmp_path, HEADERS["EVT3"] + evt3_words(*words)))]
    assert times == [4000 * 4096 + 1, EVT3_PERIOD + 3000 * 4096]
    words = [("high", 2**28 - 1), ("cd", 60, 1, 1, 1), ("high", 0), ("cd", 3, 1, 1, 1)]
    times = [event[0] for event in read(write(tmp_path, HEADERS["EVT2"] + evt2_words(*words)))]
    assert times == [EVT2_PERIOD - 4, EVT2_PERIOD + 3]


def test_late_words_around_a_wrap(tmp_path):
    highs = [4094, 4095, 0, 4095, 0, 1]
    words = [("y", 1)] + [word for high in highs for word in (("high", high), ("x", 1, 0))]
    times = [event[0] for event in read(write(tmp_path, HEADERS["EVT3"] + evt3_words(*words)))]
    period = EVT3_PERIOD >> 12
    assert [t >> 12 for t in times] == [4094, 4095, period, period, period, period + 1]


def test_late_events_get_the_latest_time(tmp_path):
    words = [("high", 2), ("y", 1), ("low", 9), ("x", 1, 0), ("low", 4), ("x", 2, 0), ("low", 11), ("x", 3, 0)]
    times = [event[0] - 2 * 4096 for event in read(write(tmp_path, HEADERS["EVT3"] + evt3_words(*words)))]
    assert times == [9, 9, 11]


def test_events_before_the_first_time_or_row_are_dropped(tmp_path):
    words = [("x", 1, 0), ("high", 1), ("x", 2, 0), ("vector8", 3), ("y", 4), ("vector8", 3), ("x", 3, 1)]
    assert read(write(tmp_path, HEADERS["EVT3"] + evt3_words(*words))) == [(4096, 3, 4, 1)]
    words = [("cd", 1, 1, 1, 1), ("high", 1), ("cd", 2, 2, 2, 0)]
    assert read(write(tmp_path, HEADERS["EVT2"] + evt2_words(*words))) == [(66, 2, 2, 0)]


def test_triggers_and_vendor_words_are_skipped(tmp_path):
    words = [("high", 0), ("other", 0xA1234567), ("cd", 1, 1, 1, 1), ("other", 0xE0000000), ("other", 0xF1234567)]
    assert read(write(tmp_path, HEADERS["EVT2"] + evt2_words(*words))) == [(1, 1, 1, 1)]
    words = [("high", 0), ("trigger", 0x101), ("y", 3), ("x", 1, 1)]
    assert read(write(tmp_path, HEADERS["EVT3"] + evt3_words(*words))) == [(0, 1, 3, 1)]


EVT2_EVENT = evt2_words(("high", 0), ("cd", 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"% evt 2.0\n% geometry 640x480\n% end\n", (480, 640)),
        (b"% format EVT2;height=320;width=300\n", (320, 300)),
        (b"% evt 2.0\n% Height 20\n% Width 30\n", (20, 30)),
        (b"% evt 2.0\n% plugin_name hal_plugin_gen31_fx3\n% system_ID 28\n", (480, 640)),
        (b"% evt 2.0\n% system_ID 48\n", (720, 1280)),
        (b"% evt 2.0\n% generation 4.2\n", (720, 1280)),
        (b"% evt 2.0\n% plugin_name hal_plugin_genx320_evk3\n% end\n", (320, 320)),
    ],
)
def test_sensor_size_from_the_header(tmp_path, header, size):
    path = write(tmp_path, header + EVT2_EVENT)
    with RawRecording(path) as recording:
        assert (recording.height, recording.width) == size
    assert read(path) == [(1, 1, 1, 1)]
    with pytest.raises(DataError, match=f"{size[0]} pixels high and {size[1]} wide"):
        RawRecording(path, SensorSize(height=100, width=100))


def test_sensor_size_of_a_silent_header_comes_from_the_caller(tmp_path):
    path = write(tmp_path, b"% evt 2.0\n" + EVT2_EVENT)
    with pytest.raises(DataError, match="does not tell the size of its sensor"):
        RawRecording(path)
    assert read(path, sensor=SensorSize(height=10, width=20)) == [(1, 1, 1, 1)]


def test_events_may_look_like_a_header_line(tmp_path):
    # 0x2025 is stored as "% ": column 37, like the start of a comment.
    content = evt3_words(("x", 0x25, 0), ("high", 0), ("y", 1), ("x", 5, 1))
    assert content.startswith(b"% ")
    assert read(write(tmp_path, b"% evt 3.0\n% geometry 64x48\n" + content)) == [(0, 5, 1, 1)]


LATE = MAXIMUM_LATENESS_US // 4096 + 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin with lines"),
        (b"\x00\x01\x02\x03", "must begin with lines"),
        (b"% Date 2020\n" + EVT2_EVENT, "does not tell the events' encoding; supported are EVT2, EVT21 and EVT3"),
        (b"% format EVT4;height=8;width=8\n% end\n", "encoded as EVT4.*metavision_file_to_dat"),
        (b"% evt 7\n", "encoded as evt 7"),
        (b"% evt 3.0\n% geometry 8x8\n% endianness big\n% end\n", "big-endian"),
        (b"% evt 3.0\n% geometry wide\n% end\n", "geometry 'wide'"),
        (HEADERS["EVT2"] + EVT2_EVENT[:-1], "cut off: 7 bytes of events are not a multiple of 4"),
        (HEADERS["EVT3"] + b"\x00", "cut off: 1 bytes of events are not a multiple of 2"),
        (HEADERS["EVT2"] + EVT2_EVENT + evt2_words(("cd", 2, 32, 3, 0)), "event 1 lies at x = 32, y = 3, outside"),
        (HEADERS["EVT3"] + evt3_words(("high", 0), ("y", 24), ("x", 1, 0)), "event 0 lies at x = 1, y = 24, outside"),
        (
            HEADERS["EVT3"] + evt3_words(("high", 0), ("y", 2), ("base", 25, 0), ("vector12", 0xFFF)),
            "event 7 lies at x = 32, y = 2",
        ),
        (
            HEADERS["EVT3"] + evt3_words(("high", LATE), ("y", 1), ("x", 1, 0), ("high", 0), ("x", 1, 0)),
            f"runs backwards at event 1: from {LATE * 4096} us to 0 us",
        ),
        (
            HEADERS["EVT2"] + EVT2_EVENT + evt2_words(("high", 700_000_000 >> 6), ("cd", 2, 2, 3, 0)),
            "jumps ahead at event 1",
        ),
    ],
)
def test_damaged_files_are_refused_and_the_place_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path, content))
    assert "a.raw" in str(caught.value)


def test_no_events_and_a_second_pass(tmp_path):
    assert read(write(tmp_path, HEADERS["EVT3"])) == []
    with RawRecording(write(tmp_path, HEADERS["EVT2"] + EVT2_EVENT)) as recording:
        assert [sum(map(len, recording.chunks())) for _ in range(2)] == [1, 1]
        assert recording.fraction_read == 1


@pytest.fixture(scope="module")
def sample():
    path = SAMPLES / "evt3_sample.raw"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    return path


def test_real_recording(sample):
    with open_recording(sample) as recording:
        assert (recording.height, recording.width) == (720, 1280)
        chunks = list(recording.chunks(50_000))
    assert sum(map(len, chunks)) == 219_596
    assert chunks[-1].t[-1] - chunks[0].t[0] == 8_801


def test_real_recording_as_faery_reads_it(sample):
    faery = pytest.importorskip("faery")
    theirs = np.concatenate(list(faery.events_stream_from_file(sample)))
    with open_recording(sample) as recording:
        chunks = list(recording.chunks())
    for name, their_name in zip("xyp", ("x", "y", "on"), strict=True):
        np.testing.assert_array_equal(np.concatenate([getattr(chunk, name) for chunk in chunks]), theirs[their_name])
    # Where the camera puts a time word too early and corrects it before the next event, faery keeps the early time.
    difference = theirs["t"].astype(np.int64) - np.concatenate([chunk.t for chunk in chunks])
    assert difference.min() == 0
    assert difference.max() <= 11
    assert np.mean(difference == 0) > 0.99
