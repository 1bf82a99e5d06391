"""Reads the logs of Inspect: ZIP archives with a member for each sample, or one JSON object.

Members are compressed with Deflate, or by later versions with Zstandard (method 93 in
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), which Python reads since 3.14.
"""

from __future__ import annotations

import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from lllm.events.errors import MissingExtra, StoreError
from lllm.events.ids import new_salt
from lllm.events.model import SessionAnnotated
from lllm.events.statements import append_statement
from lllm.events.values.json_values import to_plain
from lllm.importing.transcripts.file_import import ImportedSession, Target, TranscriptFileImport
from lllm.importing.transcripts.inspect_log import NAME, EvalFacts, InspectSample, eval_of
from lllm.importing.transcripts.session_events import SessionSource
from lllm.importing.transcripts.sqlite_file import json_in
from lllm.importing.transcripts.transcript_json import LONGEST, Line, derived_id, time_of
from lllm.invokers.dialects.provider_json import items, mapping, text

_ZSTANDARD = 93
_HEADS = ("header.json", "_journal/start.json")  # the latter while the evaluation runs
_LOCAL_HEADER = struct.Struct("<26xHH")  # the lengths of the name and of the extra field
_MISSING = (
    "Logs of Inspect are compressed with Zstandard, which this Python lacks: "
    "pip install 'lllm[archive]'"
)


def folders() -> list[Path]:
    """List the folders in which Inspect writes logs: `logs`, where the command runs."""
    return [one for one in (Path("logs"),) if one.is_dir()]


def files_in(folder: Path) -> list[Path]:
    """List the logs in a folder, the oldest first; other JSON files may be beside them."""
    found = (*folder.rglob("*.eval"), *folder.rglob("????-??-??T*_*.json"))
    return sorted(one for one in found if one.is_file())


class InspectFile(TranscriptFileImport):
    """A log of Inspect, and how far it is imported; see TranscriptFileImport.

    Args:
        path: The file.
        target: Where its sessions go.
    """

    program = NAME
    has_many = True

    def __init__(self, path: Path, target: Target) -> None:
        super().__init__(path, target)
        self._facts: EvalFacts | None = None
        self._taken: set[str] = set()
        self._said: set[str] = set()

    def _say(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self.left_out.append(f"{self.path}: {why}")

    def new_lines(self) -> Iterator[Line]:
        """Read the new samples; see `TranscriptFileImport.new_lines`."""
        try:
            yield from self._archived() if zipfile.is_zipfile(self.path) else self._whole()
        except (StoreError, MissingExtra) as error:
            self._say(str(error))
        except (zipfile.BadZipFile, zlib.error, struct.error) as error:
            self._say(f"the archive can't be read: {error}")

    def _archived(self) -> Iterator[Line]:
        with zipfile.ZipFile(self.path) as archive:
            names = archive.namelist()
            head = next((one for one in _HEADS if one in names), None)
            self._note(json_in(b"" if head is None else _member(archive, head)))
            for name in names:
                if not name.startswith("samples/") or name in self._taken:
                    continue
                self._taken.add(name)
                if archive.getinfo(name).file_size > LONGEST:
                    self._say(f"{name} has more than {LONGEST:,} bytes; it is left out")
                    continue
                yield Line(1, {"name": name, "sample": json_in(_member(archive, name))})

    def _whole(self) -> Iterator[Line]:
        with self.path.open("rb") as file:
            found = file.read(LONGEST + 1)
        if len(found) > LONGEST:
            raise StoreError(
                f"it has more than {LONGEST:,} bytes; `inspect log convert --to eval` makes a log "
                "of it that can be read sample by sample"
            )
        whole = mapping(json_in(found))
        self._note(whole)
        for number, sample in enumerate(items(whole.get("samples")), 1):
            if f"sample {number}" not in self._taken:
                self._taken.add(f"sample {number}")
                yield Line(number, {"name": f"sample {number}", "sample": sample})

    def _note(self, header: object) -> None:
        """Read the head of the log. Raises StoreError if it is none of Inspect."""
        self._facts = eval_of(mapping(header))
        if self._facts is None:
            raise StoreError("it is not a log of Inspect, or only a part of one")
        version = mapping(header).get("version")
        if isinstance(version, int) and version > 2:
            self._say(
                f"it has version {version} of the format, and lllm knows 2; parts may be missing"
            )
        self.has_known = True

    def name_of(self, line: Line) -> str:
        """Find the name of a sample; see `TranscriptFileImport.name_of`."""
        return str((line.value or {}).get("name"))

    def take(self, line: Line) -> None:
        """Take a sample; see `TranscriptFileImport.take`."""
        facts = self._facts
        assert facts is not None
        name = self.name_of(line)
        sample = mapping((line.value or {}).get("sample"))
        events = [mapping(one) for one in items(sample.get("events"))]
        starts = [sample.get("started_at"), *(one.get("timestamp") for one in events)]
        began = next((found for one in starts if (found := time_of(one)) is not None), None)
        if began is None or sample.get("id") is None:
            self._say(f"{name} can't be read, or has no valid time; it is left out")
            return
        foreign = f"{facts.id}/{sample['id']}/{sample.get('epoch')}"
        one = self.begin_session(
            name,
            SessionSource(
                derived_id(began, NAME, foreign, text(sample.get("uuid")) or ""),
                foreign,
                f"{NAME}::{facts.task}",
                partition=self.target.partition,
            ),
            began,
        )
        del self._open[name]  # it is complete
        InspectSample(one.events, self.target.owners, facts, sample, began).write()
        one.write()
        self._score(one, mapping(sample.get("scores")))

    def _score(self, one: ImportedSession, scores: Mapping[str, object]) -> None:
        """Write scores as annotations; the name of the statement makes sure that it is once."""
        for name, found in scores.items():
            score = mapping(found)
            value = score.get("value")
            if isinstance(value, float) and not math.isfinite(value):
                value = None  # not scored
            salt = new_salt()
            append_statement(
                self.target.log,
                f"annotated-{derived_id(one.began, NAME, one.id, name, repr(value))}",
                SessionAnnotated(
                    about=one.id, name=name, value=to_plain(value),
                    comment=text(score.get("explanation")), by=NAME, salt=salt,
                ),
                salt=salt,
                redact=self.target.redact,
            )  # fmt: skip


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member. Raises BadZipFile, StoreError or MissingExtra."""
    info = archive.getinfo(name)
    if info.compress_type != _ZSTANDARD or sys.version_info >= (3, 14):
        return archive.read(name)
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra(_MISSING) from error
    assert archive.filename is not None
    with open(archive.filename, "rb") as file:
        file.seek(info.header_offset)
        lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        file.seek(sum(lengths), 1)
        packed = file.read(info.compress_size)
    try:
        found = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    except zstandard.ZstdError as error:
        raise StoreError(f"{name} is damaged: {error}") from error
    if zlib.crc32(found) != info.CRC:
        raise StoreError(f"{name} is damaged: its checksum is another one")
    return found
