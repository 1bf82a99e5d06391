"""A reader under watch: a process of its own asks a store everything, so that a hang, a crash or a
bomb in memory is an answer that a test can refuse, and no end of the test run."""

from __future__ import annotations

import faulthandler
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from lllm import LogStore
from lllm.cli import main
from lllm.cli.open_store import open_store
from lllm.events import follow as following
from lllm.events.errors import LogError, StoreError
from lllm.terminal_safe import UNSAFE
from tests.support import ROOT

T = TypeVar("T")

# Seconds for one question; a healthy answer takes a hundredth of it. Not for all questions of a
# store: where its pages have to be looked through, each of thirty runs a process for that, and
# together these take minutes on a machine that is busy.
PATIENCE = 20.0
_MEMORY = 3 << 30  # bytes of address space
# What Python prints where the garbage collector runs while JSON is decoded that is nested as deep
# as it allows: nothing at all can be called there, neither by us nor by Python.
_BY_PYTHON = re.compile(
    r"(Exception ignored in .*\n(Traceback .*\n( .*\n)+)?RecursionError: maximum recursion .*\n)+"
)
_GROUPS = ("tactic", "model", "agent", "day", "tag:k")


class Hung(AssertionError):
    """A question was not answered in time, or the process that asked it is gone."""


class Answer(NamedTuple):
    """What was answered badly, nothing where all is well; and the ids of the sessions listed."""

    problems: list[str]
    listed: list[str]


class Watched:
    """A process that asks stores, one after another.

    Use it as a context manager. A process that hangs or dies is replaced by another.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile("a+b")  # noqa: SIM115 # closed by __exit__

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._end(signal.SIGKILL)
        self._said.close()

    def ask(self, path: Path, *, sessions: int = 20, briefly: bool = False) -> Answer:
        """Ask a store everything.

        sessions: how many of them are looked at. briefly: with fewer commands. Raises Hung.
        """
        child = self._child or self._begin()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps([str(path), sessions, briefly]).encode() + b"\n")
        child.stdin.flush()
        reply = b""
        until = time.monotonic() + PATIENCE
        while not reply.endswith(b"\n"):
            rest = until - time.monotonic()
            ready = rest > 0 and select.select([child.stdout], [], [], rest)[0]
            if not ready or not (data := os.read(child.stdout.fileno(), 1 << 16)):
                raise Hung(f"{path}: {self._end(signal.SIGABRT)}")
            reply += data
            until = time.monotonic() + PATIENCE  # one more question is answered
        return Answer(*json.loads(reply))

    def _begin(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(
            [sys.executable, "-c", "from tests.support.watched import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=ROOT,
        )
        return self._child

    def _end(self, with_signal: signal.Signals) -> str:
        """End the process; returns what it said last, with SIGABRT where it was."""
        child, self._child = self._child, None
        if child is None:
            return ""
        child.send_signal(with_signal)
        child.communicate()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace")[-3_000:]
        self._said.truncate(0)
        return f"ended with {child.returncode}\n{said}"


# -- in the process that asks


def serve() -> None:
    """Answer what `Watched.ask` writes, until it goes away."""
    import resource

    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    following.time = _NeverWaits()  # type: ignore[attr-defined] # `tail` ends where it would wait
    for line in sys.stdin:
        path, sessions, briefly = json.loads(line)

        def answered() -> None:
            replies.write(" ")  # in front of the JSON
            replies.flush()

        problems, listed = _of_api(Path(path), sessions, answered)
        for found in _of_commands(Path(path), listed[:sessions], briefly):
            answered()
            problems += found
        replies.write(json.dumps([problems, listed]) + "\n")
        replies.flush()


class _NeverWaits:
    """The module `time`, for the one that follows a log: nobody else's waiting is cut short."""

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """As Ctrl-C would end it."""
        if seconds >= 0.05:
            raise KeyboardInterrupt
        time.sleep(seconds)  # a second look at what may be just being written


