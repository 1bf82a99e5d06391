"""Sends spans to an OTLP/HTTP endpoint: `python otlp_feeder.py URL SPANS.jsonl`.

Each line of the file has the spans of one session, the root first. It runs in the environment of a
peer that has opentelemetry-proto, and imports nothing else that is not Python's.
"""

import hashlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_AT_ONCE = 100  # sessions in one request
_PATIENCE = 600  # seconds to wait for a server that says it is busy


def _filled(sessions: list[str]) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    name = resource.resource.attributes.add(key="openinference.project.name")
    name.value.string_value = "default"
    scope = resource.scope_spans.add()
    for line in sessions:
        trace_id = hashlib.sha256(line.rstrip("\n").encode()).digest()[:16]
        spans: list[dict[str, Any]] = json.loads(line)
        for place, span in enumerate(spans):
            made = scope.spans.add(
                trace_id=trace_id, span_id=_span_id(trace_id, place), name=span["name"],
                start_time_unix_nano=span["begin"], end_time_unix_nano=span["end"],
            )  # fmt: skip
            if span["parent"] is not None:
                made.parent_span_id = _span_id(trace_id, span["parent"])
            made.status.code = 1 if span["error"] is None else 2
            if span["error"] is not None:
                made.status.message = span["error"]
                failed = made.events.add(name="exception", time_unix_nano=span["end"])
                failed.attributes.add(key="exception.message").value.string_value = span["error"]
            for key, value in span["attributes"].items():
                attribute = made.attributes.add(key=key)
                if isinstance(value, int):
                    attribute.value.int_value = value
                else:
                    attribute.value.string_value = value
    return request.SerializeToString()


def _span_id(trace_id: bytes, place: int) -> bytes:
    return hashlib.sha256(trace_id + bytes([place])).digest()[:8]


def _parts(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8") as lines:
        while some := list(islice(lines, _AT_ONCE)):
            yield some


def _send(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf"}
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            asked = urllib.request.Request(url, body, headers)
            urllib.request.urlopen(asked, timeout=_PATIENCE).close()
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503) or time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


if __name__ == "__main__":
    for part in _parts(Path(sys.argv[2])):
        _send(sys.argv[1], _filled(part))
