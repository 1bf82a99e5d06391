"""What each page says, as it is without JavaScript."""

from __future__ import annotations

import datetime as dt
import html
import http.client
import re
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from click.testing import CliRunner

from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.cli import cli
from lllm.cli.render.session import details_of
from lllm.events.backend import LogBackend
from lllm.events.envelope import Recorded
from lllm.events.errors import LogDamaged
from lllm.events.integrity import verify
from lllm.invokers.scripted import rate_limited, tool_call
from lllm.store.log_store import session_host
from lllm.web import session_page
from lllm.web.html_text import markdown, task_line
from lllm.web.list_query import ListQuery
from lllm.web.opened_session import OpenedSession
from lllm.web.transcript import transcript_of
from tests.support.runs import Doing, config
from tests.support.web_page import (
    HOSTILE,
    TOKEN,
    Served,
    answer_with_tool,
    ask,
    fields,
    find_order,
    posted,
    served,
)

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def test_the_list_shows_what_was_asked_and_what_it_cost(page: Served) -> None:
    status, _, text = page.get("/?tag=customer%3Dalice")
    assert status == 200
    (row,) = re.findall(r"<tr data-key.*?</tr>", text, re.DOTALL)
    assert "order: A-17 · text: Where is it?" in row
    assert "success" in row
    assert "$0.0000" in row
    assert "customer=alice" in row
    assert "shop::desk" in row or "desk" in row


def listed(page: Served, query: str) -> list[str]:
    """The ids of the sessions in a list."""
    return re.findall(r'<tr data-key="(\w+)"', page.get(f"/?{query}")[2])


def test_every_filter_of_a_list_is_in_its_address(page: Served) -> None:
    """What the page lists for an address is what the store lists for the same filters."""
    found = page.store.list_sessions(tags={"customer": "bob"})[0]
    page.store.annotate(found.session_id, name="correct", value=False, by="eve")
    for query, filters in {
        "model=gpt*&agent=a": {"model": "gpt*", "agent": "a"},
        "error=ValueError": {"error": "ValueError"},
        "text=z-99&sort=task": {"text": "z-99"},
        "min_cost=%240.00001": {"min_cost": 0.00001},
        "max_cost=0": {"max_cost": 0},
        "slower=1h": {"slower": "1h"},
        "faster=1h&sort=elapsed&reverse=yes": {"faster": "1h", "sort": "elapsed", "reverse": True},
        "note=correct%3Dfalse": {"annotations": {"correct": False}},
        "note=correct": {"annotations": {"correct": None}},
    }.items():
        expected = [one.session_id for one in page.store.list_sessions(**filters)]
        assert listed(page, query) == expected, query
        counted = len(expected)
        assert f"in {counted} session" in page.get(f"/sums?{query}")[2], query
        assert len(page.get(f"/api/sessions?{query}")[2].split('"session_id"')) == counted + 1


def test_heads_sort_and_turn_the_order_around(page: Served) -> None:
    text = page.get("/?sort=elapsed")[2]
    assert '<th scope="col" class="took" aria-sort="descending">' in text
    assert 'href="/?sort=elapsed&amp;reverse=yes"' in text
    assert 'href="/?sort=calls"' in text


def test_fields_suggest_what_the_store_has(page: Served) -> None:
    text = page.get("/")[2]
    for value in ("shop::desk", "customer=alice", "gpt-4o-mini"):
        assert f'<option value="{value}"></option>' in text


def test_sessions_below_unfold_in_their_row(page: Served) -> None:
    text = page.get("/?tag=customer%3Dalice")[2]
    assert '<details class="below"><summary>1 session inside</summary>' in text
    (row,) = page.store.list_sessions(tags={"customer": "alice"})
    below = page.store.children([row.session_id], limit=0)
    assert (below[row.session_id].count, below[row.session_id].first) == (1, [])
    (child,) = page.store.children([row.session_id, "nothing"])[row.session_id].first
    assert f'href="/sessions/{child.session_id}"' in text


def test_failures_say_why(page: Served) -> None:
    text = page.get("/?state=failure")[2]
    assert "ValueError" in text
    assert text.count("<tr data-key") == 1


def test_filters_that_select_nothing(page: Served) -> None:
    assert "No session matches" in page.get("/?tag=customer%3Dnobody")[2]


