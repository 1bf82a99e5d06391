"""The HTTP side of the receiver: OTLP/HTTP with protobuf, JSON and gzip, on a loopback address.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. A request is acknowledged when it is on disk.
"""

from __future__ import annotations

import json
import socket
import zlib

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lllm.events.errors import ConfigError, LogError, MissingExtra
from lllm.importing.otlp.receiver import Accepted, FloodedError, OtlpReceiver
from lllm.importing.otlp.signals import SignalError

DEFAULT_PORT = 4318
_LARGEST = 64 << 20  # bytes of a request, compressed or not
_FORMS = {"application/x-protobuf": "protobuf", "application/json": "json"}
_SIGNALS = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}


class _RefusedError(Exception):
    """A request is answered with an error."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def listen(host: str, port: int) -> socket.socket:
    """Open the socket that the receiver listens on.

    Args:
        host: An address that only this machine can reach: "127.0.0.1", "::1" or "localhost".
        port: The port; 0 for any free one.

    Returns:
        The socket.

    Raises:
        ConfigError: Other machines could reach the address, or the port is in use.
    """
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"lllm otel receive listens on this machine only; {host!r} is none of 127.0.0.1, ::1 "
            "and localhost. For other machines, let a collector there send here through an SSH "
            "tunnel."
        )
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"Port {port} of {host} can't be listened on ({error.strerror}). If a collector "
            "listens there, let it send to another port, and name that with --port."
        ) from error
    return sock


def make_app(receiver: OtlpReceiver, host: str, port: int) -> Starlette:
    """Make the application that takes requests.

    Args:
        receiver: What takes them.
        host: The address that the server listens on.
        port: The port that the server listens on.

    Returns:
        The application.
    """
    hosts = {f"{name}:{port}" for name in (host, "localhost", "127.0.0.1", "[::1]")}

    async def take(request: Request) -> Response:
        form = ""
        try:
            form = _form(request, hosts)
            signal = _SIGNALS[request.url.path]
            if signal == "metrics":
                return _answer(signal, form, Accepted(0, "lllm keeps no metrics"))
            accepted = await _accept(receiver, f"{signal} {form}", request)
        except _RefusedError as error:
            return _refusal(form, error.status, str(error))
        except FloodedError as error:
            return _refusal(form, 429, f"Too much at once: {error}. Send it again later.")
        except ClientDisconnect:
            return Response(status_code=400)
        return _answer(signal, form, accepted)

    return Starlette(routes=[Route(path, take, methods=["POST"]) for path in _SIGNALS])


def _form(request: Request, hosts: set[str]) -> str:
    """Check where a request comes from, and find the form of its body."""
    if request.headers.get("host", "").lower() not in hosts:
        raise _RefusedError(421, f"this receiver answers only requests to {sorted(hosts)}")
    if "origin" in request.headers:
        raise _RefusedError(403, "the request comes from a web page, so it is refused")
    named = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if named not in _FORMS:
        raise _RefusedError(415, f"the content type is {named!r}, none of {', '.join(_FORMS)}")
    return _FORMS[named]


async def _accept(receiver: OtlpReceiver, kind: str, request: Request) -> Accepted:
    """Read a request, and keep it on disk."""
    room = _announced(request)
    receiver.reserve(room)
    try:
        whole = await _body(request)
        if len(whole) > room:
            receiver.reserve(len(whole) - room)
            room = len(whole)
    except BaseException:
        receiver.free(room)
        raise
    try:
        return await run_in_threadpool(receiver.accept, kind, whole, room)
    except SignalError as error:
        raise _RefusedError(400, f"Nothing was imported: {error}.") from error
    except MissingExtra as error:
        raise _RefusedError(415, str(error)) from error
    except LogError as error:
        raise _RefusedError(503, str(error)) from error


def _announced(request: Request) -> int:
    """Read how many bytes a request will have; a guess for one that does not say it."""
    given = request.headers.get("content-length", "")
    announced = int(given) if given.isdecimal() else _LARGEST // 16
    if announced > _LARGEST:
        raise _RefusedError(413, f"the request has {announced:,} bytes, more than {_LARGEST:,}")
    return announced


async def _body(request: Request) -> bytes:
    """Read the body of a request, uncompressed."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise _RefusedError(415, f"the content encoding is {encoding!r}, not gzip")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST:
            raise _RefusedError(413, f"the request has more than {_LARGEST:,} bytes")
    whole = bytes(body)
    return await run_in_threadpool(_unzipped, whole) if encoding == "gzip" else whole


def _unzipped(body: bytes) -> bytes:
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        whole = reader.decompress(body, _LARGEST + 1)
    except zlib.error:
        raise _RefusedError(400, "the body is not gzip") from None
    if len(whole) > _LARGEST:
        raise _RefusedError(413, f"the request has more than {_LARGEST:,} bytes unpacked")
    if not reader.eof:
        raise _RefusedError(400, "the body is cut off")
    return whole


def _answer(signal: str, form: str, accepted: Accepted) -> Response:
    """Acknowledge a request, and say what of it can't be imported."""
    if form == "json":
        partial: dict[str, object] = {}
        if accepted.why:
            name = {"traces": "rejectedSpans", "logs": "rejectedLogRecords"}.get(signal)
            partial = {"errorMessage": accepted.why}
            if name and accepted.rejected:
                partial[name] = str(accepted.rejected)
        text = json.dumps({"partialSuccess": partial} if partial else {})
        return Response(text, media_type="application/json")
    inner = b""
    if accepted.rejected:
        inner += b"\x08" + _varint(accepted.rejected)
    if accepted.why:
        inner += b"\x12" + _sized(accepted.why.encode(errors="replace"))
    body = b"\x0a" + _sized(inner) if inner else b""
    return Response(body, media_type="application/x-protobuf")


def _refusal(form: str, status: int, why: str) -> Response:
    """Refuse a request, with a google.rpc.Status that says why."""
    headers = {"retry-after": "1"} if status in (429, 503) else None
    if form == "protobuf":
        body = b"\x12" + _sized(why.encode(errors="replace"))
        return Response(body, status, headers, media_type="application/x-protobuf")
    return Response(json.dumps({"message": why}), status, headers, media_type="application/json")


def _sized(body: bytes) -> bytes:
    return _varint(len(body)) + body


def _varint(number: int) -> bytes:
    """Write a number as protobuf does: seven bits in each byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
