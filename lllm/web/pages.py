"""Renders the templates with the data that all pages share."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from lllm import times
from lllm.cli.render import formats
from lllm.cli.render.price_breakdown import price_breakdown
from lllm.events.errors import LllmError
from lllm.projections.session.invoke_cost import dollars
from lllm.projections.session.step_names import step_name
from lllm.store.call_records import CallRecord
from lllm.store.log_store import LogStore, session_host
from lllm.store.summaries import SessionSummary
from lllm.terminal_safe import visible
from lllm.time_zones import zone_name
from lllm.version import __version__
from lllm.web import html_text
from lllm.web.fork_edits import changed_parts
from lllm.web.form_token import FormToken, note_key
from lllm.web.images import image_of
from lllm.web.opened_session import OpenedSession
from lllm.web.session_titles import session_title

if TYPE_CHECKING:
    from jinja2 import Environment

    from lllm.pricing.repricing import OtherPrices

_TEMPLATES = Path(__file__).with_name("templates")
FRAGMENT = "x-lllm-part"  # the header with which the script asks for a part of a page
WASTED = "wasted: paid for answers that were not used, or did not arrive completely"
_SENT_HERE = Markup("<!-- the rest follows -->")
WORDS = (
    (
        "wasted",
        "What was paid for answers that were not used, or did not arrive completely: they "
        "did not fit their format, were cut off, or the attempt was made again.",
    ),
    ("unpriced", "A call whose price is not known. It adds nothing to the sums, which say so."),
    ("cached", "The share of all input tokens that the provider read from its cache."),
    ("step", "One turn of a model within a call of its agent."),
    (
        "attempt",
        "One try to call a model for a step. If it fails and is made again, the attempts are "
        "numbered. #5 is the fifth attempt of its session.",
    ),
    ("repeated", "An attempt after which the model was called again for the same step."),
    ("interrupted", "The process of the session ended before the session did."),
    (
        "prompt v2",
        "The second version of what an agent is given: prompt, tools, model, parameters.",
    ),
)
SIGNS = {"success": "✓", "failure": "✗", "running": "●", "interrupted": "◌"}


class Later(NamedTuple):
    """The part of a page that takes longer than the others.

    Attributes:
        template: The name of its file in `templates`.
        values: A function that collects the values that the template uses.
    """

    template: str
    values: Callable[[], Mapping[str, object]]


class StorePages:
    """Renders the pages of one store.

    Args:
        store: The store to show.
        name: The name of the store on the pages.
        zone: The time zone in which times are shown.
        read_only: True for pages without forms that write to the store.
        prices: Prices that the page of costs offers beside the recorded and the current ones.

    Attributes:
        prices: The prices that the page of costs offers, by the word in its address.
        opened: Loads sessions, and keeps the last one.
        form_token: Makes the tokens of the forms that write.
        verifying: Held while every event is checked.
    """

    def __init__(
        self,
        store: LogStore,
        name: str,
        zone: dt.tzinfo,
        *,
        read_only: bool = False,
        prices: OtherPrices | None = None,
    ) -> None:
        self.store = store
        self.prices: dict[str, OtherPrices] = {"recorded": "recorded", "current": "current"}
        if prices is not None:
            self.prices["given"] = prices
        self.read_only = read_only or store.read_only
        self.form_token = FormToken()
        self.verifying = threading.Lock()
        self.opened = OpenedSession(session_host(store).reader)
        self.zone = zone
        self._name = name
        self._environment = make_environment(zone)

    def position(self) -> int:
        """The position of the log that lists and sums include; a live page follows from there."""
        return session_host(self.store).rows.caught_up_to()

    def render(self, request: Request, template: str, /, **values: object) -> Response:
        """Answer with a page.

        Args:
            request: The HTTP request.
            template: The name of the file in `templates`.
            **values: The values that the template uses.
        """
        return HTMLResponse(self._text(request, template, values))

    def stream(
        self, request: Request, template: str, later: Later, /, **values: object
    ) -> Response:
        """Answer with a page whose first part is sent before the rest is made.

        The status is sent with the first part. So an error in the rest is shown on the page.

        Args:
            request: The HTTP request.
            template: The name of the file in `templates`. It ends the first part with `sent_here`,
                and has the rest where it calls `rest`.
            later: The rest.
            **values: The values that the template uses.
        """

        def rest() -> Markup:
            try:
                return Markup(self._text(request, later.template, later.values()))
            except (LllmError, ValueError, TypeError) as error:  # as those of other pages
                return Markup('<p class="error" role="alert">{}</p>').format(str(error))

        pieces = self._environment.get_template(template).generate(
            self._shared(request) | values, sent_here=_SENT_HERE, rest=rest
        )
        return StreamingResponse(_parts(pieces), media_type="text/html")

    def _text(self, request: Request, template: str, values: Mapping[str, object]) -> str:
        found = self._environment.get_template(template)
        return found.render(self._shared(request), **values)

    def _shared(self, request: Request) -> dict[str, object]:
        return {
            "path": request.url.path,
            "store_name": self._name,
            "version": __version__,
            "zone_name": zone_name(self.zone),
            "read_only": self.read_only,
            "form_token": self.form_token.of,
        }

    def prices_of(self, word: str | None) -> OtherPrices:
        """Find the prices that an address asks for.

        Args:
            word: "recorded", "current" or "given"; None for the recorded ones.

        Raises:
            ValueError: There are no such prices.
        """
        found = self.prices.get(word or "recorded")
        if found is None:
            raise ValueError(f"prices is one of {', '.join(self.prices)}; not {word!r}")
        return found

    def error_page(self, request: Request, status: int, text: str) -> Response:
        """Answer with a page that says what was wrong.

        Args:
            request: The HTTP request.
            status: The HTTP status.
            text: A sentence that says what was wrong.
        """
        answer = self.render(request, "error.html", status=status, text=text)
        answer.status_code = status
        return answer


def _parts(pieces: Iterable[str]) -> Iterator[str]:
    """Join the pieces of a page into what is sent together."""
    part: list[str] = []
    for piece in pieces:
        part.append(piece)
        if piece == _SENT_HERE:
            yield "".join(part)
            part.clear()
    yield "".join(part)


def _title_of(one: SessionSummary) -> str:
    gone = one.erased is not None or one.archived is not None
    return session_title(one.task, one.tactic_name, gone=gone)


def _step_name_of(call: CallRecord) -> str:
    return step_name(call.request, call.step, call.attempt, call.state, call.agent)


def make_environment(zone: dt.tzinfo) -> Environment:
    """Make the environment of the templates, which escapes every text.

    Args:
        zone: The time zone in which times are shown.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )

    def short_time(moment: dt.datetime) -> str:
        return html_text.day_and_time(moment, zone, times.now())

    def exact_time(moment: dt.datetime) -> str:
        return formats.moment(moment, zone, seconds=True)

    def clock(nanoseconds: int) -> str:
        return formats.clock(nanoseconds, zone)

    def day(nanoseconds: int) -> str:
        return f"{times.datetime_of(nanoseconds).astimezone(zone):%Y-%m-%d}"

    made.filters |= {
        "money": formats.money,
        "nano_dollars": formats.nano_dollars,
        "duration": formats.duration,
        "nanoseconds": formats.nanoseconds,
        "short_time": short_time,
        "exact_time": exact_time,
        "clock": clock,
        "day": day,
        "weekday": html_text.weekday,
        "markdown": html_text.markdown,
        "plain": html_text.plain,
        "readable": html_text.readable,
        "code_spans": html_text.code_spans,
        "pretty_json": html_text.pretty_json,
        "line": visible,
        "shortened": formats.shortened,
        "cut": formats.cut,
        "count": "{:,}".format,
        "counted": formats.counted,
        "step_name": _step_name_of,
        "session_title": _title_of,
        "error_line": formats.error_line,
        "task_line": html_text.task_line,
        "image": image_of,
        "edited": changed_parts,
        "note_key": note_key,
        "note_value": formats.annotation_value,
        "price_breakdown": price_breakdown,
        "dollars": dollars,
    }
    made.globals |= {"signs": SIGNS, "wasted_means": WASTED, "words_mean": WORDS}
    return made
