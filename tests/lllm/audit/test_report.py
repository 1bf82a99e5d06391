"""`lllm audit` tells what was done, what came of it, and how it can be checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from lllm import LogStore, SQLiteBackend, tool
from lllm.audit.keys import PrivateKey, write_key_files
from lllm.audit.report import AuditReport, audit_report
from lllm.audit.report.compose import compose
from lllm.audit.report.document import Document
from lllm.audit.report.html_page import html_page
from lllm.audit.report.markdown import markdown
from lllm.audit.report.session_facts import SessionFacts
from lllm.cli import main
from lllm.cli.render.document import plain_text
from lllm.events import model
from lllm.events.backends.memory import MemoryBackend
from lllm.events.ids import new_salt
from lllm.events.model import Content
from lllm.events.statements import append_statement
from lllm.invokers.scripted import rate_limited, tool_call, tool_calls
from lllm.time_zones import zone_of
from tests.support.histories import History
from tests.support.runs import Asking, config

UTC = zone_of("UTC")
FORMS: dict[str, Callable[[Document], str]] = {
    "text": plain_text, "markdown": markdown, "html": html_page,
}  # fmt: skip
EACH_FORM = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@tool(description="Looks something up.")
def lookup(what: str) -> str:
    """A tool that returns."""
    return f"found {what}"


@tool(description="Raises.")
def breaks() -> str:
    """A tool that raises."""
    raise KeyError("no such drawer")


@pytest.fixture
def store() -> LogStore:
    """A store in memory."""
    return LogStore(MemoryBackend())


def work(store: LogStore) -> str:
    """A session with tools that return and fail, a failed attempt, and an answer."""
    script = [
        rate_limited(0),
        tool_calls(tool_call("lookup", {"what": "kettles"}), tool_call("breaks", {})),
        "There are kettles.",
    ]
    tactic = Asking(config(script, tools=[lookup, breaks]), log_store=store)
    session = tactic("Any kettles?", tags={"user": "alice"}, return_session=True)
    return session.session_id


def half_done(store: LogStore) -> str:
    """A session in which a model was asked and a tool called, and nothing came of either."""
    recorder = History(store).start("p::half", "", {}, None).recorder
    asked = model.LLMRequested(
        request=1, step=1, attempt=1, provider="p", api="chat", model="m", digest=""
    )
    called = model.ToolCalled(tool=1, request=1, call_id="c", name="press", arguments={"b": "red"})
    recorder.stage(asked, called)
    recorder.commit()
    return recorder.session_id


def report_of(store: LogStore, *ids: str) -> AuditReport:
    return audit_report(store, ids)


def facts_of(store: LogStore, session_id: str) -> SessionFacts:
    [one] = report_of(store, session_id).sessions
    return one


def test_each_step_with_what_came_of_it(store: LogStore) -> None:
    """Attempts, tools and messages, those that failed as well."""
    with store:
        facts = facts_of(store, work(store))
    steps = [(one.what, one.state, one.result) for one in facts.steps]
    assert ('tool lookup({"what": "kettles"})', "done", "found kettles") in steps
    assert [state for what, state, _ in steps if what.startswith("tool breaks")] == ["failed"]
    assert any(what.startswith("asking again (1 of ") for what, _, _ in steps)
    attempts = [(what, state) for what, state, _ in steps if what.startswith("model ")]
    assert [state for _, state in attempts] == ["failed", "done", "done"]
    assert "try 2" in attempts[1][0]
    assert ("message (user)", "done", "Any kettles?") in steps
    assert (facts.state, facts.missing, facts.unread) == ("success", 0, 0)
    [agent] = facts.agents
    assert [one.partition(" ")[0] for one in agent.tools] == ["lookup", "breaks"]
    assert re.fullmatch("[0-9a-f]{12}", agent.prompt)


def test_versions_are_those_of_the_content(store: LogStore) -> None:
    """Another prompt or description has another version, and the same one the same."""

    def used(prompt: str) -> tuple[str, tuple[str, ...]]:
        agents = config(["Well."], tools=[lookup], system_prompt=prompt)
        tactic = Asking(agents, log_store=store)
        session = tactic("Hi", return_session=True)
        [agent] = facts_of(store, session.session_id).agents
        return agent.prompt, agent.tools

    with store:
        first, again, other = used("Be brief."), used("Be brief."), used("Be long.")
    assert first == again
    assert first[0] != other[0]
    assert first[1] == other[1]


def test_what_was_never_ended(store: LogStore) -> None:
    """It stands in the report as begun, and under what needs attention."""
    with store:
        session_id = half_done(store)
        report = report_of(store, session_id)
    [facts] = report.sessions
    assert [(one.what, one.state) for one in facts.steps] == [
        ("model m of p is asked", "never ended"), ('tool press({"b": "red"})', "never ended"),
    ]  # fmt: skip
    assert facts.state == "running"
    text = plain_text(compose(report, UTC))
    assert f"- {session_id}: it has not ended" in text
    assert text.count("begun, and never ended") == 2


def test_what_people_did_later(store: LogStore) -> None:
    """Tags, and who set them where that was said."""
    with store:
        session_id = work(store)
        tagged = model.SessionTagged(
            about=session_id, set={"ok": "yes"}, removed=("old",), by="eve", salt=new_salt()
        )
        append_statement(store.log, "tagged-1", tagged, salt=tagged.salt)
        store.tag(session_id, {"late": "yes"})
        store.hold(session_id, reason="case 7", by="law")
        store.release(session_id, reason="settled", by="law")
        store.annotate(session_id, name="correct", value=False, comment="no", by="eve")
        facts = facts_of(store, session_id)
    assert [(one.type, one.by) for one in facts.interventions] == [
        ("session.tagged", "eve"), ("session.tagged", ""),
        ("session.held", "law"), ("session.released", "law"), ("session.annotated", "eve"),
    ]  # fmt: skip
    assert [one.what for one in facts.interventions[2:]] == [
        "reason: case 7", "reason: settled", "name: correct; value: false; comment: no",
    ]  # fmt: skip
    assert facts.interventions[0].what == 'set: {"ok": "yes"}; removed: ["old"]'


def test_an_erased_session(store: LogStore) -> None:
    """What is left of it is told, with who erased it and why, and those below it, too."""
    with store:
        with store.session("above", tags={"user": "alice"}) as above:
            below = work(store)
        cost = facts_of(store, work(store)).nanos
        before = audit_report(store, [above.session_id]).sessions
        store.tag(above.session_id, {"late": "yes"})
        store.erase_session(above.session_id, reason="asked for", by="dpo")
        report = audit_report(store, [above.session_id])
        text = plain_text(compose(report, UTC))
    assert [one.session_id for one in report.sessions] == [above.session_id, below]
    assert [one.nanos for one in report.sessions] == [one.nanos for one in before] == [0, cost]
    assert [one.state for one in report.sessions] == ["success", "success"]
    assert "it was erased by dpo: asked for" in text
    assert "alice" not in text
    assert "kettles" not in text
    assert {one.checked.verdict for one in report.proofs.values() if one.checked} == {"good"}
    assert len(report.proofs) == 2


def test_money_and_what_has_no_price(store: LogStore) -> None:
    """Sums are exact; an attempt without a price is said, with the reason, and never zero."""
    with store:
        priced = work(store)
        tactic = Asking(config(["Well."], model_name="nobody-knows-it"), log_store=store)
        unpriced = tactic("Hi", return_session=True).session_id
        report = report_of(store, priced, unpriced)
        first, second = report.sessions
        cost = store.load_session(priced).total_cost.cost
    assert first.nanos == round(cost * 1e9)
    assert len(second.unpriced) == 1
    text = plain_text(compose(report, UTC))
    assert "+ 1 unpriced" in text
    assert f"{unpriced}: unpriced: nobody-knows-it: " in text


def test_gaps_errors_and_damage(tmp_path: Path) -> None:
    """What the log lost, failures outside of sessions, and a session that is not what was written
    stand in the report; the others are told all the same."""
    import sqlite3
    from contextlib import closing

    path = tmp_path / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        sound, bad = work(store), work(store)
        store.save_error(ValueError("outside"))
        time = facts_of(store, sound).start_time
        gap = model.LogGap(
            lost=3, first_time=time, last_time=time + 1, reason="full", salt=new_salt()
        )
        append_statement(store.log, "gap-1", gap, salt=gap.salt)
        last = work(store)
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET time = 5 WHERE stream = ? AND seq = 4", (bad,))
        connection.commit()
    with LogStore(SQLiteBackend(path)) as store:
        report = report_of(store, sound, bad, last)
        assert [one.session_id for one in report.sessions] == [sound, last]
        text = plain_text(compose(report, UTC))
    assert f"Session {bad} is not what was written" in text
    assert "3 events could not be written between" in text
    assert "ValueError: outside" in text


HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:alert(1)) ![i](http://x.y/i)"
    " `code` **bold** _it_ | cell | http://evil.example www.evil.example me@evil.example "
    "<http://auto.example> &lt;b&gt; ~~no~~ \\ # "
    "\x1b[31mred\x07 \u202eturned\n\n# heading\n| a |\n|---|\n> q"
)


class Tags(HTMLParser):
    """Collects the elements and attributes of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_report() -> AuditReport:
    """A session of which every text that somebody else wrote is hostile."""
    with LogStore(MemoryBackend()) as store:
        with store.session("p::s", task=HOSTILE, tags={HOSTILE: HOSTILE, "user": HOSTILE}) as one:
            asked = model.LLMRequested(
                request=1, step=1, attempt=1, provider=HOSTILE, api="chat", model=HOSTILE, digest=""
            )
            answer = model.LLMResponded(
                request=1, message=1, content=Content.of("assistant", HOSTILE), finish=HOSTILE,
                asked=HOSTILE, model="m", price=model.Price("unpriced", reason=HOSTILE), elapsed=1,
            )  # fmt: skip
            refused = model.LLMRefused(request=1, asked=HOSTILE, reason=HOSTILE)
            called = model.ToolCalled(
                tool=1, request=1, call_id="c", name=HOSTILE, arguments={HOSTILE: HOSTILE}
            )
            failed = model.ToolFailed(
                tool=1, message=2, content=Content.of("tool", HOSTILE),
                error=model.Error(HOSTILE, HOSTILE), elapsed=1,
            )  # fmt: skip
            one.stage(asked, answer, refused, called, failed)
            one.deliver(HOSTILE)
        store.tag(one.session_id, {HOSTILE: HOSTILE})
        return audit_report(store, [one.session_id], asked=HOSTILE)


