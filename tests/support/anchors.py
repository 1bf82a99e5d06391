"""Anchors on this machine: a time-stamping authority (`openssl ts`) and C2SP witnesses.

    with Authority(folder) as authority:
        store.seal(timestamp=authority.url)

Each can be told to misbehave: `answer` takes the answer that would be given and gives another one.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from witness_log import WitnessService

from lllm.audit.cosignature import WitnessKey
from lllm.audit.keys import PublicKey

Answer = tuple[int, bytes]

# No `certs`: only the certificate of the signer is put into a token, as its request asks for.
_CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
CN = unused
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
"""


class Loopback:
    """A server of one address that takes POST requests.

    Attributes:
        url: Its address.
        requests: The bodies of all requests.
        answer: Makes the answer that is sent of the right one, as a test wants it.
        slow: Answers come byte by byte until this is set.
    """

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answer: Callable[[Answer], Answer] = lambda right: right
        self.slow = threading.Event()
        self.slow.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(body)
                status, content = outer.answer(outer.right(self.path, body))
                with suppress(OSError):  # nobody waits any more
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    while content and not outer.slow.wait(0.05):
                        self.wfile.write(content[:1])
                        content = content[1:]
                    self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def right(self, path: str, body: bytes) -> Answer:
        """The right answer."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.slow.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Authority(Loopback):
    """A time-stamping authority, with a root of its own.

    Attributes:
        root: The file with the certificate of its root, PEM.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        self._folder = folder
        self.root = folder / "root.pem"
        (folder / "cnf").write_text(_CONFIGURATION.format(folder=folder))
        key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout"
        self._run(f"req -x509 {key} root.key -out root.pem -days 9 -subj /CN=root -extensions root")
        self._run(f"req {key} signer.key -out signer.csr -subj /CN=signer")
        self._run(
            "x509 -req -in signer.csr -CA root.pem -CAkey root.key -set_serial 2 -days 9 "
            "-extfile cnf -extensions signer -out signer.pem"
        )

    def right(self, path: str, body: bytes) -> Answer:  # noqa: ARG002
        (self._folder / "query").write_bytes(body)
        self._run("ts -reply -queryfile query -out reply")
        return 200, (self._folder / "reply").read_bytes()

    def checks(self, seal: Path, token: Path) -> bool:
        """Whether openssl takes the token of a seal."""
        done = subprocess.run(
            ["openssl", "ts", "-verify", "-data", seal, "-in", token, "-CAfile", self.root],
            capture_output=True,
            timeout=30,
        )
        return done.returncode == 0

    def _run(self, command: str) -> None:
        configured = "" if command.startswith("x509") else " -config cnf"
        arguments = ["openssl", *(command + configured).split(" ")]
        done = subprocess.run(arguments, cwd=self._folder, capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr


class LoopbackWitness(Loopback):
    """A witness, by another implementation than lllm's.

    Attributes:
        key: Its public key.
    """

    def __init__(self, name: str = "witness.example/w1") -> None:
        super().__init__()
        self._service = WitnessService.new(name, name.encode()[:32].ljust(32, b"-"))
        self.key = WitnessKey.parse(self._service.vkey())

    def knows(self, log: PublicKey) -> Self:
        """Add a log that it cosigns."""
        assert self._service.add_log(log.name, str(log))
        return self

    def right(self, path: str, body: bytes) -> Answer:
        if path != "/add-checkpoint":
            return 404, b"no such page"
        status, text = self._service.handle_add_checkpoint(body.decode())
        return status, text.encode()
