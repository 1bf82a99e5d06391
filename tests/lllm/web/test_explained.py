"""What pages say so that nobody has to guess: what is counted, where a link leads, what is gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import lllm
from lllm import LogStore, SQLiteBackend, capture
from lllm.cli import cli
from lllm.events.model import Usage
from lllm.invokers.scripted import cut_off, rate_limited, tool_call
from lllm.web.html_text import code_spans
from lllm.web.session_page import _own_line
from tests.lllm.instrumentation.asking import chat_client, close_clients
from tests.support import loopback
from tests.support.loopback import Loopback
from tests.support.runs import Asking, Doing, config
from tests.support.web_page import Served, answer_with_tool, ask, find_order, served


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A session with a tool, one that wasted money after a refusal, one that failed."""
    with LogStore(SQLiteBackend(tmp_path_factory.mktemp("told") / "runs.db")) as store:
        answer_with_tool(store, customer="alice")
        half = cut_off("half of it", usage=Usage(input=900, output=90))
        Asking(config([rate_limited(), half, "whole"]), log_store=store)("Waste some")
        with pytest.raises(ValueError, match="no"), store.session("shop::desk", task="Fail"):
            raise ValueError("no")
        with served(store) as running:
            yield running
    close_clients()


def ids_by_task(page: Served) -> dict[str | None, str]:
    """The ids of the sessions by the first line of what was asked."""
    return {one.task: one.session_id for one in page.store.list_sessions()}


def links(text: str, words: str) -> list[str]:
    """Where the links lead whose words begin so."""
    return re.findall(rf'<a [^>]*href="([^"]+)"[^>]*>{words}', text)


@pytest.mark.parametrize("chosen", ["today", "7 days", "all"])
def test_sums_stay_whatever_is_chosen(page: Served, chosen: str) -> None:
    """Each figure filters the list; the one that does so is marked, also without colour."""
    after = {"today": "today", "7 days": "7d", "all": ""}[chosen]
    text = page.get(f"/sums?after={after}&state=success")[2]
    assert re.findall(r'aria-current="true">(\w[\w ]*) <b>', text) == [chosen]
    names = re.findall(r">([a-z0-9 ]+) <b>", text)
    assert names == ["today", "7 days", "all", "wasted", "failed"]
    (failed,) = links(text, "failed")
    kept = f"&amp;after={after}" if after else ""
    assert failed == f"/?state=failure{kept}"
    assert links(page.get("/sums?state=failure")[2], "failed") == ["/"]
    other = page.get("/sums?after=2020-01-01")[2]
    assert 'aria-current="true">selected <b>' in other


def test_wasted_is_explained_and_leads_to_what_was_wasted(page: Served) -> None:
    for path in ("/sums", "/cost"):
        text = page.get(path)[2]
        (address,) = set(
            links(text, r"(?:wasted <b>)?\$[0-9.]+ wasted" if path == "/cost" else "wasted")
        )
        assert address == "/?wasted=yes"
        assert 'title="wasted: paid for answers that were not used' in text
    listed = page.get("/?wasted=yes")[2]
    assert re.findall(r'<tr data-key="(\w+)"', listed) == [ids_by_task(page)["Waste some"]]
    assert "money was wasted <span" in listed
    text = page.get(f"/sessions/{ids_by_task(page)['Waste some']}")[2]
    (step,) = links(text, r"\$[0-9.]+ wasted")
    assert f'id="{step[1:]}"' in text
    assert step.endswith(".2")  # the 429 before it cost nothing
    assert "$0 wasted" not in text
    assert "$0.0000 " not in text.replace("<", " ")
    assert text.count(">wasted</span>") == 1


def test_failed_calls_are_counted_in_one_way(page: Served) -> None:
    said = r'1 (?:<span class="error">|<a class="error" href="[^"]+">)\+ 2 failed</'
    found = ids_by_task(page)["Waste some"]
    for path in (
        "/?text=waste",
        f"/sessions/{found}",
        "/cost?text=waste",
        "/cost?text=waste&by=model",
    ):
        assert re.search(said, page.get(path)[2]), path
    assert re.search(
        r'3 <a class="error" href="[^"]+">\+ 2 failed</a> calls', page.get("/health")[2]
    )


