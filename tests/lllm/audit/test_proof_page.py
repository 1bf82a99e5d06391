"""The page of a proof checks itself in a real browser, and asks nobody for anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lllm import LogStore
from lllm.audit.keys import PrivateKey
from lllm.audit.proof import Proof, parse_proof
from lllm.audit.proof_page import proof_page
from lllm.events.backends.memory import MemoryBackend
from tests.support.proof_vectors import FILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KEY = PrivateKey("example.com/log", b"k" * 32)
OTHER = PrivateKey("example.com/log", b"o" * 32)
HOSTILE = (
    "</script><script>document.title='bad'</script><img src=//x.invalid onerror=alert(1)>%PROOF%"
)


@pytest.fixture(scope="module")
def proof() -> Proof:
    """Of a session with everything in it that a page must not believe."""
    with LogStore(MemoryBackend()) as store:
        with store.session(HOSTILE, task={"html": HOSTILE, "turned": "\u202e\u2028 ö"}) as session:
            session.deliver(HOSTILE)
        return store.prove(session.session_id, store.seal(key=KEY), key=KEY.public)


@contextmanager
def opened(browser: Browser, path: Path, html: str) -> Iterator[Page]:
    """The page, opened from a file; at its end, nothing but the file was asked for."""
    path.write_text(html, encoding="utf-8")
    context = browser.new_context()
    tab = context.new_page()
    troubles: list[str] = []
    tab.on("console", lambda one: troubles.append(one.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("dialog", lambda one: (troubles.append(one.message), one.dismiss()))
    tab.on("request", lambda one: troubles.append(one.url) if one.url != path.as_uri() else None)
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-checked]")
    yield tab
    assert troubles == []
    context.close()


def verdict(tab: Page) -> str | None:
    return tab.get_attribute("body", "data-checked")


def test_a_good_proof(browser: Browser, proof: Proof, tmp_path: Path) -> None:
    """The key inside is not enough; with one that is typed in it is good, with another wrong. What
    a log says is shown as text."""
    with opened(browser, tmp_path / "proof.html", proof_page(proof)) as tab:
        assert "Don't rely on this page alone" in tab.inner_text("body")
        assert verdict(tab) == "unknown"
        assert "The checkpoint is signed with the key inside this page" in tab.inner_text("#checks")
        assert "complete, nothing of it is missing" in tab.inner_text("#checks")
        tab.fill("#key", f" {KEY.public} ")
        tab.wait_for_selector("body[data-checked=good]")
        tab.fill("#key", str(OTHER.public))
        tab.wait_for_selector("body[data-checked=wrong]")
        tab.fill("#key", "nonsense")
        tab.wait_for_selector("body[data-checked=wrong]")
        assert tab.title() == "Proof of a session"
        shown = tab.inner_text("#streams")
        assert HOSTILE in shown
        assert "\u202e" not in shown
        assert "\\u202e" in shown
        assert tab.locator("img").count() == 0
        assert tab.locator("script").count() == 2


def test_a_page_that_was_tampered_with(browser: Browser, proof: Proof, tmp_path: Path) -> None:
    """It says that it is wrong; scripts that somebody put in do not run."""
    page = proof_page(proof)
    assert parse_proof(page.encode()) == proof
    changed = page.replace('"seq":1,', '"seq":3,')
    with opened(browser, tmp_path / "changed.html", changed) as tab:
        assert verdict(tab) == "wrong"
    (tmp_path / "more.html").write_text(
        page.replace("</body>", "<script>document.title = 'bad'</script></body>")
    )
    tab = browser.new_page()
    tab.goto((tmp_path / "more.html").as_uri())
    tab.wait_for_selector("body[data-checked]")
    assert tab.title() == "Proof of a session"
    tab.close()


def test_the_vectors(browser: Browser, proof: Proof, tmp_path: Path) -> None:
    """The page says of each test vector of docs/proofs.md what is to be said."""
    vectors: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    with opened(browser, tmp_path / "proof.html", proof_page(proof)) as tab:
        for vector in vectors:
            said = tab.evaluate(_ASK, [vector["proof"], vector["key"]])
            assert said == vector["says"], vector["name"]


# What the script of the page finds, in the form of the vectors.
_ASK = """async ([text, key]) => {
  const of = (results, at) => results.at(at)[0];
  try {
    const proof = JSON.parse(text, withoutNull);
    const results = await check(proof, key);
    const complete = proof.streams.map((one, at) => [one.stream, of(results, at + 1) === "good"]);
    return { events: of(results, 0), complete: Object.fromEntries(complete),
             signature: of(results, -1) };
  } catch { return { events: "wrong" }; }
}"""
