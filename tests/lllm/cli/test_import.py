"""`lllm import` says what it added, and what it refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lllm.cli import main
from lllm.logging import sqlite_store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An exported session, its id as the first line of its path's neighbour."""
    with sqlite_store(tmp_path / "origin.db") as store:
        with store.session("p::one") as session:
            pass
        exported = tmp_path / "one.jsonl"
        exported.write_text(store.export_session(session.session_id, "jsonl"))
    return exported


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit code of a command, and what it prints."""
    code = main([str(one) for one in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_what_was_added(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The store is made where there is none; the second time, everything is there."""
    new = ("import", file, "--store", file.with_name("new.db"))
    assert run(capsys, *new) == (0, "Imported: 1 session, 2 events.\n", "")
    here = "Imported: 0 sessions, 0 events; 1 session already here.\n"
    assert run(capsys, *new) == (0, here, "")
    code, out, _ = run(capsys, *new, "--json")
    assert (code, json.loads(out)) == (
        0, {"sessions": 0, "events": 0, "known": 1, "refused": []},
    )  # fmt: skip


def test_what_was_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each reason is a line on stderr that names file and line, and the exit code is 1."""
    first, second = file.read_text().splitlines()
    bad = file.with_name("bad.jsonl")
    bad.write_text(f"{first}\n{second.replace('succeeded', 'failed')}\n")
    worse = file.with_name("worse\x1b[31m.jsonl")
    worse.write_text(f"{first}\n\x1b[2J\n")
    arguments = ("import", bad, worse, file, "--store", file.with_name("new.db"))
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "Imported: 1 session, 2 events.\n")
    one, two = err.splitlines()
    assert one.startswith(f"lllm: {bad}, line 2: event 2 of ")
    assert r"worse\x1b[31m.jsonl, line 2: this is not an event" in two
    assert "\x1b" not in err
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 1
    assert len(json.loads(out)["refused"]) == 2


def test_many_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only some of very many reasons are printed, and how many more there are."""
    files = [file.with_name(f"{number}.jsonl") for number in range(25)]
    for one in files:
        one.write_text("nothing\n")
    code, _, err = run(capsys, "import", *files, "--store", file.with_name("new.db"))
    assert code == 1
    assert len(err.splitlines()) == 20
    assert err.endswith(" And 5 more, which --json has.\n")


def test_bad_usage(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to import, or nothing there, is exit code 2."""
    store = ("--store", file.with_name("new.db"))
    assert run(capsys, "import", *store)[0] == 2
    code, _, err = run(capsys, "import", file.with_name("no.jsonl"), *store)
    assert (code, err) == (2, f"lllm: There is no file {file.with_name('no.jsonl')}.\n")
    code, _, err = run(capsys, "import", "s3://bucket/x", *store)
    assert (code, "s3: is no kind of store" in err) == (2, True)
    assert run(capsys, "import", file.with_name("new.db"), *store)[0] == 2