def test_calls_name_their_sessions(page: Served) -> None:
    text = page.get("/calls?state=failure")[2]
    assert links(text, "Waste some") == [f"/sessions/{ids_by_task(page)['Waste some']}"] * 2
    assert links(page.get("/calls")[2], "desk")


def test_costs_say_what_they_count(page: Served) -> None:
    for by, words in {
        "tactic": "for the tactic that made it itself",
        "model": "for the model that was called",
        "agent": "for the agent that made it",
        "day": "on the day on which it was made",
        "tag:customer": "with everything below it",
    }.items():
        text = page.get(f"/cost?by={by}&state=success")[2]
        assert words in text, by
        assert "<b>Wasted</b> is what was paid for answers that were not used" in text
        assert '<input type="hidden" name="state" value="success">' in text
        assert links(text, "state success") == ["/cost"]


def test_headings_name_what_was_asked(page: Served) -> None:
    found = ids_by_task(page)["Waste some"]
    text = page.get(f"/sessions/{found}")[2]
    assert "<title>Waste some, success · " in text
    assert '<span class="title">Waste some</span>' in text
    assert (
        "Waste some</a>: #2 a · step 1, attempt 2</h1>"
        in page.get(f"/sessions/{found}/steps/{found}/2")[2]
    )


def test_sessions_are_picked_to_be_compared(page: Served) -> None:
    """By check boxes of the list, or of the page itself; the oldest one is A."""
    older, newer = ids_by_task(page)["Waste some"], ids_by_task(page)["Fail"]
    for path in ("/", "/compare"):
        text = page.get(path)[2]
        assert f'name="id" value="{older}" form="compare"' in text
        assert '<form class="' in text
        assert 'id="compare" action="/compare"' in text
    assert "Check two to 8 below" in text
    assert "One is checked: check another." in page.get(f"/compare?a={older}")[2]
    three = "&".join(f"id={one.session_id}" for one in page.store.list_sessions())
    text = page.get(f"/compare?{three}")[2]
    assert re.findall(r"First difference of <a[^>]+>A and ([BC])</a>", text) == ["B", "C"]
    assert '<th scope="col">C: <a' in text
    beside = text.partition("Answers side by side")[2]
    assert beside.count("<td>") >= 3
    assert "≠" in beside
    many = "&".join(f"id={older[:length]}" for length in range(10, 20))
    assert "at most 8 are compared" in page.get(f"/compare?{many}")[2]
    text = page.get(f"/compare?id={newer}&id={older}")[2]
    assert "First difference" in text
    assert re.findall(r'<b>([AB])</b>.*?href="/sessions/(\w+)"', text) == [
        ("A", older),
        ("B", newer),
    ]


def test_the_store_is_described_in_readable_words(page: Served) -> None:
    text = page.get("/store")[2].partition("<main")[2]
    assert "`" not in text
    assert "SQLite SQLite" not in re.sub(r"<[^>]+>|:", "", text)
    assert "<code>lllm verify</code>" in text
    assert '<th scope="row">events</th>' in text
    assert code_spans("a `<b>` c") == "a <code>&lt;b&gt;</code> c"
    assert code_spans("a ` <b>") == "a ` &lt;b&gt;"


def test_hits_are_named_as_the_session_numbers_its_steps(page: Served) -> None:
    script = [rate_limited(), tool_call("find_order", {"order": "Q-1"}), "Found it."]
    given = config(script, tools=[find_order], system_prompt="Be exact about zebras.")
    Doing(lambda one: ask(one, "Q-1"), given, log_store=page.store)(
        "Q-1 please", tags={"order": "Q-1"}
    )
    found = ids_by_task(page)["Q-1 please"]
    text = page.get("/search?q=Q-1")[2] + page.get("/search?q=zebras")[2]
    text += page.get("/search?q=kettle+item&role=tool")[2] + page.get('/search?q="Found+it"')[2]
    named = re.findall(r'<a href="(/sessions/\w+/at/\d+)">([^<]+)</a>', text)
    places: dict[str, str] = {}
    for address, name in named:
        if found in address:
            places[name] = page.get(address)[1]["location"].partition("#step-")[2]
    assert places == {
        "what was asked": "",
        "tags": "",
        "#1 a · step 1, attempt 1, system prompt": f"{found}.1",
        "#1 a · step 1, attempt 1, message of the user": f"{found}.1",
        "#2 a · step 1, attempt 2, answer": f"{found}.2",
        "#2 a · step 1, attempt 2, result of find_order": f"{found}.2",
        "#3 a · step 2, answer": f"{found}.3",
    }
    assert links(text, "Q-1 please")
    path = str(page.store.backend.path)  # type: ignore[attr-defined]
    told = CliRunner().invoke(cli, ["search", "Q-1", "--limit", "0", "--store", path]).output
    assert "#2 a · step 1, attempt 2, answer  doing" in told


