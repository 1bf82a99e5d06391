"""Runs one test of the pytest plugin against a recorded session."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from lllm.events.errors import ReplayError
from lllm.events.redaction.redact import Redact, checked
from lllm.events.values.json_values import from_plain
from lllm.replay.divergence import ReplayDivergence, ReplayInterrupted
from lllm.replay.ignored_parts import Ignore
from lllm.replay.live_recording import LiveRecording
from lllm.replay.open_replay import recorded_task
from lllm.replay.progress import JudgedRequest
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.recording_file import read_file
from lllm.replay.recording_reader import read_recording
from lllm.replay.replay import Replay
from lllm.replay.target import ReplayTarget
from lllm.replay.verified_shapes import VerifiedShapes
from lllm.sessions.in_memory_host import InMemorySessionHost

Mode = Literal["replay", "record", "verify"]

_ANEW = "Record it anew with `pytest --lllm-record`, or by `lllm export ID --format jsonl`."


class RecordedTest:
    """The value of the fixture `lllm_replay`; the test runs inside its replay.

    Args:
        path: The path of the jsonl file of the recorded session.
        mode: "replay" to answer the test from the file; "record" to run the test live and write the
            file; "verify" to answer from the file and also ask the live model.
        ignore: Parts of requests that are not compared: key paths and patterns, as for
            `LogStore.replay`.
        live_tools: The names of tools that run instead of being answered from the file.
        redact: The rules by which secrets are cut out of recordings, and out of what is compared,
            as for `LogStore`; None to cut out nothing more than by default.

    Attributes:
        path: The path of the file of the recorded session.
        mode: "replay", "record" or "verify".
    """

    def __init__(
        self,
        path: Path,
        mode: Mode,
        *,
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
        redact: Redact | None = None,
    ) -> None:
        self.path = path
        self.mode = mode
        self._ignore = ignore
        self._live_tools = live_tools
        self._redact = checked(redact)
        self._recording: RecordedSession | None = None
        self._replay: Replay | None = None

    @property
    def recording(self) -> RecordedSession:
        """The recorded session; in the mode "record", the one that is about to be replaced.

        Raises:
            ReplayError: The file does not exist, or can't be read.
        """
        if self._recording is None:
            if not self.path.exists():
                raise ReplayError(f"There is no recording {self.path}. {_ANEW}")
            self._recording = read_recording(read_file(self.path), None, str(self.path))
        return self._recording

    @property
    def task(self) -> object:
        """The task that the recorded session was called with."""
        return recorded_task(lambda: None, self.recording)

    @property
    def delivery(self) -> object:
        """The recorded result of the session, as plain values; None if no result was recorded."""
        return None if self.recording.end is None else from_plain(self.recording.end.delivery)

    @property
    def requests(self) -> list[JudgedRequest]:
        """The requests that were compared so far, each with its place and its verdict."""
        return [] if self._replay is None else self._replay.requests

    def call(self, code: object) -> object:
        """Call a tactic, or a function under `@store.tactic`, with the recorded task and options.

        Args:
            code: The tactic or function to call.

        Returns:
            The result of the call; a coroutine if the function is async.

        Raises:
            ReplayError: The session is a call of another tactic, or its task can't be restored.
        """
        return ReplayTarget(code, "lllm_replay.call").recorded_call(self.recording)()

    @contextmanager
    def block(self) -> Iterator[None]:
        """Open the block in which the test runs.

        Raises:
            Failed: The test differs from the recording. This is the error of pytest; its message
                says what differs.
        """
        try:
            if self.mode == "record":
                yield from self._record()
            else:
                yield from self._answer()
        except (ReplayDivergence, ReplayInterrupted, ReplayError) as found:
            notes = "\n".join(getattr(found, "__notes__", ()))
            told = f"{found}\n{notes}".rstrip("\n")
            if str(self.path) not in told:
                told = f"{self.path}: {told}"
            if isinstance(found, ReplayDivergence) and self.mode == "replay":
                told += f"\nIf the code is right, the recording is stale. {_ANEW}"
            raise pytest.fail.Exception(told, pytrace=False) from None

    def _answer(self) -> Iterator[None]:
        replay = self._replay = Replay(
            self.recording,
            InMemorySessionHost(persists=True, redact=self._redact),
            ignore=self._ignore,
            live_tools=self._live_tools,
        )
        shapes = None
        if self.mode == "verify":
            shapes = replay.verified = VerifiedShapes(replay.recording)
        with replay:
            yield
        if replay.session_id is None:
            raise ReplayError(
                f"The test called nothing of {self.recording.tactic_path!r}, whose session "
                f"{self.recording.session_id} the recording is of. {_ANEW}"
            )
        if shapes is not None and shapes.differences:
            raise ReplayError("\n".join(["The live model answers otherwise.", *shapes.differences]))

    def _record(self) -> Iterator[None]:
        with LiveRecording(self._redact) as live:
            yield
        text = live.exported()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            new.write_text(text, encoding="utf-8", newline="\n")
            os.replace(new, self.path)
        finally:
            new.unlink(missing_ok=True)
