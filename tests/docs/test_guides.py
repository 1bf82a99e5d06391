"""The guides in `docs/`: what they show runs, where what they need is installed, and is Python
everywhere; their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lllm.instrumentation.wrapped_clients import _NAMES
from tests.support import ROOT, run_guide

GUIDES = sorted((ROOT / "docs").rglob("*.md"))
FRAMEWORKS = ROOT / "docs" / "frameworks"
PAGES = [guide for guide in GUIDES if guide.parent == FRAMEWORKS and guide.name != "README.md"]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: str(guide.relative_to(ROOT)))
def test_the_links_of_a_guide(guide: Path) -> None:
    """Each leads to a file, and each guide is in the table of contents of its folder."""
    text = guide.read_text()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert "://" in link or (guide.parent / link).exists(), link
    contents = guide.parent / "README.md"
    assert guide == contents or f"]({guide.name})" in contents.read_text()


def test_the_guide_to_all_frameworks_runs(tmp_path: Path) -> None:
    """Its program streams an answer, and finds the session that nobody recorded a call of."""
    printed, sessions = run_guide.run(FRAMEWORKS / "README.md", tmp_path)
    assert run_guide.SAID in printed
    assert "nobody recorded" not in printed
    [session] = sessions
    assert (session.tactic_path, session.state) == ("my_project::question", "success")
    assert (session.calls, session.unpriced_calls) == (1, 0)


def test_a_session_without_calls_is_seen(tmp_path: Path) -> None:
    """Where the client was not captured, the guide's program says so."""
    guide = tmp_path / "guide.md"
    text = (FRAMEWORKS / "README.md").read_text()
    captured = "lllm.capture(OpenAI(), log_store=store, ask_for_usage=True)"
    assert captured in text
    guide.write_text(text.replace(captured, "OpenAI()"))
    printed, [session] = run_guide.run(guide, tmp_path)
    assert f"nobody recorded a call of my_project::question {session.session_id}" in printed


@EACH_PAGE
def test_a_page_of_a_framework(page: Path) -> None:
    """It is short, but for one with two ways; its program is whole, captures something and has a
    session; and it says when it was tried, with the versions that the table has."""
    text = page.read_text()
    assert len(text.splitlines()) < (100 if "lllm.instrument(" in text else 60)
    program = ast.parse(run_guide.program_of(page))
    imported = {
        (node.module or "").partition(".")[0]
        for node in ast.walk(program)
        if isinstance(node, ast.ImportFrom)
    }
    assert "lllm" in imported
    calls = {ast.unparse(node.func) for node in ast.walk(program) if isinstance(node, ast.Call)}
    assert {"lllm.capture", "store.session"} <= calls
    for heard in ("ecorded", "ask_for_usage" if page.stem != "dspy" else "client"):
        assert heard in text
    tried = text[text.index("tried on ") :].replace("\n", " ")
    [row] = [
        line
        for line in (FRAMEWORKS / "README.md").read_text().splitlines()
        if line.startswith("|") and f"]({page.name})" in line
    ]
    for version in re.findall(r"[a-z-]+ \d[\d.]+", row.rpartition("|")[0].rpartition("|")[2]):
        assert version in tried
    assert re.match(r"tried on 2026-11-2[78] with", tried)


def test_the_attributes_that_the_pages_name() -> None:
    """Where a page says under which name something has its client, `capture` looks there."""
    said = {
        name
        for page in PAGES
        for name in re.findall(r"`\.(\w*client)`", page.read_text())
        if name != "_model_client"  # of an agent, which is refused with that name
    }
    assert said == {"root_client", "root_async_client", "_client", "_async_client", "client"}
    assert said <= set(_NAMES)
