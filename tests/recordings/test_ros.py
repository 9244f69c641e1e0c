import numpy as np
import pytest

from leod.config.schema import RecordingTimesConfig, SensorSize
from leod.errors import DataError
from leod.recordings import ros
from leod.recordings.recording import open_recording

rosbags = pytest.importorskip("rosbags")
from rosbags.rosbag1 import Writer as Writer1  # noqa: E402
from rosbags.rosbag2 import StoragePlugin  # noqa: E402
from rosbags.rosbag2 import Writer as Writer2  # noqa: E402
from rosbags.typesys import Stores, get_types_from_msg, get_typestore  # noqa: E402

START_S = 1_600_000_000
EVENTS = [(START_S * 10**6 + 7 * i, i % 346, i % 260, i % 2) for i in range(1_000)]
DEFINITIONS = {
    "Event": "uint16 x\nuint16 y\ntime ts\nbool polarity\n",
    "EventArray": "std_msgs/Header header\nuint32 height\nuint32 width\nPACKAGE/Event[] events\n",
    "EventPacket": "std_msgs/Header header\nuint8[] events\n",
}


class Bag:
    """A bag that rosbags writes, of events in messages of 0, 1, 2, … events."""

    def __init__(self, path, frame_id="camera", package="dvs_msgs", size=(260, 346)):
        self.is_ros1 = path.suffix == ".bag"
        self.store = get_typestore(Stores.ROS1_NOETIC if self.is_ros1 else Stores.ROS2_HUMBLE)
        for name, text in DEFINITIONS.items():
            text = text.replace("PACKAGE", package)
            if not self.is_ros1:
                text = text.replace("time ts", "builtin_interfaces/Time ts")
            self.store.register(get_types_from_msg(text, f"{package}/msg/{name}"))
        self.package, self.size, self.frame_id = package, size, frame_id
        self.messages = 0
        if self.is_ros1:
            self.writer = Writer1(path)
        else:
            plugin = StoragePlugin.MCAP if path.suffix == ".mcap" else StoragePlugin.SQLITE3
            self.writer = Writer2(path.with_suffix(""), version=8, storage_plugin=plugin)

    def __enter__(self):
        self.writer.open()
        return self

    def __exit__(self, *_):
        self.writer.close()

    def kind(self, name):
        return self.store.types[name]

    def write(self, topic, events=(), name="EventArray", fields=None):
        kind = f"{self.package}/msg/{name}"
        connection = next((c for c in self.writer.connections if c.topic == topic), None)
        connection = connection or self.writer.add_connection(topic, kind, typestore=self.store)
        time, event = self.kind("builtin_interfaces/msg/Time"), self.kind(f"{self.package}/msg/Event")
        header = {"seq": 0} if self.is_ros1 else {}
        header = self.kind("std_msgs/msg/Header")(**header, stamp=time(1, 2), frame_id=self.frame_id)
        rows = [event(x, y, time(t // 10**6, t % 10**6 * 1_000), bool(p)) for t, x, y, p in events]
        height, width = self.size
        fields = fields or {"height": height, "width": width, "events": rows}
        message = self.kind(kind)(header, **fields)
        serialize = self.store.serialize_ros1 if self.is_ros1 else self.store.serialize_cdr
        self.messages += 1
        self.writer.write(connection, self.messages, serialize(message, kind))


def write(path, events=EVENTS, **options):
    with Bag(path, **options) as bag:
        start, count = 0, 0
        while start < len(events):
            bag.write("/dvs/events", events[start : start + count])
            start, count = start + count, count + 1
    return storage(path)


def storage(path):
    """The bag's file: rosbags puts those of ROS 2 into a folder."""
    return path if path.is_file() else next(path.with_suffix("").glob(f"*{path.suffix}"))


def read(path, max_events=1_000_000, sensor=None, **times):
    with open_recording(path, sensor, RecordingTimesConfig(**times)) as recording:
        assert (recording.height, recording.width) == (260, 346)
        chunks = list(recording.chunks(max_events))
        assert recording.fraction_read == 1
    assert all(0 < len(chunk) <= max_events for chunk in chunks)
    return [event for chunk in chunks for event in zip(*(getattr(chunk, n).tolist() for n in "txyp"), strict=True)]


every_container = pytest.mark.parametrize("suffix", [".bag", ".mcap", ".db3"])


@every_container
@pytest.mark.parametrize(("package", "frame_id"), [("dvs_msgs", "camera"), ("prophesee_event_msgs", "")])
def test_reads_what_rosbags_wrote(tmp_path, suffix, package, frame_id):
    path = write(tmp_path / f"a{suffix}", package=package, frame_id=frame_id)
    assert read(path) == EVENTS
    assert read(path, 3) == EVENTS
    shift = -START_S * 10**6
    assert read(path, offset_us=shift, start_us=7, end_us=20) == [(7, 1, 1, 1), (14, 2, 2, 0)]
    with pytest.raises(DataError, match="260 pixels high and 346 wide"):
        open_recording(path, SensorSize(height=10, width=20))


def test_big_endian_messages(tmp_path):
    with Bag(tmp_path / "a.mcap") as bag:
        kind = "dvs_msgs/msg/EventArray"
        time, event = bag.kind("builtin_interfaces/msg/Time"), bag.kind("dvs_msgs/msg/Event")
        header = bag.kind("std_msgs/msg/Header")(stamp=time(1, 2), frame_id="abc")
        rows = [event(300 + i, 200 + i, time(5, 1_000 * i + 600), True) for i in range(3)]
        for little in (True, False):
            message = bag.store.serialize_cdr(bag.kind(kind)(header, 260, 346, rows), kind, little_endian=little)
            size, (t, x, y, p) = ros._decode_cdr(bytes(message))
            assert size == (260, 346)
            assert t.tolist() == [5_000_001, 5_000_002, 5_000_003]
            assert (x.tolist(), y.tolist(), p.tolist()) == ([300, 301, 302], [200, 201, 202], [1, 1, 1])


@every_container
def test_the_topic_must_be_the_only_one(tmp_path, suffix):
    with Bag(tmp_path / f"two{suffix}") as bag:
        bag.write("/left/events", EVENTS[:3])
        bag.write("/right/events", EVENTS[:3])
    with pytest.raises(DataError, match=r"several topics with events: /left/events, /right/events\. .*rosbags-convert"):
        open_recording(storage(tmp_path / f"two{suffix}"))
    with Bag(tmp_path / f"none{suffix}") as bag:
        bag.write("/events", name="EventPacket", fields={"events": np.zeros(3, np.uint8)})
    with pytest.raises(DataError, match=r"no topic with events .*its topics are /events \(dvs_msgs/EventPacket\)"):
        open_recording(storage(tmp_path / f"none{suffix}"))
    with Bag(tmp_path / f"packed{suffix}", package="event_camera_msgs") as bag:
        bag.write("/camera/events", name="EventPacket", fields={"events": np.zeros(3, np.uint8)})
    with pytest.raises(DataError, match=r"events of /camera/events are packed by the camera's driver.*bag_to_raw"):
        open_recording(storage(tmp_path / f"packed{suffix}"))


@every_container
def test_damaged_files_are_refused(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    for share in (0.0, 0.1, 0.6, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=r"damaged, cut off"):
            read(path)


@every_container
def test_messages_of_another_definition_are_refused(tmp_path, suffix, monkeypatch):
    monkeypatch.setitem(DEFINITIONS, "Event", "uint16 x\nuint16 y\ntime ts\nbool polarity\nfloat64 weight\n")
    with Bag(tmp_path / f"a{suffix}") as bag:
        event, time = bag.kind("dvs_msgs/msg/Event"), bag.kind("builtin_interfaces/msg/Time")
        rows = [event(1, 2, time(1, 0), True, 0.5) for _ in range(5)]
        bag.write("/events", fields={"height": 260, "width": 346, "events": rows})
    with pytest.raises(DataError, match=r"message 0 of /events cannot be read.*do not fit 5 events"):
        open_recording(storage(tmp_path / f"a{suffix}"))


def test_size_and_unit(tmp_path):
    path = write(tmp_path / "a.bag", size=(0, 0))
    with pytest.raises(DataError, match="does not tell the size"):
        open_recording(path)
    assert read(path, sensor=SensorSize(height=260, width=346)) == EVENTS
    with pytest.raises(DataError, match="ROS defines itself what times count"):
        read(path, unit="ns")


def test_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.bag")
    monkeypatch.setattr(ros, "rosbags", None)
    with pytest.raises(DataError, match=r"pip install '\.\[ros\]'"):
        open_recording(path)
