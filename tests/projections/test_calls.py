"""`list_calls`: every attempt to call a model, by what it is asked for, against a reader who goes
through all events."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lllm import LocalFileBackend, LogStore, PostgresBackend, SQLiteBackend
from lllm.events import codec
from lllm.events.envelope import NewEvent
from lllm.events.model import Error, LLMFailed, LLMRefused, LLMRequested, LLMResponded, Usage
from lllm.projections.engine import projector
from lllm.projections.queries import call_filter_sql
from lllm.projections.queries import calls as call_queries
from lllm.projections.queries.filters import CallFilter, CallSort, Filter
from lllm.projections.view import storable
from lllm.projections.views.calls import LARGEST_SIZE, size_of
from lllm.store.call_records import CALL_SORTS, CallRecord
from tests.support.histories import Attempt, History, Session
from tests.support.postgres import new_schema, server

SLOW_POSTGRES = pytest.param("postgres", marks=pytest.mark.slow)

TAGS = st.dictionaries(st.sampled_from(["env", "user"]), st.sampled_from(["x", "\udc80"]))
ATTEMPTS = st.builds(
    Attempt,
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini", "o3"]),
    agent=st.sampled_from(["one", "two"]),
    nanos=st.none() | st.integers(0, 10**4),
    failed=st.booleans(),
    usage=st.none() | st.builds(Usage, input=st.integers(0, 9), output=st.integers(0, 9)),
    refused=st.booleans(),
    elapsed=st.integers(0, 9) | st.integers(10**9, 10**10),
    first_token=st.none() | st.integers(0, 10),
    status=st.sampled_from([None, 429, 500, 503]),
    code=st.sampled_from([None, "Rate_Limit"]),
    ended=st.booleans(),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["root", "child", "attempt", "attempt", "attempt", "end", "tag"]),
        st.integers(0, 5),
        st.sampled_from(["a", "p::b"]),
        TAGS,
        ATTEMPTS,
    ),
    max_size=25,
)


@dataclasses.dataclass
class Expected:
    """An attempt as its events tell of it."""

    session: Session
    position: int  # of the first event of its session
    asked: LLMRequested
    time: int
    end: LLMResponded | LLMFailed | None = None
    refused: bool = False

    @property
    def state(self) -> str:
        """How it ended, if it did."""
        if self.end is None:
            return "running" if self.session.state == "running" else "interrupted"
        return "failure" if isinstance(self.end, LLMFailed) else "success"

    @property
    def elapsed(self) -> int:
        """Nanoseconds, less than nothing while it has not ended."""
        return self.end.elapsed if self.end else -1

    def value(self, sort: CallSort) -> int:
        """What it is sorted by; less than nothing where that is not known."""
        end = self.end
        first = end.first_token if isinstance(end, LLMResponded) else None
        usage, price = (end.usage, end.price) if end else (None, None)
        known = {
            "started": self.time,
            "elapsed": self.elapsed,
            "first_token": first,
            "cost": price.nanos if price else None,
            "tokens": usage.input + usage.output if usage else None,
        }[sort]
        return -1 if known is None else known


def tell(history: History, steps: list[tuple[str, int, str, dict[str, str], Attempt]]) -> None:
    """Write what the steps say."""
    for what, number, tactic, tags, attempt in steps:
        running = [one for one in history.sessions if one.state == "running"]
        if what == "root" or not running:
            history.start(tactic, "acme" if number % 2 else "", tags, None)
            continue
        session = running[number % len(running)]
        if what == "child":
            history.start(tactic, session.partition, tags, session)
        elif what == "attempt":
            history.attempt(session, attempt)
        elif what == "end":
            history.finish(session, bool(number % 2))
        else:
            history.tag(session, tags, ("env",) if number % 2 else ())


def from_events(history: History) -> list[Expected]:
    """Every attempt in the log."""
    sessions = {one.id: one for one in history.sessions}
    found: dict[tuple[str, int], Expected] = {}
    first: dict[str, int] = {}
    for event in history.store.log.read():
        payload = codec.decode(event)
        first.setdefault(event.stream, event.position)
        if isinstance(payload, LLMRequested):
            found[event.stream, payload.request] = Expected(
                sessions[event.stream], first[event.stream], payload, event.time
            )
        elif isinstance(payload, LLMResponded | LLMFailed):
            found[event.stream, payload.request].end = payload
        elif isinstance(payload, LLMRefused):
            found[event.stream, payload.request].refused = True
    return list(found.values())


def is_record_of(record: CallRecord, one: Expected) -> None:
    """Whether a record says what the events do."""
    end, asked = one.end, one.asked
    usage = end.usage if end else None
    price = end.price if end else None
    error = end.error if isinstance(end, LLMFailed) else None
    tags = {storable(name): storable(value) for name, value in one.session.all_tags.items()}
    assert (
        record.session_id, record.request, record.tactic_path, record.tags, record.state,
        record.agent, record.asked, record.model, record.step, record.attempt, record.provider,
        record.status, record.error, record.error_code, record.wasted,
    ) == (
        one.session.id, asked.request, one.session.tactic, tags, one.state,
        end.agent if end else "", asked.model, end.model if end else None, asked.step,
        asked.attempt, asked.provider, error and error.status, error and "E: m",
        error and error.code, one.refused or isinstance(end, LLMFailed),
    )  # fmt: skip
    assert record.timestamp.timestamp() == pytest.approx(one.time / 1e9)
    assert record.elapsed == (end.elapsed / 1e9 if end else None)
    assert record.prompt_tokens == (usage and usage.input)
    assert record.completion_tokens == (usage and usage.output)
    nanos = price.nanos if price else None
    assert record.cost == (None if nanos is None else nanos / 1e9)
    assert record.price == (price.status if price else None)


QUESTIONS: dict[str, tuple[dict[str, object], Callable[[Expected], bool]]] = {
    "all": ({}, lambda _: True),
    "429": ({"error": 429}, lambda one: status(one) == 429),
    "5xx": ({"error": "5xx"}, lambda one: status(one) in range(500, 600)),
    "text": ({"error": "rate_LIMIT"}, lambda one: code(one) == "Rate_Limit"),
    "model": ({"model": "gpt-4o"}, lambda one: one.asked.model == "gpt-4o"),
    "models": ({"model": "gpt-*"}, lambda one: one.asked.model.startswith("gpt-")),
    "any 4o": ({"model": "*4O*"}, lambda one: "4o" in one.asked.model),
    "no model": ({"model": "gpt"}, lambda _: False),
    "no pattern": ({"model": "gpt_4o%"}, lambda _: False),
    "provider": ({"provider": "Scripted"}, lambda _: True),
    "slower": ({"slower": "2s"}, lambda one: one.elapsed >= 2 * 10**9),
    "tactic": ({"tactic_path": "a"}, lambda one: one.session.tactic == "a"),
    "tag": ({"tags": {"env": "x"}}, lambda one: one.session.all_tags.get("env") == "x"),
    "tags": (
        {"tags": {"env": "x", "user": "\udc80"}},
        lambda one: {"env": "x", "user": "\udc80"}.items() <= one.session.all_tags.items(),
    ),
    "partition": ({"partition": "acme"}, lambda one: one.session.partition == "acme"),
    **{
        state: ({"state": state}, lambda one, state=state: one.state == state)  # type: ignore[misc] # a lambda's default
        for state in ("success", "failure", "running", "interrupted")
    },
    "several": (
        {"model": "gpt-*", "slower": 2.0, "tags": {"env": "x"}, "tactic_path": "a"},
        lambda one: one.asked.model.startswith("gpt-") and one.elapsed >= 2 * 10**9
        and one.session.all_tags.get("env") == "x" and one.session.tactic == "a",
    ),
}  # fmt: skip


def status(one: Expected) -> int | None:
    return one.end.error.status if isinstance(one.end, LLMFailed) else None


def code(one: Expected) -> str | None:
    return one.end.error.code if isinstance(one.end, LLMFailed) else None


Steps = list[tuple[str, int, str, dict[str, str], Attempt]]


@settings(max_examples=8, deadline=None)
@given(steps=STEPS, batch=st.sampled_from([1, 3, 400]), few=st.booleans())
def test_lists_are_those_of_the_events(steps: Steps, batch: int, few: bool) -> None:
    """In a file; see `check_lists`."""
    check_lists("runs.db", steps, batch, few=few)


@pytest.mark.slow
@settings(max_examples=2, deadline=None)
@given(steps=STEPS, batch=st.sampled_from([1, 3, 400]), few=st.booleans())
def test_lists_in_postgres_are_those_of_the_events(steps: Steps, batch: int, few: bool) -> None:
    """On a server; see `check_lists`."""
    check_lists("postgres", steps, batch, few=few)


def check_lists(kind: str, steps: Steps, batch: int, *, few: bool) -> None:
    """After any history, whatever is asked and by whichever index it is answered, a list has the
    attempts that the events tell of, whole, once and in order, as has a list page by page. The rows
    are those of a rebuild, wherever a batch ended."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector, "BATCH", batch)
        if not few:
            for name in ("_FEW_SESSIONS", "_FEW_KINDS", "_FEW_ROWS"):
                patch.setattr(call_filter_sql, name, 0)
        with open_empty(kind, Path(folder)) as store:
            history = History(store)
            tell(history, steps)
            everything = from_events(history)
            for sort, (asked, fits) in product(CALL_SORTS, QUESTIONS.values()):
                expected = sorted(
                    filter(fits, everything),
                    key=lambda one: (one.value(sort), one.position, one.asked.request),
                    reverse=True,
                )
                found = store.list_calls(**asked, sort=sort)  # type: ignore[arg-type] # its own words
                assert [(one.session_id, one.request) for one in found] == [
                    (one.session.id, one.asked.request) for one in expected
                ]
                for record, one in zip(found, expected, strict=True):
                    is_record_of(record, one)
                if len(found) > 2:
                    page = store.list_calls(**asked, sort=sort, limit=2)  # type: ignore[arg-type] # its own words
                    rest = store.list_calls(**asked, sort=sort, cursor=page[-1].cursor)  # type: ignore[arg-type] # its own words
                    assert [*page, *rest] == found
            assert store.rebuild(check=True).difference is None


