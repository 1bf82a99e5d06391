"""A receiver of OTLP on this machine, which reads requests with OpenTelemetry's own definitions.

    with OtlpReceiver() as receiver:
        receiver.script(Answer(503, headers={"Retry-After": "0"}), Answer())
        ...
        assert receiver.spans["chat gpt-4o-mini"].attributes["gen_ai.usage.input_tokens"] == 20

Answers are given in order, and the last one again and again.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Answer:
    """One answer of the receiver."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A span as it came in."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    keys: list[str]
    error: str | None
    links: list[tuple[str, str]]
    events: list[tuple[str, dict[str, Any]]]
    flags: int
    dropped: int


@dataclass(frozen=True)
class Log:
    """A log record as it came in."""

    name: str
    trace: str
    span: str
    body: str
    severity: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    size: int
    spans: list[Span]
    logs: list[Log]
    resource: dict[str, Any]


def values(attributes: Any) -> dict[str, Any]:
    """The attributes of a message of protobuf."""
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = (
            [item.string_value for item in value.values] if kind == "array_value" else value
        )
    return found


def read_spans(message: ExportTraceServiceRequest) -> tuple[list[Span], dict[str, Any]]:
    """The spans of a request, and what it says of the program."""
    [resource] = message.resource_spans
    [scope] = resource.scope_spans
    assert scope.scope.name == "lllm"
    spans = [
        Span(
            one.name, one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex(), one.kind,
            one.start_time_unix_nano, one.end_time_unix_nano, values(one.attributes),
            [item.key for item in one.attributes],
            one.status.message if one.status.code == 2 else None,
            [(link.trace_id.hex(), link.span_id.hex()) for link in one.links],
            [(event.name, values(event.attributes)) for event in one.events],
            one.flags, one.dropped_attributes_count,
        )
        for one in scope.spans
    ]  # fmt: skip
    return spans, values(resource.resource.attributes)


def read_logs(message: ExportLogsServiceRequest) -> tuple[list[Log], dict[str, Any]]:
    """The log records of a request, and what it says of the program."""
    [resource] = message.resource_logs
    [scope] = resource.scope_logs
    logs = [
        Log(
            one.event_name, one.trace_id.hex(), one.span_id.hex(), one.body.string_value,
            one.severity_number, values(one.attributes),
        )
        for one in scope.log_records
    ]  # fmt: skip
    return logs, values(resource.resource.attributes)


def hex_as_base64(value: Any) -> Any:
    """OTLP's JSON has ids in hex, and that of protobuf in base64."""
    if isinstance(value, dict):
        return {
            key: __import__("base64").b64encode(bytes.fromhex(one)).decode()
            if key in ("traceId", "spanId", "parentSpanId")
            else hex_as_base64(one)
            for key, one in value.items()
        }
    return [hex_as_base64(one) for one in value] if isinstance(value, list) else value


def parse_json(line: bytes) -> ExportTraceServiceRequest | ExportLogsServiceRequest:
    """Read OTLP in JSON with the definitions of protobuf."""
    content = hex_as_base64(json.loads(line))
    message = (
        ExportTraceServiceRequest() if "resourceSpans" in content else ExportLogsServiceRequest()
    )
    json_format.ParseDict(content, message)
    return message


class OtlpReceiver:
    """The receiver; a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self._answers: list[Answer] = [Answer()]
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver.take(self.path, dict(self.headers.items()), body)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def script(self, *answers: Answer) -> None:
        """Give these answers, the last one again and again."""
        self._answers = list(answers)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Handle a request; one that is refused as a whole leaves no spans."""
        headers = {name.lower(): value for name, value in headers.items()}
        with self._lock:
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            spans, logs, resource = [], [], {}
            if answer.status == 200:
                if headers["content-type"] == "application/json":
                    message = parse_json(body)
                elif path.endswith("/v1/traces"):
                    message = ExportTraceServiceRequest.FromString(body)
                else:
                    message = ExportLogsServiceRequest.FromString(body)
                if isinstance(message, ExportTraceServiceRequest):
                    spans, resource = read_spans(message)
                else:
                    logs, resource = read_logs(message)
            self.requests.append(Request(path, headers, len(body), spans, logs, resource))
            return answer

    @property
    def all_spans(self) -> list[Span]:
        """All spans in the order in which they came, repeated ones too."""
        with self._lock:
            return [span for request in self.requests for span in request.spans]

    @property
    def spans(self) -> dict[str, Span]:
        """The last span of each name."""
        return {span.name: span for span in self.all_spans}

    @property
    def logs(self) -> list[Log]:
        """All log records in the order in which they came."""
        with self._lock:
            return [log for request in self.requests for log in request.logs]

    def close(self) -> None:
        """Stop; who connects then is refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> OtlpReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
