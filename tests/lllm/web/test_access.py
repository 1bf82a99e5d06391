"""Who gets the page: requests with its token, its host and its origin, and no others."""

from __future__ import annotations

import socket

import pytest

from lllm import ConfigError, LogStore, SQLiteBackend
from lllm.web.server import listen
from tests.support.web_page import TOKEN, Served, served


def test_without_the_token_nothing_is_told(page: Served) -> None:
    session_id = page.store.list_sessions(limit=1)[0].session_id
    for path in ("/", f"/sessions/{session_id}", "/cost", "/live", "/sums", "/nothing", "/store"):
        for headers in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer other"},
            {"Cookie": f"lllm_web_{page.port}=other"},
            {"Cookie": f"lllm_web_{page.port}={TOKEN}"},  # the cookie is not the token
        ):
            status, _, text = page.get(path, headers=headers)
            assert (status, "needs its token" in text) == (403, True), (path, headers)
            assert session_id not in text


def test_the_address_gives_a_cookie_and_loses_the_token(page: Served) -> None:
    status, headers, _ = page.get(f"/cost?by=model&token={TOKEN}", headers={})
    assert (status, headers["location"]) == (303, "/cost?by=model")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    name_and_value = cookie.partition(";")[0]
    assert page.get("/cost?by=model", headers={"Cookie": name_and_value})[0] == 200
    assert page.get("/?token=other", headers={"Cookie": name_and_value})[0] == 403


def test_the_redirect_stays_here(page: Served) -> None:
    for path in ("//192.0.2.1/", "/%5C192.0.2.1/", "//192.0.2.1/%2e%2e"):
        _, headers, _ = page.get(f"{path}?token={TOKEN}", headers={})
        location = headers.get("location", "/")
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))


def test_other_hosts_and_origins_are_refused(page: Served) -> None:
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    port = page.port
    for host in (
        "example.com", f"example.com:{port}", "127.0.0.1:1", f"127.0.0.1.nip.io:{port}",
        f"127.0.0.1:{port}.example.com", "",
    ):  # fmt: skip
        assert page.get("/", headers={**allowed, "Host": host})[0] == 421, host
    assert page.get("/", headers={**allowed, "Host": f"localhost:{page.port}"})[0] == 200
    for origin in (
        "http://example.com",
        "null",
        f"https://127.0.0.1:{page.port}",
        "http://127.0.0.1:1",
    ):
        assert page.get("/", headers={**allowed, "Origin": origin})[0] == 403, origin
    assert page.get("/", headers={**allowed, "Origin": page.address})[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(page: Served, method: str) -> None:
    session_id = page.store.list_sessions(limit=1)[0].session_id
    for path in ("/", f"/sessions/{session_id}", "/live", "/api/sessions"):
        status, _, _ = page.get(path, method=method, headers={"Authorization": f"Bearer {TOKEN}"})
        assert status == 405


def test_every_answer_has_its_policy(page: Served) -> None:
    for path in ("/", "/static/page.js", "/nothing", "/?state=x"):
        _, headers, _ = page.get(path)
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"


def test_static_files_are_only_its_own(page: Served) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/"):
        assert page.get(path)[0] in (404, 405), path


def test_it_listens_on_this_machine_only() -> None:
    for host in ("0.0.0.0", "", "192.0.2.1", "example.com"):
        with pytest.raises(ConfigError, match="this machine only"):
            listen(host, 0)


def test_a_port_in_use() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_without_authentication(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("open") / "runs.db"
    with LogStore(SQLiteBackend(path)) as store, served(store, token=None) as page:
        assert page.get("/", headers={})[0] == 200
        assert page.get("/", headers={"Host": "example.com"})[0] == 421


def test_answers_are_not_held_back() -> None:
    """asyncio sets TCP_NODELAY for connections that name TCP; else each answer takes 40 ms more."""
    with (
        listen("127.0.0.1", 0) as sock,
        socket.create_connection(sock.getsockname()),
        sock.accept()[0] as accepted,
    ):
        assert accepted.proto == socket.IPPROTO_TCP
