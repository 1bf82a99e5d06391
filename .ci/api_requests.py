"""Asks the JSON API of a small store at random, and checks each answer against its description."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from lllm import LogStore, SQLiteBackend
from lllm.web.app import make_app
from lllm.web.server import listen, make_server


def main() -> int:
    """Serve a store and run schemathesis against it; its exit code."""
    with (
        tempfile.TemporaryDirectory() as folder,
        listen("127.0.0.1", 0) as sock,
        LogStore(SQLiteBackend(Path(folder) / "runs.db")) as store,
    ):
        for number in range(5):
            with store.session("ci::asked", task=f"task {number}", tags={"n": str(number)}):
                pass
        port = sock.getsockname()[1]
        server = make_server(make_app(store, token="ci-token", port=port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            return subprocess.run(
                [
                    Path(sys.executable).with_name("schemathesis"), "run",
                    f"http://127.0.0.1:{port}/api/openapi.json",
                    "--header", "Authorization: Bearer ci-token",
                    "--checks", "not_a_server_error,response_schema_conformance,"
                    "content_type_conformance,status_code_conformance",
                    "--max-examples", "30", "--phases", "coverage,fuzzing",
                ],
                check=False, cwd=folder,
            ).returncode  # fmt: skip
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
