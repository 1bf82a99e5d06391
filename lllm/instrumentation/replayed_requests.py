"""Reads a request of a captured client whole, as a replay compares it."""

from __future__ import annotations

from collections.abc import Mapping

from lllm.events.concurrency.decoders import decoder
from lllm.instrumentation.platform_urls import with_address
from lllm.instrumentation.recorded_endpoints import Operation
from lllm.replay.client_requests import ClientRequest

# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
_BEDROCK = ("/invoke", "/invoke-with-response-stream")

_decoder = decoder(dict[str, object])


def read_whole(content: bytes, operation: Operation, path: str, name: str) -> ClientRequest:
    """Read a body with all of its messages, those that the session has read before among them.

    Args:
        content: The body, as JSON.
        operation: What is asked for.
        path: Of the address, quoted.
        name: What is called, as "openai.chat".

    Returns:
        What it asks.

    Raises:
        msgspec.DecodeError: It is no JSON, or not that of an object.
    """
    body: Mapping[str, object] = with_address(_decoder.decode(content), path)
    asked = operation.reads(body)
    return ClientRequest(
        client=name,
        operation=operation.name,
        api=operation.dialect.name,
        model=asked.model,
        contents=asked.contents,
        tools=asked.tools,
        params={**asked.lasting, **asked.params},
        stream=asked.stream,
        body=body,
        bedrock=path.endswith(_BEDROCK),
    )