def test_sums(page: Served) -> None:
    text = page.get("/sums")[2]
    assert "today" in text
    assert "failed <b>1</b>" in text


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/?state=odd", "state is one of success"),
        ("/?sort=odd", "sort is one of started, cost"),
        ("/?min_cost=odd", "min_cost is an amount"),
        ("/?slower=odd", "a duration is written"),
        ("/?note=%3Dx", "has no name"),
        ("/?tag=odd", "is not a tag"),
        ("/?after=odd", "odd"),
        ("/?cursor=odd", "not a cursor"),
        ("/cost?by=odd", "group_by is one of"),
        ("/calls?sort=odd", "sort"),
        ("/sessions/nothing", "nothing"),
    ],
)
def test_what_can_not_be_is_told_in_words(page: Served, path: str, says: str) -> None:
    status, _, text = page.get(path)
    assert status in (400, 404)
    assert says in text
    assert "Traceback" not in text


def test_a_session_shows_question_answer_tools_and_price(page: Served) -> None:
    found = page.store.list_sessions(tags={"customer": "alice"})[0].session_id
    status, _, text = page.get(f"/sessions/{found}")
    assert status == 200
    assert "<strong>The kettle</strong> of A-17 is on its way." in text
    assert "Where is the kettle of A-17?" in text
    assert "find_order" in text
    assert "&#34;item&#34;: &#34;kettle&#34;" in text
    assert "x $0.15/M" in text
    assert "lllm show" in text


def test_agents_say_which_version_of_them_ran(page: Served) -> None:
    """The definitions of an agent are numbered in the order in which the log met them."""
    from tests.support.runs import Asking, config

    found = []
    for prompt in ("Be brief.", "Be kind.", "Be brief."):
        given = config(["yes"], "a", system_prompt=prompt)
        Asking(given, log_store=page.store)("?", tags={"versions": "yes"})
    for one in page.store.list_sessions(tags={"versions": "yes"}, reverse=True):
        text = page.get(f"/sessions/{one.session_id}")[2]
        (said,) = re.findall(r'href="(/definitions/[^"]+)"[^>]*>prompt v(\d+), (\S+)</a>', text)
        assert said[2] == f"{one.timestamp:%Y-%m-%d}"
        found.append((said[0], int(said[1])))
    (address, first), (changed, second), (_, third) = found
    assert first == third
    assert second == first + 1
    told = page.get(changed)[2]
    assert "agent a, prompt v" in told
    assert f'Changed from <a href="{address}">v{first}</a>' in told
    assert '<span class="removed">-Be brief.\n</span>' in told
    assert '<span class="added">+Be kind.\n</span>' in told
    assert "The prompt is the same" not in told
    assert '<pre class="text">Be brief.</pre>' in page.get(address)[2]
    assert page.get("/definitions/nothing")[0] == 410


def test_a_version_with_the_same_prompt_says_so(page: Served) -> None:
    """Another model is another version, too; tools are listed with their arguments."""
    from tests.support.runs import Asking, config

    for value in (0, 1):
        given = config(["yes"], "a", system_prompt="x", model_args={"temperature": value})
        Asking(given, log_store=page.store)("?", tags={"same": "yes"})
    told = definition_of(page, same="yes")
    assert "<p>The prompt is the same.</p>" in told
    assert "<h3>parameters</h3>" in told
    assert "Looks an order up." in definition_of(page, customer="alice")


def definition_of(page: Served, **tags: str) -> str:
    """The page of the first agent of the newest session with these tags."""
    found = page.store.list_sessions(tags=tags)[0].session_id
    address = re.findall(r'href="(/definitions/[^"]+)"', page.get(f"/sessions/{found}")[2])[0]
    return page.get(address)[2]


def test_steps_and_failed_tools_are_named_alike_everywhere(page: Served) -> None:
    """In the outline, in the heading, among calls and by `lllm show`; marks need no colour."""
    given = config([rate_limited(), tool_call("find_order", {"order": "Z-99"}), "Sorry."],
                   tools=[find_order])  # fmt: skip
    Doing(lambda one: ask(one, "Z-99"), given, log_store=page.store)("go", tags={"named": "yes"})
    (one,) = page.store.list_sessions(tags={"named": "yes"})
    page.store.annotate(one.session_id, name="tone", value="good", step=2)
    text = page.get(f"/sessions/{one.session_id}")[2]
    outline, _, transcript = text.partition('<section class="transcript"')
    outline = outline.partition('<nav class="outline"')[2]
    path = str(page.store.backend.path)  # type: ignore[attr-defined]
    told = CliRunner().invoke(cli, ["show", one.session_id, "--store", path])
    calls = page.get(f"/calls?session={one.session_id}")[2]
    listed = CliRunner().invoke(cli, ["calls", "--session", one.session_id, "--store", path])
    names = ("step 1, attempt 1", "step 1, attempt 2", "step 2")
    for number, name in enumerate(names, 1):
        assert f"#{number} {name}" in outline
        assert f"#{number} a · {name} <" in transcript
        assert f"#{number} {name} · gpt-4o-mini" in told.output
        assert f">#{number} a · {name}</a>" in calls
        assert f"#{number} a · {name} " in listed.output
    assert "note tone=good (#2 a · step 1, attempt 2)" in told.output
    assert "step 2, attempt" not in text + told.output + calls
    assert "✗ find_order failed" in outline
    assert transcript.count("✗ find_order failed") == 2
    assert transcript.count('<span class="role">answer</span>') == 1


