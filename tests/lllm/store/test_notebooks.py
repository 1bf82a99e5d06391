"""Sessions in notebooks: small HTML that needs nothing else, in which no text is markup."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from lllm import LogStore, SQLiteBackend
from tests.support.web_page import HOSTILE, answer_with_tool, hostile_session


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogStore]:
    """A store with an ordinary session and hostile ones."""
    with LogStore(SQLiteBackend(tmp_path_factory.mktemp("notebooks") / "runs.db")) as opened:
        answer_with_tool(opened, customer="alice")
        hostile_session(opened)
        yield opened


def test_a_session_a_record_and_a_list_say_what_happened(store: LogStore) -> None:
    (summary,) = store.list_sessions(tags={"customer": "alice"})
    store.annotate(summary.session_id, name="correct", value=True)
    record = store.load_session_record(summary.session_id)
    for shown in (record._repr_html_(), record.session._repr_html_()):
        assert "Where is it?" in shown
        assert "find_order" in shown
        assert "gpt-4o-mini" in shown
        assert "$0.0000" in shown
        assert len(shown) < 5_000
    assert "customer=alice" in record._repr_html_()
    assert "✎ correct=true" in record._repr_html_()
    assert "Where is it?" in summary._repr_html_()
    listed = store.list_sessions()._repr_html_()
    assert listed.count("<tr>") == 1 + len(store.list_sessions())
    assert "ValueError" in listed


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(name for name, _ in attrs)}


def test_nothing_hostile_is_markup(store: LogStore) -> None:
    shown = [store.list_sessions()._repr_html_()]
    for one in store.list_sessions():
        store.annotate(one.session_id, name=HOSTILE[0], value=HOSTILE[1], comment=HOSTILE[2])
        record = store.load_session_record(one.session_id)
        shown += [one._repr_html_(), record._repr_html_(), record.session._repr_html_()]
    known = {
        "div", "b", "small", "pre", "details", "summary", "table", "thead", "tbody", "tr", "th",
        "td", "style",
    }  # fmt: skip
    for text in shown:
        elements = _Elements()
        elements.feed(text)
        assert elements.found <= known
        assert not {"\u202e", "\u2066", "\x1b", "\x07"} & set(text)


def test_many_steps_are_counted(store: LogStore) -> None:
    with store.session("shop::many", task="x" * 5_000):
        for number in range(210):
            with store.session(f"shop::one{number}"):
                pass
    shown = store.load_session(store.list_sessions(limit=1)[0].session_id)._repr_html_()
    assert "10 lines more" in shown
    assert "3,000 characters more" in shown


def test_show_prints_text_outside_of_notebooks(
    store: LogStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (summary,) = store.list_sessions(tags={"customer": "alice"})
    store.load_session(summary.session_id).show()
    said = capsys.readouterr().out
    assert said.startswith("✓ success shop::desk\nasked: {")
    assert "✓ find_order" in said
    assert "<" not in said


def test_show_displays_html_in_a_notebook(
    store: LogStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """IPython's `display` gets the HTML as it is."""
    given: list[object] = []
    display = SimpleNamespace(display=lambda data, raw: given.append((data, raw)))
    shell = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)  # type: ignore[arg-type]
    record = store.load_session_record(store.list_sessions(limit=1)[0].session_id)
    record.show()
    assert given == [({"text/html": record._repr_html_()}, True)]
    assert capsys.readouterr().out == ""
