"""All that could be recorded of an error, for tests that a secret is not among it."""

from __future__ import annotations

import traceback


def everything_about(error: BaseException) -> str:
    """All that anyone could record of an error, its causes and their attributes included."""
    told = "".join(traceback.format_exception(error, chain=True))
    stack = traceback.TracebackException.from_exception(error, capture_locals=True)
    link: BaseException | None = error
    while link is not None:
        told += repr(link) + repr(link.args) + repr(vars(link))
        link = link.__cause__ or link.__context__
    others = ("/openai/", "/anthropic/", "test_")
    ours = [one for one in stack.stack if not any(name in one.filename for name in others)]
    return told + "".join(repr(frame.locals) for frame in ours)