def test_calls_of_one_agent_are_numbered(page: Served) -> None:
    def thrice(one: Doing) -> str:
        agent = one.agents["a"]
        for number in range(3):
            agent.open(f"d{number}")
            agent.receive("Hello?")
            agent.respond()
        return "done"

    Doing(thrice, config(["a", "b", "c"]), log_store=page.store)("go", tags={"calls": "three"})
    (one,) = page.store.list_sessions(tags={"calls": "three"})
    text = page.get(f"/sessions/{one.session_id}")[2]
    path = str(page.store.backend.path)  # type: ignore[attr-defined]
    told = CliRunner().invoke(cli, ["show", one.session_id, "--store", path]).output
    for number in (1, 2, 3):
        assert f"agent <b>a, call {number}</b>" in text
        assert f"#{number} a · step 1" in text
        assert f'#{number} step 1 <span class="dim">Hello?</span>' in text
        assert f"agent a, call {number}  " in told


def test_the_dearest_call_and_the_day_are_named(page: Served) -> None:
    one = page.store.list_sessions(tags={"customer": "alice"})[0]
    text = page.get(f"/sessions/{one.session_id}")[2]
    (key,) = re.findall(
        r'<dt>most expensive call</dt><dd><a href="#(step-[^"]+)">#\d a · step \d</a>', text
    )
    assert f'id="{key}"' in text
    days = page.get("/cost")[2]
    after = one.timestamp.date()
    before = after + dt.timedelta(days=1)
    assert f'<a href="/?after={after}&amp;before={before}">{after:%a} {after}</a>' in days


def test_a_failing_tool_is_seen_unfolded(page: Served) -> None:
    found = page.store.list_sessions(tags={"customer": "bob"})[0].session_id
    text = page.get(f"/sessions/{found}")[2]
    assert "No order Z-99 &lt;b&gt;here&lt;/b&gt;." in text
    assert re.search(r'<details class="step[^>]* open>', text)


def test_a_cut_id_leads_to_the_whole_one(page: Served) -> None:
    found = page.store.list_sessions(tags={"customer": "alice"})[0].session_id
    status, headers, _ = page.get(f"/sessions/{found[:-2]}")
    assert (status, headers["location"]) == (303, f"/sessions/{found}")


def test_events_and_exports_are_what_the_store_says(page: Served) -> None:
    found = page.store.list_sessions(tags={"customer": "alice"})[0].session_id
    assert page.get(f"/sessions/{found}/export.jsonl")[2] == page.store.export_session(
        found, "jsonl"
    )
    assert "session.started" in page.get(f"/sessions/{found}/events")[2]
    assert page.get(f"/sessions/{found}/export.exe")[0] == 400


def test_a_page_has_all_of_a_session_though_it_keeps_less(page: Served) -> None:
    """The page reads events in a stream, and keeps what it shows."""
    reader = session_host(page.store).reader
    for one in page.store.list_sessions():
        whole = transcript_of(reader.load_with_events(one.session_id))
        kept = OpenedSession(reader).open(one.session_id)
        for step in whole.steps:
            step.trace.usage_raw = None  # the events of a step have these
            for tool in step.tools:
                tool.value = None
        assert kept.blocks == whole.blocks
        assert (kept.record, kept.start, kept.notes) == (whole.record, whole.start, whole.notes)