def _of_api(path: Path, sessions: int, answered: Callable[[], None]) -> tuple[list[str], list[str]]:
    problems: list[str] = []

    def asked(what: str, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except (LogError, StoreError):
            return None
        except Exception as error:
            problems.append(f"{what}: {_told(error)}")
            return None
        finally:
            answered()

    store = asked("open", lambda: open_store(str(path)))
    if store is None:
        return problems, []
    with store:
        listed = [one.session_id for one in asked("list", store.list_sessions) or ()]
        asked("lag", lambda: store.lag)
        for group in _GROUPS:
            asked(f"cost by {group}", partial(store.export_cost_summary, group_by=group))
        asked("follow", lambda: _followed(store))
        for session_id in listed[:sessions]:
            for question in (_record, _cost, _events, _json, _jsonl):
                asked(f"{question.__name__} {session_id!r}", partial(question, store, session_id))
        asked("check", lambda: store.rebuild(check=True))
        asked("rebuild", store.rebuild)
        asked("list again", store.list_sessions)
    return problems, listed


def _record(store: LogStore, session_id: str) -> object:
    return store.load_session_record(session_id)


def _cost(store: LogStore, session_id: str) -> object:
    return store.load_session(session_id).total_cost


def _events(store: LogStore, session_id: str) -> object:
    return list(store.events(session_id))


def _json(store: LogStore, session_id: str) -> object:
    return json.loads(store.export_session(session_id).encode())


def _jsonl(store: LogStore, session_id: str) -> object:
    lines = store.export_session(session_id, "jsonl").encode().split(b"\n")
    return [json.loads(line, parse_int=str) for line in lines[:-1]]


def _followed(store: LogStore) -> int:
    return sum(1 for _ in following.follow(store.log, after=0, stop=lambda: True))


def _of_commands(path: Path, session_ids: list[str], briefly: bool) -> Iterator[list[str]]:
    """What is wrong with each command."""
    at = ("--store", path)
    yield _command("ls", "--limit", "0", *at)
    yield _command("tail", "-n", "50", *at)
    yield _command("cost", "--by", "tag:k", *at)
    # These can be given on a command line.
    ids = [one for one in session_ids if one and "\0" not in one and one[0] != "-"]
    for session_id in ids:
        yield _command("show", session_id, *at)
        yield _command("events", session_id, *at)
        if not briefly:
            yield _command("show", session_id, "--json", *at)
            yield _command("events", session_id, "--json", *at)
            yield _command("export", session_id, *at)
    for session_id in ids[:1]:
        yield _command("tag", session_id, "a=b", *at)
    if briefly:
        return
    yield _command("ls", "--json", "--limit", "0", *at)
    yield _command("tail", "-n", "50", "--json", *at)
    for group in _GROUPS:
        yield _command("cost", "--by", group, *at)
    yield _command("cost", "--json", *at)
    for session_id in ids[:1]:
        yield _command("tail", "-n", "50", "--session", session_id, *at)
    yield _command("rebuild", "--check", *at)
    yield _command("rebuild", *at)


def _command(*arguments: object) -> list[str]:
    """What is wrong with how a command ended, and with what it printed."""
    name = " ".join(str(one) for one in arguments[:-2])[:100]
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(one) for one in arguments])
    except BaseException as error:
        return [f"lllm {name}: {_told(error)}"]
    problems: list[str] = []
    said, complained = out.getvalue(), _BY_PYTHON.sub("", err.getvalue())
    if code not in (0, 1, 2) or (code == 2 and not complained.startswith("lllm: ")):
        problems.append(f"lllm {name}: code {code}, {complained!r}")
    told = complained.splitlines()
    if len(told) > 3 or not all(line.startswith("lllm: ") for line in told):
        problems.append(f"lllm {name}: complains in {complained!r}")
    if "--json" not in arguments and "export" not in arguments:
        shown = UNSAFE.search((said + complained).replace("\n", ""))
        if shown:
            problems.append(f"lllm {name}: prints {shown[0]!r}")
    return problems


def _told(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in place if "/tests/" not in frame.filename][-3:]
    where = ", ".join(f"{Path(one.filename).name}:{one.lineno}" for one in ours)
    return f"{type(error).__name__}: {str(error)[:200]} ({where})"