def open_empty(kind: str, folder: Path) -> LogStore:
    """An empty store, on a server or in a file of this name."""
    if kind == "postgres":
        return LogStore(PostgresBackend(server().url(new_schema())))
    path = folder / kind
    return LogStore(SQLiteBackend(path) if path.suffix else LocalFileBackend(path))


@pytest.fixture(params=["runs.db", "runs", SLOW_POSTGRES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store of each kind."""
    with open_empty(request.param, tmp_path) as found:
        yield found


@pytest.fixture(params=["runs.db", "runs"])
def file_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store in either kind of file."""
    with open_empty(request.param, tmp_path) as found:
        yield found


def attempt(**given: object) -> Attempt:
    """One that took a second and cost a cent."""
    usual: dict[str, object] = {
        "model": "gpt-4o", "agent": "one", "nanos": 10**7, "failed": False, "elapsed": 10**9,
        "usage": Usage(input=3, output=5),
    }  # fmt: skip
    return Attempt(**usual | given)  # type: ignore[arg-type] # its own words


def test_calls_of_a_session_and_below_it(store: LogStore) -> None:
    """`session_id` selects a session's attempts and those below it, at any depth."""
    history = History(store)
    root = history.start("a", "", {}, None)
    child = history.start("b", "", {}, root)
    inner = history.start("a", "", {}, child)
    other = history.start("a", "", {}, None)
    for one in (root, child, inner, other):
        history.attempt(one, attempt())
    below = [(one.id, [found.session_id for found in store.list_calls(session_id=one.id)])
             for one in (root, child, inner, other)]  # fmt: skip
    assert below == [
        (root.id, [inner.id, child.id, root.id]),
        (child.id, [inner.id, child.id]),
        (inner.id, [inner.id]),
        (other.id, [other.id]),
    ]
    assert store.list_calls(session_id="nobody") == []


@pytest.mark.parametrize("few", [0, 2_000])
def test_tags_of_children(store: LogStore, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """A child has its root's tags but where it has its own, also a call of the same tactic; found
    alike where a tag is rare and where it is not."""
    monkeypatch.setattr(call_filter_sql, "_FEW_SESSIONS", few)
    history = History(store)
    root = history.start("a", "", {"env": "prod"}, None)
    same = history.start("a", "", {"env": "canary"}, root)
    other = history.start("b", "", {}, same)
    for one in (root, same, other, history.start("a", "", {}, None)):
        history.attempt(one, attempt())

    def tagged(value: str) -> list[str]:
        return [one.session_id for one in store.list_calls(tags={"env": value})]

    assert tagged("prod") == [other.id, root.id]
    assert tagged("canary") == [same.id]
    history.tag(same, {"env": "prod"}, ())
    assert tagged("prod") == [other.id, same.id, root.id]
    assert tagged("canary") == []
    assert store.rebuild(check=True).difference is None


def test_slowest_call(store: LogStore) -> None:
    """The slowest come first, also those that took nearly the same, and the running ones last."""
    history = History(store)
    session = history.start("a", "", {}, None)
    for elapsed in (5, 10**9 + 1, 10**9, 10**9 + 2, 7 * 10**10):
        history.attempt(session, attempt(elapsed=elapsed))
    history.attempt(session, attempt(ended=False))
    found = store.list_calls(sort="elapsed")
    assert [one.elapsed for one in found] == [70, 1.000000002, 1.000000001, 1, 5e-9, None]
    assert [one.elapsed for one in store.list_calls(sort="elapsed", slower="1s", limit=2)] == [
        70, 1.000000002,
    ]  # fmt: skip
    assert len(store.list_calls(slower=dt.timedelta(seconds=1))) == 4


def test_a_time_out_is_a_timeout(store: LogStore) -> None:
    """'timeout' finds what says 'timed out', and a type's name; what is asked is no pattern."""
    history = History(store)
    session = history.start("a", "", {}, None)
    errors = (Error("httpx.ReadTimeout", ""), Error("E", "It Timed out."), Error("E", "50%"))
    for request, error in enumerate(errors, 1):
        session.recorder.stage(LLMRequested(request=request, step=1, attempt=request, digest="",
                                            provider="openai", api="chat", model="m"))  # fmt: skip
        session.recorder.stage(LLMFailed(request=request, asked="m", error=error, elapsed=1))
    session.recorder.commit()
    assert len(store.list_calls(error="Timeout")) == 2
    assert [one.error for one in store.list_calls(error="0%")] == ["E: 50%"]
    assert store.list_calls(error="_") == []


def test_a_long_error_is_cut(store: LogStore) -> None:
    """A row keeps the first 500 characters of an error; the session has it all."""
    history = History(store)
    session = history.start("a", "", {}, None)
    session.recorder.stage(LLMRequested(request=1, step=1, attempt=1, digest="",
                                        provider="openai", api="chat", model="m"))  # fmt: skip
    long = "x" * 10_000
    session.recorder.stage(LLMFailed(request=1, asked="m", error=Error("E", long), elapsed=1))
    session.recorder.commit()
    [found] = store.list_calls()
    assert found.error == f"E: {'x' * 500}…"
    [trace] = store.load_session(session.id).invoke_traces
    assert trace.error is not None
    assert trace.error.message == long


def test_an_answer_whose_request_is_lost(store: LogStore) -> None:
    """An attempt of which only the end can be read counts all the same, as in the sums."""
    history = History(store)
    session = history.start("a", "", {}, None)
    session.recorder.stage(LLMFailed(request=1, asked="m", error=Error("E", "m"), elapsed=5))
    session.recorder.commit()
    [found] = store.list_calls()
    assert (found.asked, found.state, found.provider) == ("m", "failure", "")
    assert store.rebuild(check=True).difference is None


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"error": ""}, ValueError, "5xx"),
        ({"error": True}, ValueError, "5xx"),
        ({"slower": "soon"}, ValueError, "500ms"),
        ({"slower": -1}, ValueError, "positive"),
        ({"slower": float("nan")}, ValueError, "positive"),
        ({"slower": [1]}, TypeError, "timedelta"),
        ({"sort": "model"}, ValueError, "first_token"),
        ({"state": "done"}, ValueError, "interrupted"),
        ({"limit": -1}, ValueError, "calls"),
        ({"cursor": "nonsense"}, ValueError, "cursor"),
        ({"cursor": "cost.1.1.1"}, ValueError, "cursor"),
        ({"cursor": f"started.{2**63}.1.1"}, ValueError, "too large"),
    ],
)
def test_what_can_not_be_asked(
    file_store: LogStore, asked: dict[str, object], error: type[Exception], said: str
) -> None:
    """A filter that can't be is an error that says what can."""
    with pytest.raises(error, match=said):
        file_store.list_calls(**asked)  # type: ignore[arg-type] # what is tested


