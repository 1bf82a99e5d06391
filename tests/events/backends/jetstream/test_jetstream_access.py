"""Who may use the servers: users with passwords, with credentials, and over TLS."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nkeys
import pytest
from nacl.signing import SigningKey

from lllm.events.backends.jetstream.backend import JetStreamBackend
from lllm.events.errors import LogError
from lllm.testing.writers import batch
from tests.support import ROOT
from tests.support.certificates import certificate
from tests.support.nats import Cluster

pytestmark = pytest.mark.slow

USE = """
import sys
from lllm import LogStore
with LogStore.open(sys.argv[1]) as store, store.session("tests::far") as session:
    pass
with LogStore.open(sys.argv[1]) as store:
    print(store.load_session(session.session_id).state)
"""


def _works(url: str) -> None:
    log = JetStreamBackend(url, timeout=5.0)
    log.append(batch("s", 0))
    assert [one.stream for one in log.read()] == ["s"] * len(batch("s", 0))
    log.close()


def test_passwords() -> None:
    """A wrong one is refused with an error that does not show it."""
    servers = Cluster(settings='authorization: {user: ada, password: "s3cr:t@/"}')
    place = servers.url("runs").removeprefix("nats://")
    _works(f"nats://ada:s3cr%3At%40%2F@{place}")
    for login in ("ada:wrong-one@", ""):
        log = JetStreamBackend(f"nats://{login}{place}", timeout=1.0)
        with pytest.raises(LogError, match=r"[Aa]uthorization") as raised:
            log.append(batch("s", 1))
        assert "wrong-one" not in str(raised.value)
        log.close()
    servers.remove()


def test_tls(tmp_path: Path) -> None:
    """The certificate is checked against those that Python trusts, or SSL_CERT_FILE names."""
    certified, key = certificate(tmp_path / "tls")
    servers = Cluster(settings=f'tls: {{cert_file: "{certified}", key_file: "{key}"}}')
    url = servers.url("runs").replace("nats://", "tls://")
    command = [sys.executable, "-c", USE, url]
    trusting = os.environ | {"SSL_CERT_FILE": str(certified)}
    found = subprocess.run(command, cwd=ROOT, env=trusting, capture_output=True, text=True)
    assert found.stdout == "success\n", found.stderr
    log = JetStreamBackend(url, timeout=1.0)
    with pytest.raises(LogError, match="certificate verify failed"):
        log.head()
    log.close()
    servers.remove()


def test_credentials(tmp_path: Path) -> None:
    """A file of credentials opens the log of the account; one of a stranger does not."""
    operator, account = _Key(nkeys.PREFIX_BYTE_OPERATOR), _Key(nkeys.PREFIX_BYTE_ACCOUNT)
    system = _Key(nkeys.PREFIX_BYTE_ACCOUNT)
    limits = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1} | {
        "payload": -1, "wildcards": True, "mem_storage": -1, "disk_storage": -1, "streams": -1,
        "consumer": -1,
    }  # fmt: skip
    mine = operator.signed(account, {"type": "account", "limits": limits})
    own = operator.signed(system, {"type": "account"})
    servers = Cluster(
        settings=f"operator: {operator.signed(operator, {'type': 'operator'})}\n"
        f"system_account: {system.name}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account.name}: {mine}, {system.name}: {own} }}"
    )
    _works(f"{servers.url('runs')}?creds={_credentials(account, tmp_path / 'mine.creds')}")
    stranger = _Key(nkeys.PREFIX_BYTE_ACCOUNT)
    wrong = _credentials(stranger, tmp_path / "strange.creds")
    log = JetStreamBackend(f"{servers.url('runs')}?creds={wrong}", timeout=1.0)
    with pytest.raises(LogError, match=r"[Aa]uthorization"):
        log.head()
    log.close()
    servers.remove()


class _Key:
    """A key of an operator, an account or a user, and the claims that it signs.

    https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt
    """

    def __init__(self, kind: int) -> None:
        self.seed = nkeys.encode_seed(bytes(SigningKey.generate()), kind)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.name = self._pair.public_key.decode()

    def signed(self, subject: _Key, claims: dict[str, object]) -> str:
        """A JSON Web Token about somebody."""
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = {
            "jti": "1", "iat": int(time.time()), "iss": self.name, "sub": subject.name,
            "nats": {**claims, "version": 2},
        }  # fmt: skip
        told = f"{_text(json.dumps(head).encode())}.{_text(json.dumps(body).encode())}"
        return f"{told}.{_text(self._pair.sign(told.encode()))}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _credentials(account: _Key, file: Path) -> Path:
    user = _Key(nkeys.PREFIX_BYTE_USER)
    limits = {"type": "user", "subs": -1, "data": -1, "payload": -1}
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{account.signed(user, limits)}\n"
        "------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return file
