"""Writes one session as a self-contained HTML file, for example to attach it to a bug report."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from pathlib import Path

from markupsafe import Markup

from lllm.store.load_as_of import PointInTime
from lllm.store.log_store import LogStore, session_host
from lllm.time_zones import zone_name
from lllm.version import __version__
from lllm.web.fork_edits import fork_edits
from lllm.web.pages import make_environment
from lllm.web.session_page import values_of
from lllm.web.transcript import transcript_of

_STYLE = Path(__file__).with_name("static") / "page.css"
_UNCUT = 1 << 62  # characters


def session_as_html(
    store: LogStore, session_id: str, zone: dt.tzinfo, *, at: PointInTime | None = None
) -> str:
    """Write a session as one HTML page, with all its texts and without any script.

    The page loads nothing: it contains its style, and its policy allows nothing else.

    Args:
        store: The store with the session.
        session_id: The whole id of the session.
        zone: The time zone in which times are shown.
        at: The point in time as of which to show the session; see `LogStore.load_session`.

    Returns:
        The HTML of the page.

    Raises:
        SessionNotFound: There is no such session.
        StoreError: The session had not begun at `at`.
        LogDamaged: An event in the log is corrupt.
    """
    transcript = transcript_of(session_host(store).reader.load_with_events(session_id, at=at))
    style = _STYLE.read_text("utf-8")
    values = values_of(transcript, transcript.blocks)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        make_environment(zone)
        .get_template("single_file.html")
        .render(
            **values
            | {
                "single": True,
                "versions": session_host(store).reader.definition_versions(transcript.definitions),
                "edits": fork_edits(store, transcript),
                "cut": _UNCUT,
                "in_page": {step.key for step in transcript.steps},
                "style": Markup(style),
                "style_digest": digest,
                "version": __version__,
                "zone_name": zone_name(zone),
            }
        )
    )