def test_sizes_are_in_order() -> None:
    """A larger amount never has a smaller size, and there are few sizes."""
    amounts = sorted({2**power + more for power in range(63) for more in (-1, 0, 1)})
    sizes = [size_of(amount) for amount in amounts]
    assert sizes == sorted(sizes)
    assert size_of(2**63 - 1) < LARGEST_SIZE == 1024
    assert size_of(None) == size_of(0) == size_of(-5) == 0


# -- stores of before, and those that may only be read


def without_calls(rows: str) -> None:
    """Make the rows, in this SQLite file, as they were before there were any of calls."""
    with closing(sqlite3.connect(rows)) as connection, connection:
        connection.execute("DELETE FROM checkpoints WHERE view = 'calls'")
        names = "SELECT type, name FROM sqlite_master WHERE name LIKE 'call%' AND type <> 'index'"
        for kind, name in connection.execute(names).fetchall():
            connection.execute(f"DROP {kind} {name}")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("name", ["runs.db", "runs"])
def test_older_stores(tmp_path: Path, name: str, read_only: bool) -> None:
    """A store that was written before there were rows of calls has them when it is opened; one that
    may only be read, too."""
    path = tmp_path / name

    def opened(read_only: bool = False) -> LogStore:
        if path.suffix:
            return LogStore(SQLiteBackend(path, read_only=read_only))
        return LogStore(LocalFileBackend(path, read_only=read_only))

    with opened() as store:
        history = History(store)
        history.attempt(history.start("a", "", {}, None), attempt())
        before = store.list_calls()
        rows = str(store._rows.database.path)
    without_calls(rows)
    with opened(read_only) as store:
        assert store.list_calls() == before
        assert len(before) == 1


