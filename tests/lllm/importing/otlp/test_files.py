"""Files of OTLP: compressed, growing, renamed and emptied while they are read."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lllm
from lllm.events.errors import StoreError
from lllm.importing.otlp.otlp_file import FollowedFiles
from tests.support.otlp import JSON, genai, request, write


def trace(number: int) -> JSON:
    return request(genai(number, trace=f"{number:032x}"))


def line(number: int) -> str:
    return json.dumps(trace(number)) + "\n"


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_gzip(store: lllm.LogStore, tmp_path: Path) -> None:
    """By its content, whatever its name; a second time, nothing is new."""
    path = tmp_path / "spans.jsonl.gz"
    path.write_bytes(gzip.compress((line(1) + line(2)).encode()))
    assert store.import_otlp(path).sessions == 2
    again = store.import_otlp(path)
    assert (again.sessions, again.events, again.known, again.left_out) == (0, 0, 2, ())


@pytest.mark.parametrize("cut", ["half", "noise"])
def test_gzip_that_is_broken(cut: str, store: lllm.LogStore, tmp_path: Path) -> None:
    """What is before the damage is imported, with one message; so are the other files."""
    path = tmp_path / "spans.jsonl.gz"
    first = gzip.compress(line(1).encode())
    second = gzip.compress((line(2) * 40).encode())
    path.write_bytes(first + (second[: len(second) // 2] if cut == "half" else b"noise" * 9))
    found = store.import_otlp(path, write(tmp_path / "other.jsonl", trace(3)))
    assert found.sessions >= 2
    assert len(found.left_out) == 1
    assert "can't be decompressed" in found.left_out[0]


def test_a_growing_file(store: lllm.LogStore, tmp_path: Path) -> None:
    """A torn last line waits for its rest."""
    path = write(tmp_path / "spans.jsonl", trace(1))
    following = FollowedFiles(store, [path])
    following.read()
    add(path, line(2)[:100])
    following.read()
    add(path, line(2)[100:])
    found = following.read()
    assert found.left_out == ()
    assert following.finish().sessions == 2
    assert store.import_otlp(path).events == 0


def test_a_file_that_is_renamed(store: lllm.LogStore, tmp_path: Path) -> None:
    """What was written to it just before is read; a half line is named."""
    path = write(tmp_path / "spans.jsonl", trace(1))
    following = FollowedFiles(store, [path])
    following.read()
    add(path, line(2) + line(3)[:100])
    path.rename(tmp_path / "spans.jsonl.1")
    following.read()  # there is no file at the moment
    write(path, trace(4))
    found = following.read()
    assert found.left_out == (
        f"{path}, line 3: it was cut off when the file was replaced; it is left out",
    )
    assert following.finish().sessions == 3


def test_a_file_that_is_emptied(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(tmp_path / "spans.jsonl", trace(1), trace(2))
    following = FollowedFiles(store, [path])
    following.read()
    os.truncate(path, 0)
    following.read()
    add(path, line(3))
    assert following.read().left_out == ()
    assert following.finish().sessions == 3


def test_a_compressed_file_is_not_followed(store: lllm.LogStore, tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl.gz"
    path.write_bytes(gzip.compress(line(1).encode()))
    with pytest.raises(StoreError, match="does not grow"):
        FollowedFiles(store, [path])


@pytest.mark.slow
def test_the_command_follows(tmp_path: Path) -> None:
    """It says what it imports; Ctrl-C writes what waits."""
    path = write(tmp_path / "spans.jsonl", trace(1))
    command = [
        sys.executable, "-m", "lllm", "import", "--store", str(tmp_path / "runs.db"),
        "--follow", str(path),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "imported" in process.stderr.readline()  # the first is written while it runs
    add(path, line(2))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith("Imported from ")
