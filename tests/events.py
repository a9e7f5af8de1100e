"""Reading event files as TensorBoard does: without its package, and with its rule for runs that are resumed."""

import struct
from pathlib import Path
from typing import Any


def read_events(*paths: Path) -> list[Any]:
    """The events of files in order, without those that a later start declares void."""
    from tensorboardX.proto import event_pb2

    events: list[Any] = []
    for data in (data for path in paths for data in records(path.read_bytes())):
        event = event_pb2.Event.FromString(data)
        if event.session_log.status == event_pb2.SessionLog.START:
            events = [earlier for earlier in events if earlier.step < event.step]
        events.append(event)
    return events


def records(content: bytes) -> list[bytes]:
    """The data of the records in a file."""
    found, at = [], 0
    while at < len(content):
        [size] = struct.unpack_from("<Q", content, at)
        found.append(content[at + 12:at + 12 + size])
        at += size + 16
    assert at == len(content)
    return found


def curve(events: list[Any], tag: str) -> dict[int, float]:
    """The points of a curve; no step has two."""
    points = [(event.step, value.simple_value) for event in events for value in event.summary.value if value.tag == tag]
    assert len(dict(points)) == len(points)
    return dict(points)


def texts(events: list[Any], tag: str) -> list[tuple[int, str]]:
    """The texts under a tag, with their steps."""
    return [(event.step, value.tensor.string_val[0].decode()) for event in events for value in event.summary.value
            if value.tag == f"{tag}/text_summary"]
