"""`lllm search`: hits with their words in colour, as JSON, and what it says when there are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from lllm import LogStore, SQLiteBackend
from lllm.cli.program import cli, main
from lllm.cli.render.search import show_hits
from lllm.times import zone_of

Search = Callable[..., Result]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which a few things were asked."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    with LogStore(SQLiteBackend(path)) as store:
        for number in range(3):
            with store.session(
                "shop::support", task=f"refund kettle {number}", tags={"env": "prod"}
            ):
                pass
        with store.session("shop::support", task="a \x1b[31m red\x1b[0m \u202ekettle[bold]x"):
            pass
    return path


@pytest.fixture
def search(path: Path) -> Search:
    """Runs the command with some arguments."""
    runner = CliRunner()

    def run(*arguments: str) -> Result:
        return runner.invoke(cli, ["search", "--store", str(path), *arguments], prog_name="lllm")

    return run


def test_each_hit_has_its_place_and_its_words(search: Search) -> None:
    """Session, time, role and tactic, and the text below; --json has what `store.search` gives."""
    result = search("refund", "kettle", "--utc", "--limit", "2")
    lines = result.output.splitlines()
    assert lines[0] == "times are UTC"
    assert lines[1].endswith("  task  shop::support")
    assert [line.strip() for line in lines[2::2]][:2] == ["refund kettle 2", "refund kettle 1"]
    assert "--cursor " in result.output
    cursor = result.output.rpartition("--cursor ")[2].strip()
    [last] = json.loads(search("refund", "--cursor", cursor, "--json").output)
    assert last["snippet"] == "refund kettle 0"
    assert last["matches"] == [[0, 6]]
    assert last["tags"] == {"env": "prod"}


def test_filters_and_order(search: Search) -> None:
    """Roles, tags, sessions and times select; --relevance says what it looked at."""
    assert len(json.loads(search("env=prod", "--role", "tag", "--json").output)) == 3
    assert len(json.loads(search("kettle", "--tag", "env=prod", "--json").output)) == 3
    hits = json.loads(search("kettle", "--relevance", "--json").output)
    assert len(hits) == 4
    assert all(hit["score"] > 0 for hit in hits)
    one = hits[0]["session_id"]
    assert len(json.loads(search("kettle", "--session", one[:20], "--json").output)) == 1
    assert search("kettle", "--before", "7d").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["nowhere"], "No message matches.", 1),
        (["(refund"], "'(' at character 1 opens a parenthesis that is not closed", 2),
        (["refund", "--role", "robot"], "robot", 2),
        ([], "QUERY", 2),
    ],
)
def test_what_cant_be_found_is_said(arguments: list[str], said: str, code: int, path: Path) -> None:
    """In one sentence, with the exit code of other commands."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LLLM_STORE", str(path))
        told: list[str] = []
        patched.setattr("click.echo", lambda text="", **_: told.append(str(text)))
        assert main(["search", *arguments]) == code
    assert any(said in line for line in told)


def test_what_was_found_is_coloured_and_nothing_else_is(path: Path) -> None:
    """On a terminal the words are in colour; codes, markup and turned text are shown as text."""
    with LogStore(SQLiteBackend(path)) as store:
        hits = store.search("kettle red")
    console = Console(force_terminal=True, color_system="standard", width=200, markup=False)
    with console.capture() as capture:
        show_hits(console, hits, zone_of("UTC"), {})
    out = capture.get()
    assert "\x1b[1;33mkettle\x1b[0m" in out
    assert "\\x1b[31m" in out
    assert "\x1b[31m" not in out
    assert "\u202e" not in out
    assert "[bold]" in out
