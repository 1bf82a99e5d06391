"""Imports the transcripts of a coding agent: finds the files, and takes what is new in each."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from lllm.events.backend import Progress
from lllm.events.backends.location import local_path
from lllm.events.errors import LogReadOnly, StoreError
from lllm.importing.transcripts import (
    claude_code,
    codex,
    codex_file,
    gemini_cli_file,
    inspect_file,
    inspect_log,
    llm_logs,
    llm_logs_file,
    opencode_file,
    opencode_messages,
)
from lllm.importing.transcripts.call_owners import CallOwners
from lllm.importing.transcripts.claude_code_file import ClaudeCodeFile
from lllm.importing.transcripts.codex_file import CodexFile
from lllm.importing.transcripts.file_import import Target, TranscriptFileImport
from lllm.importing.transcripts.gemini_cli_file import GeminiCliFile
from lllm.importing.transcripts.inspect_file import InspectFile
from lllm.importing.transcripts.llm_logs_file import LlmLogsFile
from lllm.importing.transcripts.opencode_file import OpencodeFile
from lllm.importing.transcripts.transcript_json import first_time
from lllm.store.methods.store_parts import StoreParts


class Program(NamedTuple):
    """A program whose transcripts can be imported.

    Attributes:
        file: The class that imports one of its files.
        folders: A function that lists the folders in which it keeps them.
        where: These folders, in words.
        files: A function that lists its files in a folder.
        in_order: A function that sorts files: a session comes before its sub-agents and before its
            copies.
    """

    file: type[TranscriptFileImport]
    folders: Callable[[], list[Path]]
    where: str
    files: Callable[[Path], list[Path]]
    in_order: Callable[[list[Path]], list[Path]]


def _json_lines(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*.jsonl") if one.is_file())


def _oldest_first(is_subagent: Callable[[Path], bool]) -> Callable[[list[Path]], list[Path]]:
    def in_order(files: list[Path]) -> list[Path]:
        return sorted(files, key=lambda path: (is_subagent(path), *_age(path)))

    return in_order


def _age(path: Path) -> tuple[int, int, str]:
    """Order files: the oldest first, and of copies the one that ended first."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return first_time(path), changed, path.name


PROGRAMS = {
    claude_code.NAME: Program(
        ClaudeCodeFile,
        claude_code.folders,
        "~/.claude/projects, ~/.config/claude/projects or the folder that CLAUDE_CONFIG_DIR names",
        _json_lines,
        _oldest_first(claude_code.is_subagent),
    ),
    codex.NAME: Program(
        CodexFile,
        codex_file.folders,
        "~/.codex/sessions or the folder that CODEX_HOME names",
        _json_lines,
        _oldest_first(lambda _: False),
    ),
    "gemini": Program(
        GeminiCliFile,
        gemini_cli_file.folders,
        "~/.gemini/tmp or that folder in GEMINI_CLI_HOME",
        gemini_cli_file.files_in,
        _oldest_first(gemini_cli_file.is_subagent),
    ),
    opencode_messages.NAME: Program(
        OpencodeFile,
        opencode_file.folders,
        "~/.local/share/opencode or that folder in XDG_DATA_HOME",
        opencode_file.files_in,
        list,
    ),
    inspect_log.NAME: Program(
        InspectFile,
        inspect_file.folders,
        "the folder logs",
        inspect_file.files_in,
        list,
    ),
    llm_logs.NAME: Program(
        LlmLogsFile,
        llm_logs_file.folders,
        "the folder of the configuration of llm, or that which LLM_USER_PATH names",
        llm_logs_file.files_in,
        list,
    ),
}
"""The programs whose transcripts can be imported, by name."""


class ImportedTranscripts(msgspec.Struct, frozen=True):
    """The result of an import of transcripts.

    Attributes:
        files: The number of files that were read.
        sessions: The number of sessions, at any depth, that the store did not have.
        events: The number of events that were added to sessions.
        known: The number of sessions that the store had already, completely or in part.
        left_out: What was not imported and why, one text each.
        unknown: Kinds of lines that this version does not know, and the number of such lines.
    """

    files: int
    sessions: int
    events: int
    known: int
    left_out: tuple[str, ...] = ()
    unknown: dict[str, int] = {}


def open_transcripts(
    store: StoreParts, program: str, places: Sequence[str | os.PathLike[str]]
) -> TranscriptImport:
    """Prepare an import, which can be continued while the transcripts grow.

    Args:
        store: The store to import into.
        program: One of `PROGRAMS`.
        places: Files and folders; none for those in which the program keeps its transcripts.

    Returns:
        The import; each `read` takes what is new.

    Raises:
        ValueError: lllm can't read the transcripts of this program.
        StoreError: A place does not exist.
        LogError: The store can't be read or written.
    """
    if program not in PROGRAMS:
        known = ", ".join(map(repr, PROGRAMS))
        raise ValueError(f"lllm imports the transcripts of {known}, and not of {program!r}.")
    return TranscriptImport(store, program, [local_path(one) for one in places])


class TranscriptImport:
    """Imports transcripts into a store, once or again and again while they grow.

    Args:
        store: The store.
        program: One of `PROGRAMS`.
        places: Files and folders; none for the folders in which the program keeps them.

    Raises:
        StoreError: A place does not exist, or there is none.
        LogReadOnly: The store was opened for reading only.
    """

    def __init__(self, store: StoreParts, program: str, places: Sequence[Path]) -> None:
        if store.read_only:
            raise LogReadOnly(f"{store.backend!r} was opened to be read only; nothing is imported.")
        self._name, self._program = program, PROGRAMS[program]
        self._places = list(places) or self._program.folders()
        if not self._places:
            raise StoreError(
                f"There are no transcripts of {program} in {self._program.where}. Give the folder "
                "to import."
            )
        for one in self._places:
            if not one.exists():
                raise StoreError(f"There is no file or folder {one}.")
        self._target = Target(
            store.log, store.redact, store.prices, store.partition, CallOwners(store.log), {}, {}
        )
        self._files: dict[Path, TranscriptFileImport] = {}

    def read(self, progress: Progress | None = None) -> ImportedTranscripts:
        """Import what is new in all files.

        Args:
            progress: A function that is called with the bytes read so far and all bytes.

        Returns:
            All that was imported since this object was made.
        """
        self._find()
        sizes = {path: path.stat().st_size for path in self._files if path.exists()}
        done, total = 0, sum(sizes.values())
        for path, file in self._files.items():
            file.read(time.time_ns())
            done += sizes.get(path, 0)
            if progress is not None:
                progress(done, total)
        return self._result()

    def _find(self) -> None:
        """Find new files; a session comes before its sub-agents and before its copies."""
        program = self._program
        found = [
            path
            for place in self._places
            for path in ([place] if place.is_file() else program.files(place))
        ]
        new = [path for path in dict.fromkeys(found) if path not in self._files]
        for path in program.in_order(new):
            self._files[path] = program.file(path, self._target)

    def _result(self) -> ImportedTranscripts:
        files = self._files.values()
        sessions = [one for file in files for one in file.sessions]
        new = [one for one in sessions if not one.was_there and one.appended]
        unknown: Counter[str] = Counter()
        for file in files:
            unknown.update(file.unknown)
        nothing = [
            f"{file.path}: no line of it is of a session of {self._name}"
            for file in files
            if file.is_foreign
        ]
        return ImportedTranscripts(
            files=len(self._files),
            sessions=len(new),
            events=sum(one.appended for one in sessions),
            known=sum(one.was_there for one in sessions),
            left_out=(*(text for file in files for text in file.left_out), *nothing),
            unknown=dict(unknown),
        )
