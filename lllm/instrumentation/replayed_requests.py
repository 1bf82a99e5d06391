"""Reads a captured client's whole request, to compare it with the recorded one in a replay."""

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
    """Read a body with all its messages, including those that the session read before.

    Args:
        content: The body, as JSON.
        operation: The kind of API call.
        path: The path of the URL, percent-encoded.
        name: The name of the call, such as "openai.chat".

    Returns:
        The request, in the form that replays compare.

    Raises:
        msgspec.DecodeError: The body is not a JSON object.
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