def test_the_store_is_verified_when_asked(page: Served) -> None:
    """A link can't start it, nor can another site; and only one at a time reads the whole log."""
    good = re.compile(r"Integrity: good. [\d,]+ events in [\d,]+ streams")
    text = page.get("/store?verify=yes")[2]
    address, given = fields(text)
    assert (address, good.search(text)) == ("/store", None)
    assert "Check every event now" in text
    body = urlencode(given)
    assert posted(page, address, "token=" + "0" * 64)[0] == 403
    assert posted(page, address, body, Origin="http://evil.example")[0] == 403
    assert posted(page, address, body, Authorization="")[0] == 403
    meanwhile: list[int] = []
    real = verify.verify

    def verify_and_ask_again(log: LogBackend) -> verify.Verified:
        meanwhile.append(posted(page, address, body)[0])
        return real(log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "verify", verify_and_ask_again)
        status, _, text = posted(page, address, body)
    assert (status, meanwhile) == (200, [409])
    assert good.search(text)
    assert good.search(posted(page, address, body)[2])


def test_costs_lead_to_their_sessions(page: Served) -> None:
    text = page.get("/cost?by=tag%3Acustomer")[2]
    assert f'href="/?tag={quote("customer=alice", safe="")}"' in text
    for by, key in (("model", "gpt-4o-mini"), ("tag:customer", "alice"), ("day", "")):
        text = page.get(f"/cost?by={quote(by)}&each_day=yes")[2]
        days = text.partition("days-title")[2].partition("</section>")[0]
        assert ("</svg> " + key in days) == bool(key)
        assert bool(re.search(r'<td><a href="/\?[^"]*after=[^"]+">\$0\.', days)) == bool(key)
    assert "Show each day by customer" in page.get("/cost?by=tag%3Acustomer")[2]
    plain, other = (page.get(f"/cost?by=model{more}")[2] for more in ("", "&as_model=gpt-4o"))
    dearer = [one.partition("days-title")[2].partition("</section>")[0] for one in (plain, other)]
    assert re.findall(r'class="cost">(\$[^<]+)', dearer[0]) < re.findall(
        r'class="cost">(\$[^<]+)', dearer[1]
    )
    assert "recorded, current; not" in page.get("/cost?prices=given")[2]


def test_calls_and_comparison_and_store(page: Served) -> None:
    assert "gpt-4o-mini" in page.get("/calls?model=gpt*")[2]
    assert "99 % within" in page.get("/health?by=agent")[2]
    assert page.get("/health?by=odd")[0] == 400
    text = page.get("/health?by=tactic&tag=customer%3Dalice")[2]
    addresses = [html.unescape(one) for one in re.findall(r'href="(/calls\?[^"]+)"', text)]
    assert any("after=20" in one for one in addresses)
    assert any("tactic=" in one for one in addresses)
    for address in addresses:
        assert "tag=customer%3Dalice" in address
        listed_calls = page.get(address)[2]
        assert '<input name="tag" value="customer=alice"' in listed_calls
        assert "<tr data-key=" in listed_calls
    a, b = (
        page.store.list_sessions(tags={"customer": name})[0].session_id for name in ("alice", "bob")
    )
    assert "First difference" in page.get(f"/compare?a={a}&b={b}")[2]
    assert "The sessions are the same" in page.get(f"/compare?a={a}&b={a}")[2]
    assert "lllm doctor" in page.get("/store")[2]


def test_nothing_of_a_log_is_markup(page: Served) -> None:
    ids = [one.session_id for one in page.store.list_sessions()]
    paths = [
        "/",
        "/cost",
        "/calls",
        "/health",
        "/health?by=agent",
        "/sums",
        "/store",
        "/cost?by=agent",
    ]
    for one in ids:
        paths += [f"/sessions/{one}", f"/sessions/{one}/events", f"/compare?a={one}&b={ids[-1]}"]
        paths += re.findall(r'href="(/definitions/[^"]+)"', page.get(f"/sessions/{one}")[2])
    asked = HOSTILE[:-1]  # a field of the form holds what was asked, also what is not seen
    paths += [f"/?tactic={quote(one)}" for one in asked] + [f"/{quote(one)}" for one in HOSTILE]
    for path in paths:
        text = page.get(path)[2]
        found = _Elements()
        found.feed(text)
        assert not found.names & {"img", "iframe", "object", "embed", "base", "style"}, path
        assert found.scripts == ["/static/page.js"], path
        assert not {name for name in found.attributes if name.startswith("on")}, path
        assert "style" not in found.attributes, path
        assert all(one.startswith(("/", "#", "?", "http")) for one in found.addresses), path
        assert "\u202e" not in text, path
        assert "\x1b" not in text, path