# -- how they are answered


def test_lists_of_calls_use_indexes(file_store: LogStore) -> None:
    """No list reads a payload, and none goes through all attempts for a filter or an order that
    there is an index for; nothing is sorted that an index has in order."""
    history = History(file_store)
    for number in range(5):
        session = history.start("a", "", {"n": str(number % 2)}, None)
        history.attempt(session, attempt(elapsed=10**number))
        history.attempt(session, attempt(failed=True, status=429))
        history.attempt(session, attempt(failed=True, status=500))
        history.attempt(session, attempt(ended=False))
    file_store.list_calls()
    times = Filter(after=1, before=2**62)
    asked: list[tuple[CallFilter, CallSort, str]] = [
        (CallFilter(), "started", "_by_started"),
        (CallFilter(of=times), "started", "_by_started"),
        (CallFilter(), "elapsed", "COVERING INDEX calls_v1_by_elapsed_size_started_elapsed"),
        (CallFilter(of=times), "elapsed", "_by_elapsed_size_started"),
        (CallFilter(), "cost", "COVERING INDEX calls_v1_by_cost_size_started_cost_nanos"),
        (CallFilter(slower=1), "started", "_by_elapsed_size_started"),
        (CallFilter(statuses=(429, 429)), "started", "_by_status_started"),
        (CallFilter(of=times, statuses=(429, 429)), "started", "_by_status_started"),
        (CallFilter(statuses=(500, 599)), "started", "_by_status_started"),
        (CallFilter(error="m"), "started", "_by_state_started"),
        (CallFilter(of=Filter(state="failure")), "started", "_by_state_started"),
        (CallFilter(of=Filter(state="running")), "started", "_by_state_started"),
        (CallFilter(model="gpt-4o"), "started", "_by_kind_started"),
        (CallFilter(of=times, model="gpt-4o"), "started", "_by_kind_started"),
        (CallFilter(model="gpt-4o"), "elapsed", "_by_kind_started"),
        (CallFilter(of=Filter(tags={"n": "1"})), "started", "PRIMARY KEY (session=?)"),
        (CallFilter(session=session.id), "started", "PRIMARY KEY (session=?)"),
    ]
    database = file_store.backend.rows_database()  # type: ignore[attr-defined] # both kinds have one
    for wanted, sort, index in asked:
        statements: list[str] = []
        with database.snapshot() as connection:
            connection.set_trace_callback(statements.append)
            assert call_queries.list_calls(connection, wanted, 2, None, sort)
            connection.set_trace_callback(None)
            walks = [one for one in statements if "ORDER BY" in one]
            assert walks
            for statement in statements:
                explained = connection.execute(f"EXPLAIN QUERY PLAN {statement}")
                plan = [str(row[3]) for row in explained]
                assert not any(" events" in line for line in plan)
                if statement in walks:
                    assert any(index in line for line in plan), plan
                    equal = sort == "started" and wanted.session is None and not wanted.of.tags
                    if equal and wanted.statuses != (500, 599) and wanted.slower is None:
                        assert not any("TEMP B-TREE" in line for line in plan), plan
                for line in plan:
                    if "CONSTANT ROW" in line:
                        continue
                    scanned = line.removeprefix("SCAN ").partition("_v")[0].partition(" ")[0]
                    assert not line.startswith("SCAN") or index in line or scanned in SMALL, plan