def test_hostile_texts_are_no_html() -> None:
    """In the page they are text, and all of it is there."""
    page = Tags()
    page.feed(html_page(compose(hostile_report(), UTC, full=True)))
    allowed = {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "ul", "li", "pre",
        "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert page.elements <= allowed
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name"}
    assert "<script>alert(1)</script><img src=x onerror=alert(1)>" in page.text
    assert not set("\x1b\x07\u202e") & set(page.text)


def test_hostile_texts_are_no_markdown() -> None:
    """Rendered by a reader that takes HTML they are text; no address is one that others link."""
    text = markdown(compose(hostile_report(), UTC, full=True))
    assert re.search(r"https?://|www\.|[a-z]@[a-z]", text) is None
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    page = Tags()
    page.feed(reader.render(text))
    allowed = {"h1", "h2", "h3", "p", "ul", "li", "pre", "code", "table", "thead", "tbody"}
    assert page.elements <= allowed | {"tr", "th", "td"}
    assert page.attributes == set()
    assert "<script>alert(1)</script><img src=x onerror=alert(1)> [a](javascript:alert(1))" in (
        page.text
    )
    assert "`code` **bold** _it_ | cell | http://evil.example www.evil.example" in page.text
    assert not set("\x1b\x07\u202e") & set(page.text)


def test_hostile_texts_are_no_terminal_codes() -> None:
    """On a terminal they are shown as escapes."""
    text = plain_text(compose(hostile_report(), UTC, full=True))
    assert not set("\x1b\x07\u202e\r") & set(text)


@EACH_FORM
def test_all_forms_say_the_same(form: Callable[[Document], str], store: LogStore) -> None:
    """Who, when, with what, what came of it, what it cost, and the proof."""
    with store:
        session_id = work(store)
        text = form(compose(report_of(store, session_id), UTC))
    words = re.sub(r"[\\&#;\d]+|\s+", " ", text)
    for said in (
        "Audit report", "user", "alice", "lookup", "kettles", "no such drawer", "What needs",
        "nothing about what was changed before", "lllm verify", "is no determination",
    ):  # fmt: skip
        assert said in words
    assert session_id in text


def test_long_texts_are_cut_and_say_so(store: LogStore) -> None:
    """How much is left out stands there; `full` leaves out nothing."""
    with store:
        with store.session("s", task="x" * 1_000) as one:
            pass
        report = report_of(store, one.session_id)
    assert "x" * 300 + "… (+700 characters)" in markdown(compose(report, UTC))
    assert "x" * 1_000 in markdown(compose(report, UTC, full=True))


class TestCommand:
    """The command line."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A store with two sessions."""
        (tmp_path / "here").mkdir()
        with LogStore(SQLiteBackend(tmp_path / "here" / "runs.db")) as store:
            self.first, self.second = work(store), half_done(store)
        return tmp_path / "here" / "runs.db"

    def run(self, path: Path, *arguments: object, code: int = 0) -> None:
        assert main(["audit", "--store", str(path), *map(str, arguments)]) == code

    def test_of_one_session_or_many(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """By its ID, by filters, or all of them; what does not fit together is refused."""
        self.run(path)
        out = capsys.readouterr().out
        assert f"Session {self.first}" in out
        assert f"Session {self.second}" in out
        for options in ((self.first[:20],), ("--tag", "user=alice"), ("--state", "success")):
            self.run(path, *options, "--since", "1d") if len(options) > 1 else self.run(
                path, *options
            )
            out = capsys.readouterr().out
            assert f"Session {self.first}" in out
            assert f"Session {self.second}" not in out
        self.run(path, "--limit", 1)
        out = capsys.readouterr().out
        assert "Earlier sessions match" in out
        assert f"Session {self.first}" not in out
        self.run(path, "--tag", "user=nobody", code=1)
        self.run(path, self.first, "--tag", "user=alice", code=2)
        self.run(path, "--since", "1d", "--after", "1d", code=2)
        self.run(path, "--key", path, code=2)

    def test_files(self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Each form is written to a file, or printed."""
        for form, begin in (("html", "<!doctype html>"), ("markdown", "# Audit"), ("text", "\n")):
            self.run(path, "--format", form, "-o", tmp_path / form)
            assert (tmp_path / form).read_text().startswith(begin)
        capsys.readouterr()
        self.run(path, "--format", "markdown", self.first)
        assert capsys.readouterr().out.startswith("# Audit report\n")

    def test_proven_by_an_earlier_seal(
        self, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Sessions that it has are in its log; later ones are not proven."""
        write_key_files(tmp_path / "key", PrivateKey("example.com/log", b"k" * 32))
        seal = tmp_path / "seal"
        options = ["--store", str(path), "--out", str(seal), "--key", str(tmp_path / "key")]
        assert main(["seal", *options]) == 0
        with LogStore(SQLiteBackend(path)) as store:
            later = work(store)
        capsys.readouterr()
        self.run(path, "--checkpoint", seal, "--key", tmp_path / "key.pub")
        lines = capsys.readouterr().out.splitlines()
        begin = lines.index("How this can be checked")
        rows = {line.split()[0]: line.split()[1:] for line in lines[begin:] if line}
        assert rows[self.first] == ["yes", "yes", "good"]
        assert rows[self.second] == ["yes", "not", "proven", "good"]
        assert rows[later][:2] == ["not", "proven:"]
        assert "The checkpoint below was made earlier" in "\n".join(lines)