class _Elements(HTMLParser):
    """The elements of a page as a browser would find them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.scripts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "script":
            self.scripts.append(dict(attrs).get("src"))


def test_markdown_has_no_html_no_images_and_no_odd_links() -> None:
    text = markdown(
        "**b** <b>x</b> ![i](http://192.0.2.1/i.png) [a](javascript:alert(1)) "
        "[d](data:text/html,x) [h](https://example.com)\n\n<div onclick=x>\n\n| a |\n|---|\n| 1 |\n"
    )
    assert "<strong>b</strong>" in text
    assert "<table>" in text
    assert "<img" not in text
    assert "<div onclick" not in text
    assert re.findall(r'href="([^"]*)"', text) == ["http://192.0.2.1/i.png", "https://example.com"]
    assert 'rel="noreferrer noopener nofollow"' in text


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("plain", "plain"),
        ('{"text":"Where?"}', "Where?"),
        ('{"a":"1","b":2,"c":null}', "a: 1 · b: 2 · c: null"),
        ('{"a":"say \\"hi\\"","b":"cut he', 'a: say "hi" · b: cut he'),
        ("{}", "{}"),
        ("[1]", "[1]"),
        ("{no json", "{no json"),
    ],
)
def test_tasks_in_lists(task: str, line: str) -> None:
    assert task_line(task) == line


def test_addresses_of_lists_say_the_same_again() -> None:
    pairs = [("state", "failure"), ("tag", "a=b"), ("tag", "c=d&e"), ("sort", "cost"), ("x", "y")]
    query = ListQuery.of(pairs)
    assert query.url() == "/?state=failure&tag=a%3Db&tag=c%3Dd%26e&sort=cost"
    assert query.with_tag("a", "z") == "/?state=failure&tag=c%3Dd%26e&tag=a%3Dz&sort=cost"
    assert [text for text, _ in query.chips()] == ["state failure", "a=b", "c=d&e"]


def test_long_texts_are_cut_and_can_be_had_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("long") / "logs"
    path.mkdir()
    with LogStore(LocalFileBackend(path)) as store:
        found = answer_with_tool(store, "K" * 10_000)
        with served(store) as page:
            text = page.get(f"/sessions/{found}")[2]
            assert "characters more" in text
            (address,) = re.findall(r'"(/sessions/[^"]*of=sent.0)"', text)
            whole = page.get(address)
            assert whole[2] == f"Where is the kettle of {'K' * 10_000}?"
            assert whole[1]["content-type"].startswith("text/plain")


def test_many_steps_come_in_pages(tmp_path_factory: pytest.TempPathFactory) -> None:
    def work(one: Doing) -> object:
        agent = one.agents["a"]
        agent.open()
        for number in range(110):
            agent.receive(f"question {number}")
            agent.respond()
        return None

    with LogStore(SQLiteBackend(tmp_path_factory.mktemp("many") / "runs.db")) as store:
        Doing(work, config(["answer"] * 110), log_store=store)("much")
        found = store.list_sessions(limit=1)[0].session_id
        with served(store) as page:
            first = page.get(f"/sessions/{found}")[2]
            last = page.get(f"/sessions/{found}?page=2")[2]
    assert "steps 1 to 100 of 110" in first
    assert first.count('<details class="step') == 100
    assert "steps 101 to 110 of 110" in last
    assert "question 109" in last


class CountingReads(SQLiteBackend):
    """A log that counts how often each stream was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads: Counter[str] = Counter()

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        if stream is not None:
            self.reads[stream] += 1
        return super().read(after=after, upto=upto, stream=stream)


def test_a_session_is_read_once_until_something_new_is_said_of_it(tmp_path: Path) -> None:
    """Its page, its steps and their texts come of one reading of its events, and of those below."""
    log = CountingReads(tmp_path / "runs.db")
    with LogStore(log) as store:
        found = answer_with_tool(store)
        family = [found, *session_ids_below(store, found)]
        with served(store) as page:
            log.reads.clear()
            text = page.get(f"/sessions/{found}")[2]
            (step, *_) = re.findall(r'href="(/sessions/[^"]*/steps/[^"]*)"', text)
            assert page.get(step)[0] == 200
            assert page.get(f"{step}/text?of=answer")[0] == 200
            assert log.reads == dict.fromkeys(family, 1)
            store.tag(found, {"late": "yes"})
            assert "late=yes" in page.get(f"/sessions/{found}")[2]
            store.erase_session(found, reason="asked")
            assert page.get(f"/sessions/{found}")[0] == 410
            assert page.get(step)[0] == 410


