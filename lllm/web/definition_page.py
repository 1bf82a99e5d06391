"""The page of one version of an agent: what it is given, and what changed since the last one."""

from __future__ import annotations

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lllm.events.model import AgentDefined
from lllm.store.log_store import session_host
from lllm.web.pages import StorePages


def definition_page(pages: StorePages, request: Request) -> Response:
    """Answer with the definition of an agent, and with its differences from the one before.

    Args:
        pages: Renders the answer, and has the store.
        request: The HTTP request, whose path has the stream of the definition.
    """
    reader = session_host(pages.store).reader
    found = reader.definition(request.path_params["definition"])
    if found is None:
        raise HTTPException(410, "The store does not have this definition; it may be erased.")
    defined, version = found
    before = None if version.before is None else reader.definition(version.before)
    return pages.render(
        request,
        "definition.html",
        defined=defined,
        place=version,
        changes=None if before is None else changes_between(before[0], defined),
    )


def changes_between(before: AgentDefined, now: AgentDefined) -> list[tuple[str, str]]:
    """List what differs between two versions of an agent.

    Args:
        before: The older version.
        now: The newer one.

    Returns:
        The name of each part that differs, and its unified diff.
    """
    from lllm.replay.comparison import diff_of, json_lines

    olds, news = _parts(before), _parts(now)
    return [
        (name, diff_of(json_lines(olds[name]), json_lines(new), ("before", "now")))
        for name, new in news.items()
        if olds[name] != new
    ]


def _parts(defined: AgentDefined) -> dict[str, object]:
    return {
        "prompt": defined.system,
        "model": defined.model,
        "provider": defined.provider,
        "parameters": defined.params,
        "tools": msgspec.to_builtins(defined.tools),
        "format of answers": defined.output_schema,
        "other prompts": list(defined.prompts),
    }
