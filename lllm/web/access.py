"""Decides which requests get the page: those from this machine, to this address, with the token.

The server listens on a loopback address, which every account of the machine can reach. Therefore a
random token is needed, too. The address that the browser first opens contains the token; the answer
moves it into a cookie that no script can read, and the address bar no longer shows it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = ("GET", "HEAD")
_TOKEN = "token"  # the name of the parameter

# The browser loads only files of this server: no inline script or style, no frame, no other site.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_REFUSAL = (
    "This page needs its token. Open the address that `lllm web` printed when it was started; it "
    "ends with ?token=... If you came here by a link from another site, reload this page.\n"
)


def new_token() -> str:
    """Make a random token, which is valid for one run of the server."""
    return secrets.token_urlsafe(32)


class AccessGuard:
    """Passes a request to the page if its host, origin and token are right; refuses it otherwise.

    Args:
        app: The application that answers accepted requests.
        token: The token that requests need; None to require none.
        host: The address that the server listens on, for example "127.0.0.1".
        port: The port that the server listens on.
    """

    def __init__(self, app: ASGIApp, token: str | None, host: str, port: int) -> None:
        self._app = app
        self._token = token
        names = {host, "localhost", "127.0.0.1", "[::1]"}
        self._hosts = {f"{name}:{port}" for name in names}
        if port == 80:
            self._hosts |= names
        # All ports of a host share their cookies, so the name of the cookie contains the port.
        self._cookie = f"lllm_web_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see ASGI (https://asgi.readthedocs.io/en/latest/specs/)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope)
        await (self._app if answer is None else answer)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the refusal of a request; None if the request is accepted."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return PlainTextResponse(
                f"This server answers only requests to {', '.join(sorted(self._hosts))}. Open the "
                "address that `lllm web` printed.\n",
                421,
            )
        origin = headers.get("origin")
        if origin == "null" and headers.get("sec-fetch-site") == "same-origin":
            # A form of a page that sends no referrer: https://fetch.spec.whatwg.org/#origin-header
            origin = f"http://{hosts[0]}"
        if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
            return PlainTextResponse(
                "The request comes from another site's page, so it is refused. Open the address "
                "that `lllm web` printed.\n",
                403,
            )
        if scope["method"] not in SAFE_METHODS and origin is None and not _has_bearer(headers):
            return PlainTextResponse(
                "A request that changes something needs the header Origin.\n", 403
            )
        if self._token is None or scope["path"].startswith("/static/"):
            return None
        return self._without_token(scope, headers, self._token)

    def _without_token(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in pairs if name == _TOKEN]
        if given and scope["method"] in SAFE_METHODS:
            if not _same(given[0], token):
                return PlainTextResponse(_REFUSAL, 403)
            return self._welcome(scope["path"], pairs, token)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if _same(bearer, token) or _same(self._cookie_of(headers), self._cookie_value(token)):
            return None
        return PlainTextResponse(_REFUSAL, 403)

    def _welcome(self, path: str, pairs: list[tuple[str, str]], token: str) -> Response:
        """Redirect to the same address without the token, and set the cookie."""
        rest = urlencode([pair for pair in pairs if pair[0] != _TOKEN])
        path = "/" + path.lstrip("/\\")  # "//host" would be another site's address
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        answer.set_cookie(
            self._cookie, self._cookie_value(token), httponly=True, samesite="strict", path="/"
        )
        return answer

    @staticmethod
    def _cookie_value(token: str) -> str:
        """Compute the cookie's value: proof that the browser got the token, without the token."""
        return hashlib.sha256(f"lllm web cookie\n{token}".encode()).hexdigest()

    def _cookie_of(self, headers: Headers) -> str:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return "" if cookie is None else cookie.value


def _has_bearer(headers: Headers) -> bool:
    """True if a request has the token in a header, which a page of another site can't send."""
    return headers.get("authorization", "").startswith("Bearer ")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