class WaitingReads(SQLiteBackend):
    """A log whose sessions can be read when somebody lets them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_read = threading.Event()
        self.damaged = False

    def read(
        self, *, after: int = 0, upto: int | None = None, stream: str | None = None
    ) -> Iterator[Recorded]:
        if stream is not None:
            assert self.may_read.wait(20)
            if self.damaged:
                raise LogDamaged("An event <b>here</b> differs from what was written.", position=3)
        return super().read(after=after, upto=upto, stream=stream)


@pytest.mark.parametrize("damaged", [False, True])
def test_the_heading_of_a_long_session_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    """It is sent before the events are read. An error in them is told below it."""
    monkeypatch.setattr(session_page, "_LONG", 2)
    log = WaitingReads(tmp_path / "runs.db")
    log.may_read.set()
    with LogStore(log) as store:
        found = answer_with_tool(store)
        log.damaged = damaged
        log.may_read.clear()
        with served(store) as page:
            connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
            connection.request("GET", f"/sessions/{found}", headers=AUTHORIZED)
            answer = connection.getresponse()
            first = answer.read1().decode()
            log.may_read.set()
            text = first + answer.read().decode()
            connection.close()
            again = page.get(f"/sessions/{found}")[2]
    assert "order: A-17" in first
    assert "reading 2 calls" in first
    if damaged:
        assert '<p class="error" role="alert">An event &lt;b&gt;here&lt;/b&gt; differs' in text
    else:
        assert "is on its way" in text
        assert "reading 2 calls" not in again
        without = re.sub(r'<p class="loading".*?-->', "", text)
        assert re.sub(r'value="[^"]*"', "", without) == re.sub(r'value="[^"]*"', "", again)


@pytest.mark.parametrize("form", ["show", "json"])
def test_commands_read_a_session_once(tmp_path: Path, form: str) -> None:
    log = CountingReads(tmp_path / "runs.db")
    with LogStore(log) as store:
        found = answer_with_tool(store)
        family = [found, *session_ids_below(store, found)]
        log.reads.clear()
        if form == "show":
            details_of(store, session_host(store).reader.load_with_events(found))
        else:
            store.export_session(found)
    assert log.reads == dict.fromkeys(family, 1)


def session_ids_below(store: LogStore, session_id: str) -> list[str]:
    """The sessions that a session called."""
    below = store.load_session(session_id).sub_tactic_sessions
    return [one.session_id for sessions in below.values() for one in sessions]


def test_the_file_of_a_session_has_its_texts_whole(tmp_path: Path) -> None:
    path, file = tmp_path / "runs.db", tmp_path / "one.html"
    with LogStore(SQLiteBackend(path)) as store:
        found = answer_with_tool(store, "K" * 10_000)
    done = CliRunner().invoke(cli, ["show", found, "--store", str(path), "--html", str(file)])
    assert (done.exit_code, done.output) == (0, "")
    text = file.read_text("utf-8")
    assert f"Where is the kettle of {'K' * 10_000}?" in text
    assert "$0.15/M" in text
    assert file.stat().st_mode & 0o077 == 0
    refused = ["show", found, "--store", str(path), "--html", str(file), "--json"]
    assert CliRunner().invoke(cli, refused).exit_code == 2


def test_a_hit_leads_to_its_step(page: Served) -> None:
    text = page.get("/search?q=kettle+A-17&role=user")[2]
    assert "Where is the <mark>kettle</mark> of" in text
    (address,) = re.findall(r'"(/sessions/[^"]*/at/[0-9]+)"', text)
    status, headers, _ = page.get(address)
    assert status == 303
    place, _, step = headers["location"].partition("#")
    assert f'id="{step}"' in page.get(place)[2]
    assert step.endswith(".1")
    (answer,) = re.findall(
        r'"(/sessions/[^"]*/at/[0-9]+)"',
        page.get("/search?q=%22on+its+way%22+A-17&role=assistant")[2],
    )
    assert page.get(answer)[1]["location"].endswith(".2")
    (result,) = re.findall(
        r'"(/sessions/[^"]*/at/[0-9]+)"', page.get("/search?q=item+kettle&role=tool")[2]
    )[:1]
    assert page.get(result)[1]["location"].endswith(".1")


def test_a_search_that_can_not_be_read_is_told(page: Served) -> None:
    status, _, text = page.get("/search?q=%22open")
    assert status == 200
    assert '<p class="error">' in text
    assert "No text has these words" in page.get("/search?q=nothinglikeit")[2]
    for hostile in HOSTILE:
        assert page.get(f"/search?q={quote(hostile)}")[0] == 200