# Small tables: kinds, facets' numbers, a page of keys, the sessions chosen.
SMALL = ("call_kinds", "(subquery-1)", "facet_numbers", "p", "f", "below")


@pytest.mark.parametrize(("least", "found"), [(None, [4, 2, 1]), (0, [4, 2, 1]), (10**9, [4])])
def test_sizes_from_a_least_amount(least: int | None, found: list[int]) -> None:
    """The sizes that there are, the largest first, down to that of the least amount."""
    few = {1: 1, 2: 2, 4: size_of(10**9)}
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE calls (elapsed_size INTEGER)")
        connection.executemany("INSERT INTO calls VALUES (?)", [(size,) for size in few.values()])
        sizes = call_filter_sql._sizes(connection, "elapsed_size", None, least)
        assert list(sizes) == [few[name] for name in found]


def test_a_forged_end_that_began_before_time(tmp_path: Path) -> None:
    """An end without its request has a row wherever its start would lie, and lists go on."""
    began = NewEvent(
        "a", 1, 0, "session.started", 1, b'{"tactic_path":"a","name":"a","salt":""}', _ANY
    )
    ends = [
        NewEvent(
            "a", seq, time, "llm.failed", 1,
            b'{"request":%d,"asked":"a","error":{"type":"a","message":"a"},"elapsed":%d}'
            % (seq, elapsed),
            _ANY,
        )
        for seq, time, elapsed in ((2, -(2**63), 1), (3, 2**63 - 1, -1))
    ]  # fmt: skip
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.log.append([began, *ends])
        assert {one.request for one in store.list_calls()} == {2, 3}
        assert store.rebuild(check=True).difference is None


_ANY = b"\0" * 32  # a digest; rows do not look at it
