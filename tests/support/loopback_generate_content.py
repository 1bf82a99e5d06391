"""What a provider on this machine says in Google's generateContent dialect, whole or as a stream.

    with Loopback() as server:
        server.answers(replies(says("Hello.")), failure(503))
        genai.Client(api_key="...", http_options={"base_url": base_url(server)})

One reply serves both ways of asking: `streamGenerateContent` gets its answer in chunks.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.loopback import JSON, Loopback, Received, Reply, Script

MODEL = "gemini-2.5-flash"
USAGE: JSON = {
    "promptTokenCount": 100,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 8,
    "cachedContentTokenCount": 40,
    "totalTokenCount": 128,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}],
    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 40}],
}


def base_url(server: Loopback) -> str:
    """What the SDK takes: the version is part of its paths."""
    return f"http://127.0.0.1:{server.port}"


def says(text: str) -> JSON:
    """A part with text."""
    return {"text": text}


def wants(name: str, **arguments: object) -> JSON:
    """A part that asks for a function."""
    return {"functionCall": {"name": name, "args": arguments}}


def replies(*parts: JSON, finish: str = "STOP", **fields: Any) -> Script:
    """A good answer, streamed where that is asked for. fields: what of it is to be otherwise."""
    content = {"role": "model", "parts": list(parts)}
    whole = {
        "candidates": [{"content": content, "finishReason": finish, "index": 0}],
        "usageMetadata": USAGE,
        "modelVersion": MODEL,
        "responseId": "resp_1",
    } | fields

    def reply(received: Received) -> Reply:
        streams = ":streamGenerateContent" in received.path
        return streamed(whole) if streams else Reply(body=json.dumps(whole).encode())

    return reply


def streamed(whole: JSON, size: int = 3) -> Reply:
    """An answer in chunks, its texts in pieces of `size` characters."""
    candidate = whole["candidates"][0]
    parts: list[JSON] = []
    for part in candidate["content"]["parts"]:
        said = part.get("text", "")
        cut = [part | {"text": said[at : at + size]} for at in range(0, len(said), size)]
        parts += cut or [part]
    so_far = {"promptTokenCount": 100, "totalTokenCount": 100}
    chunks = [
        whole
        | {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}
        | {"usageMetadata": so_far}
        for part in parts[:-1]
    ]
    last = candidate | {"content": {"role": "model", "parts": parts[-1:]}}
    chunks.append(whole | {"candidates": [last]})
    body = "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks)
    return Reply(body=body.encode(), headers={"Content-Type": "text/event-stream"})


def failure(status: int, code: str = "UNAVAILABLE", message: str = "It went wrong.") -> Reply:
    """An error in the form that Google gives them."""
    told = {"error": {"code": status, "message": message, "status": code}}
    return Reply(status, json.dumps(told).encode())