def test_results_of_tools_are_found_where_they_are_shown(page: Served, server: Loopback) -> None:
    """A program sends a result with its next request; the page shows it beside the call."""
    server.answers(loopback.tool_calls(("find", "{}")), loopback.text("b"))
    client = capture(chat_client(server), log_store=page.store, provider="openai")
    with page.store.session("shop::captured", task="captured"):
        asked: list[dict[str, object]] = [{"role": "user", "content": "where?"}]
        said = client.chat.completions.create(model="gpt-4o", messages=asked).choices[0].message
        asked += [
            said.to_dict(),
            {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "in the xylophone"},
        ]
        client.chat.completions.create(model="gpt-4o", messages=asked)
    text = page.get("/search?q=xylophone&role=tool")[2]
    ((address, name),) = re.findall(r'<a href="(/sessions/\w+/at/\d+)">([^<]+)</a>', text)
    assert name == "#1 step 1, result of find"
    place, _, step = page.get(address)[1]["location"].partition("#")
    shown = page.get(place)[2]
    body = shown.partition(f'id="{step}"')[2].partition("</details>")[0]
    assert "in the xylophone" in body


def test_what_is_gone_is_marked(tmp_path: Path) -> None:
    """A list says of a session that it was archived or erased, when and where to."""
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        Asking(config(["yes"]), log_store=store)("to archive", tags={"old": "yes"})
        Asking(config(["yes"]), log_store=store)("to erase")
        store.archive(before="2100-01-01", tags={"old": "yes"}, to=tmp_path / "old", by="ada")
        store.erase_session(store.list_sessions(limit=1)[0].session_id, reason="asked", by="ada")
        with served(store) as page:
            for path in ("/", "/compare", "/cost"):
                text = page.get(path)[2]
                assert re.search(r'class="mark" title="archived on [^"]+">archived</span>', text), (
                    path
                )
                assert re.search(r'class="mark" title="erased on [^"]+">erased</span>', text), path
                assert 'name="id"' not in text
                assert "without a task" not in text


def test_words_are_explained_and_events_are_near(page: Served) -> None:
    """What "wasted" means is text on each page, not a hint for a mouse; a step has its events."""
    for path in ("/", "/cost", "/health", "/calls", "/store"):
        words = page.get(path)[2].partition('<details class="words">')[2]
        assert "<dt>wasted</dt><dd>What was paid for answers that were not used" in words
    found = ids_by_task(page)["Waste some"]
    text = page.get(f"/sessions/{found}")[2]
    assert '<p class="wasted">wasted: paid for answers that were not used' in text
    (address,) = [one for one in links(text, "raw events") if one.endswith("=2")]
    events = page.get(address)[2]
    assert events.index("llm.requested") < events.index("llm.responded")
    assert "session.started" not in events
    assert "has no request 9" in page.get(f"/sessions/{found}/events?request=9")[2]


def test_long_json_is_folded(page: Served) -> None:
    with page.store.session("shop::long", task=[*range(40)]):
        pass
    (found,) = page.store.list_sessions(tactic_path="shop::long")
    text = page.get(f"/sessions/{found.session_id}")[2]
    assert '<details class="folded"><summary>42 lines: [ 0, 1, 2' in text


def test_the_line_of_ones_own_code() -> None:
    lines = [
        'File "/x/lllm/app.py", line 3, in f', "    g()",
        'File "/v/lib/python3.11/site-packages/httpx/a.py", line 2, in g', "    h()",
        f'File "{Path(lllm.__file__).parent}/agents/agent.py", line 9, in h', "    raise E",
    ]  # fmt: skip
    assert _own_line("\n".join(lines)) == f"{lines[0]}: g()"
    demo = 'File "/v/lib/python3.11/site-packages/lllm/demo.py", line 2, in call'
    assert _own_line(demo) == demo
