"""Paths and URLs of stores."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lllm import ConfigError, LocalFileBackend, LogStore, SQLiteBackend
from lllm.cli import main
from lllm.logging import local_store, sqlite_store

OPENERS: list[Callable[[str], object]] = [
    LocalFileBackend,
    SQLiteBackend,
    local_store,
    sqlite_store,
]


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory and the home are the test's own."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def written(store: LogStore) -> LogStore:
    with store, store.session("job"):
        pass
    return store


def test_home_is_expanded(tmp_path: Path) -> None:
    """`~` is the home of whoever runs the program, for both kinds of store and for backups."""
    written(sqlite_store("~/x.db"))
    with local_store(Path("~/logs")) as store:
        written(store)
    assert (tmp_path / "home" / "x.db").is_file()
    assert (tmp_path / "home" / "logs" / "log.json").is_file()
    with sqlite_store("~/x.db") as store:
        store.backup("~/copy.db")
    assert sorted(os.listdir(tmp_path)) == ["home"]
    assert (tmp_path / "home" / "copy.db").is_file()


def test_sqlite_urls(tmp_path: Path) -> None:
    """sqlite:///x.db is relative, with a fourth slash absolute, and sqlite:// in memory."""
    written(sqlite_store("sqlite:///x.db"))
    assert (tmp_path / "x.db").is_file()
    written(LogStore(SQLiteBackend(f"sqlite:///{tmp_path}/y.db")))
    assert (tmp_path / "y.db").is_file()
    written(sqlite_store("SQLITE:///~/z.db"))
    assert (tmp_path / "home" / "z.db").is_file()
    for url in ("sqlite://", "sqlite:///:memory:"):
        backend = SQLiteBackend(url)
        assert backend.path == ":memory:"
        backend.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["x.db", "y.db"]


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/runs", "postgresql://me:hunter2@db/x", "https://a.b/c", "file:runs.db",
     "file:///tmp/runs.db", "FILE:x", "nats+tls://x", "sqlite+aiosqlite:///x.db"],
)  # fmt: skip
@pytest.mark.parametrize("opener", OPENERS)
def test_other_schemes_are_one_clear_error(
    tmp_path: Path, opener: Callable[[str], object], url: str
) -> None:
    """No folder of that name is made, and a password in it is not repeated."""
    with pytest.raises(ConfigError, match=r"no kind of store.* Give a path") as caught:
        opener(url)
    assert "hunter2" not in str(caught.value)
    assert os.listdir(tmp_path) == ["home"]


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite://host/x.db", "sqlite:///x.db?mode=ro"])
def test_sqlite_urls_that_mean_nothing(tmp_path: Path, url: str) -> None:
    """A host or options are refused, and shown how to write it."""
    with pytest.raises(ConfigError, match=r"sqlite:///runs\.db for one"):
        SQLiteBackend(url)
    with pytest.raises(ConfigError, match="no kind of store"):
        LocalFileBackend(url)
    assert os.listdir(tmp_path) == ["home"]


def test_nobody_s_home() -> None:
    """`~` of a user that there isn't is an error, not a folder called so."""
    with pytest.raises(ConfigError, match="Write the path in full"):
        SQLiteBackend("~nobody-has-this-name/x.db")


def test_a_colon_is_no_scheme(tmp_path: Path) -> None:
    """A name with a colon, or with a scheme behind ./, is a path like any other."""
    for name in ("a:b.db", "./s3:x.db", "12:30.db"):
        written(sqlite_store(name))
    assert {"a:b.db", "s3:x.db", "12:30.db"} <= set(os.listdir(tmp_path))


def test_the_command_line_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    """--store takes ~ and URLs, and says the same of others."""
    written(sqlite_store("~/x.db"))
    for name in ("~/x.db", "sqlite:///~/x.db"):
        assert main(["ls", "--store", name, "--json"]) == 0
        assert '"job"' in capsys.readouterr().out
    assert main(["ls", "--store", "s3://bucket"]) == 2
    assert "no kind of store" in capsys.readouterr().err
