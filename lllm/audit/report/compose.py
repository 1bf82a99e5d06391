"""Turns the facts of a report into a document."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator

from lllm.audit.prove import read_checkpoint
from lllm.audit.report.document import (
    Block,
    BulletList,
    Code,
    DataTable,
    Document,
    Paragraph,
    SectionHeading,
)
from lllm.audit.report.report import AuditReport, ProvenSession
from lllm.audit.report.session_facts import (
    Intervention,
    RecordedStep,
    SessionFacts,
    as_json,
    error_text,
)
from lllm.times import datetime_of, shown_time, suffix_of

SHORT = 300  # characters of a text, where not all of it is asked for

_PEOPLE = ("user", "operator", "by")  # tags that say who ran something

_ABOUT = (
    "This report tells what lllm recorded. It assesses nobody, and is no determination that "
    "something conforms to a law or standard. It does not show that what a model or a tool "
    "said is true, that a call outside of lllm did not happen, or that the clocks of the recording "
    "machines were right."
)


def compose(report: AuditReport, zone: dt.tzinfo, *, full: bool = False) -> Document:
    """Turn a report into a document that can be formatted.

    Args:
        report: The facts to put into the document.
        zone: The time zone in which times are shown.
        full: True to show all texts completely; False to cut long ones.

    Returns:
        The document, for `markdown` or `html_page`.
    """
    return list(_Composing(report, zone, full=full).blocks())


class _Composing:
    """Makes the parts of a document, with times in one time zone and texts of limited length."""

    def __init__(self, report: AuditReport, zone: dt.tzinfo, *, full: bool) -> None:
        self._report = report
        self._zone = zone
        self._full = full

    def blocks(self) -> Iterator[Block]:
        report = self._report
        yield SectionHeading("Audit report", 1)
        yield Paragraph(f"Made {self._moment(report.made)} of {report.store}. {report.asked}")
        yield Paragraph(_ABOUT)
        if not self._full:
            yield Paragraph(
                f"Texts are cut after {SHORT} characters, and say how many are left out; --full "
                "shows all of them. `lllm events ID` prints every event of a session."
            )
        yield from self._overview()
        yield from self._attention()
        for session in report.sessions:
            yield from self._session(session)
        yield from self._proof()

    # -- texts

    def _moment(self, moment: dt.datetime) -> str:
        local = moment.astimezone(self._zone)
        return shown_time(moment, self._zone, seconds=True) + suffix_of(local)

    def _time(self, nanoseconds: int | None) -> str:
        if nanoseconds is None:
            return "-"
        try:
            return self._moment(datetime_of(nanoseconds))
        except OverflowError:
            return f"{nanoseconds} ns"

    def _cut(self, value: object) -> str:
        text = as_json(value)
        if self._full or len(text) <= SHORT:
            return text
        return f"{text[:SHORT]}… (+{len(text) - SHORT:,} characters)"

    # -- all sessions

    def _overview(self) -> Iterator[Block]:
        report = self._report
        yield SectionHeading("Sessions", 2)
        if report.more:
            yield Paragraph(
                "Earlier sessions match, too, and are left out of this report; --limit 0 includes "
                "all of them."
            )
        rows = [
            (
                one.session_id,
                self._time(one.start_time),
                _name(one),
                one.state,
                _who(one),
                _money(one.nanos, len(one.unpriced)),
            )
            for one in report.sessions
        ]
        yield DataTable(("session", "began", "what ran", "state", "who", "cost"), rows)
        unpriced = sum(len(one.unpriced) for one in report.sessions)
        yield Paragraph(
            f"{len(report.sessions):,} sessions, those below others included. Cost: "
            f"{_money(sum(one.nanos for one in report.sessions), unpriced)}."
        )

    def _attention(self) -> Iterator[Block]:
        """List what somebody should look at: missing, failed, unpriced or unfinished work."""
        report = self._report
        yield SectionHeading("What needs attention", 2)
        found: list[str] = [
            *report.archived,
            *(f"Session {one} is not what was written: {why}" for one, why in report.damaged),
        ]
        found += [
            f"{gap.lost:,} events could not be written between {self._time(gap.first_time)} and "
            f"{self._time(gap.last_time)}: {self._cut(gap.reason)}"
            for gap in report.gaps
        ]
        found += [
            f"Outside of any session, {self._time(time)}: {self._cut(error)}"
            for time, error in report.errors
        ]
        for one in report.sessions:
            found += [f"{one.session_id}: {what}" for what in _troubles(one)]
        yield BulletList(found) if found else Paragraph("Nothing was found.")

    # -- one session

    def _session(self, session: SessionFacts) -> Iterator[Block]:
        yield SectionHeading(f"Session {session.session_id}", 2)
        yield DataTable(("what", "as recorded"), [row for row in self._facts(session) if row[1]])
        if session.agents:
            yield SectionHeading("Agents, prompts and tools", 3)
            yield DataTable(
                ("agent", "model", "prompt version", "other prompts", "tools and versions"),
                [
                    (one.name, one.model, one.prompt, ", ".join(one.prompts), ", ".join(one.tools))
                    for one in session.agents
                ],
            )
        yield SectionHeading("What was done", 3)
        yield DataTable(
            ("event", "time", "what", "result", "state", "cost"),
            [self._step(one) for one in session.steps],
        )
        yield SectionHeading("What people did with it later", 3)
        if session.interventions:
            yield DataTable(
                ("time", "what", "by", "content"),
                [self._intervention(one) for one in session.interventions],
            )
        else:
            yield Paragraph("Nothing is recorded.")

    def _facts(self, session: SessionFacts) -> Iterator[tuple[str, str]]:
        started, end = session.started, session.end
        yield "what ran", _name(session)
        yield "state", session.state
        yield "began", self._time(session.start_time)
        yield "ended", self._time(session.end_time)
        if started is not None:
            yield "who", _who(session)
            yield "process", f"{started.pid} on {started.host}" if started.host else ""
            producer = started.producer
            yield "software", f"lllm {producer.lllm}, Python {producer.python}" if producer else ""
            yield "below", " > ".join(one.session_id for one in started.ancestors)
            origin = started.origin
            yield "made from", f"{origin.mode} of {origin.session}" if origin else ""
            yield "tags", ", ".join(f"{name}={value}" for name, value in started.tags.items())
            yield "metadata", "" if started.metadata is None else self._cut(started.metadata)
            yield "trace", started.traceparent or ""
            yield "budget", "" if started.budget is None else _money(started.budget, 0)
            yield "task", "" if started.task is None else self._cut(started.task)
        if end is not None and end.delivery is not None:
            yield "delivered", self._cut(end.delivery)
        error = getattr(end, "error", None)
        yield "failed with", "" if error is None else self._cut(error_text(error))
        yield "cost", _money(session.nanos, len(session.unpriced))
        yield "events", f"{session.events:,}"

    def _step(self, step: RecordedStep) -> tuple[str, ...]:
        return (
            str(step.seq),
            self._time(step.time),
            self._cut(step.what),
            self._cut(step.result),
            step.state,
            "" if step.nanos is None else _money(step.nanos, 0),
        )

    def _intervention(self, one: Intervention) -> tuple[str, ...]:
        what = one.type.removeprefix("session.")
        return self._time(one.time), what, one.by or "not said", self._cut(one.what)

    # -- the proof

    def _proof(self) -> Iterator[Block]:
        report = self._report
        yield SectionHeading("How this can be checked", 2)
        if report.is_new:
            yield Paragraph(
                "The checkpoint below was made for this report. It shows nothing about what was "
                "changed before; kept in another place, it shows what is changed from now on."
            )
        else:
            yield Paragraph(
                "The checkpoint below was made earlier. A session that stands in its log is what "
                "it was then, as far as the checkpoint itself can be trusted."
            )
        yield Code(report.checkpoint)
        rows = [(one, *_verdict(proof)) for one, proof in report.proofs.items()]
        yield DataTable(("session", "in this log", "complete", "checkpoint signed"), rows)
        size = read_checkpoint(report.checkpoint, None).size
        yield Paragraph(
            f"To check it: keep the checkpoint ({size:,} events) in a file elsewhere. Whoever "
            "has the store compares all of it with the checkpoint; whoever does not is given a "
            "proof of one session. The form of proofs is in docs/proofs.md of lllm."
        )
        yield Code(
            "lllm verify --checkpoint CHECKPOINT --key KEY.pub\n"
            "lllm prove SESSION --checkpoint CHECKPOINT --out proof.json\n"
            "lllm verify --proof proof.json --key KEY.pub"
        )


def _name(session: SessionFacts) -> str:
    known = session.started or session.erased
    return "(lost, or of a newer lllm)" if known is None else known.tactic_path


def _who(session: SessionFacts) -> str:
    """Return who ran a session, as far as recorded: tags that name people, and the machine."""
    started = session.started
    if started is None:
        return ""
    named = [f"{name}={started.tags[name]}" for name in _PEOPLE if name in started.tags]
    return ", ".join([*named, f"host {started.host}"] if started.host else named)


def _money(nanos: int, unpriced: int) -> str:
    """Format nano-dollars exactly; unpriced attempts are mentioned, never counted as zero."""
    sign, (dollars, rest) = "-" if nanos < 0 else "", divmod(abs(nanos), 1_000_000_000)
    digits = f"{rest:09}".rstrip("0").ljust(2, "0")
    text = f"{sign}${dollars:,}.{digits}"
    return f"{text} + {unpriced:,} unpriced" if unpriced else text


def _troubles(session: SessionFacts) -> Iterator[str]:
    if session.erased is not None:
        yield f"it was erased by {session.erased.by}: {session.erased.reason}"
    states: Iterable[str] = ("failure", "cancelled", "interrupted", "running")
    if session.state in states:
        yield {
            "failure": "it failed", "cancelled": "it was cancelled",
            "interrupted": "its process died before it ended", "running": "it has not ended",
        }[session.state]  # fmt: skip
    if session.missing:
        yield f"{session.missing:,} of its events are missing"
    if session.unread:
        yield f"{session.unread:,} of its events are of a newer lllm"
    yield from (f"unpriced: {why}" for why in session.unpriced)
    told: dict[str, Callable[[RecordedStep], str]] = {
        "failed": lambda step: f"event {step.seq}, {step.what}: failed",
        "refused": lambda step: f"event {step.seq}, {step.what}: the answer was refused",
        "never ended": lambda step: f"event {step.seq}, {step.what}: begun, and never ended",
    }
    yield from (told[step.state](step) for step in session.steps if step.state in told)


def _verdict(proof: ProvenSession) -> tuple[str, str, str]:
    checked = proof.checked
    if checked is None:
        return f"not proven: {proof.why_not}", "-", "-"
    if checked.verdict != "good":
        return f"wrong: {checked.says}", "-", "-"
    whole = all(one.complete for one in checked.streams)
    return "yes", "yes" if whole else "not proven", checked.signature
