"""Reads the model and other facts from a request's URL, for platforms that put them there.

Google's own API has the model in the URL's path, and another path for streams:
https://ai.google.dev/api/generate-content. So have Bedrock and Vertex where they serve Anthropic's
Messages API; the body has neither:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.publishers.models/streamRawPredict
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

_BEDROCK = re.compile(r"/model/(?P<model>.+)/invoke(?P<stream>-with-response-stream)?$")
_VERTEX = re.compile(r"/models/(?P<model>[^/]+):(rawPredict|(?P<stream>streamRawPredict))$")
_GOOGLE = re.compile(
    r"/(?:models|tunedModels|endpoints)/(?P<model>[^/]+)"
    r":(generateContent|(?P<stream>streamGenerateContent))$"
)
_REGION = re.compile(r"/locations/([^/]+)/")


def with_address(body: Mapping[str, object], path: str) -> Mapping[str, object]:
    """Add the model, and the option to stream, from a request's URL to its body.

    Args:
        body: The decoded body; its own fields win.
        path: The path of the URL, percent-encoded.

    Returns:
        A copy of the body with both; the same body if the path names neither.
    """
    if "model" in body:
        return body
    found = _BEDROCK.search(path) or _VERTEX.search(path) or _GOOGLE.search(path)
    if found is None:
        return body
    said = {"model": unquote(found["model"]), "stream": found["stream"] is not None}
    return said | dict(body)


def region_of(path: str) -> str | None:
    """Read the region from the path of a Vertex URL.

    Args:
        path: The path of the URL, percent-encoded.

    Returns:
        The region; None if the path names none.
    """
    found = _REGION.search(path) if _VERTEX.search(path) or _GOOGLE.search(path) else None
    return None if found is None else unquote(found[1])
