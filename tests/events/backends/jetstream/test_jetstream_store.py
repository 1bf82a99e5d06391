"""What a store promises, it promises in NATS JetStream: erasure, liveness, lost servers, limits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lllm import LogStore
from lllm.events.backends.jetstream import lease_liveness
from lllm.events.backends.jetstream.backend import JetStreamBackend
from lllm.events.errors import AppendTooLarge, LogError
from lllm.events.integrity.verify import verify
from lllm.testing.writers import batch, event, without_positions
from tests.lllm.test_lesson7 import CONFIG, MyTactic
from tests.support import ROOT, nats_network
from tests.support.nats import Cluster, new_stream, server
from tests.support.waiting import HANG

pytestmark = pytest.mark.slow

WRITER = """
import sys, time
from lllm import LogStore
from lllm.events.backends.jetstream import lease_liveness
lease_liveness.LEASE = 2
store = LogStore.open(sys.argv[1])
with store.session("tests::far"):
    print("running", flush=True)
    time.sleep(100)
"""


def test_a_dead_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a process lives, its session runs; when it was killed, the session is interrupted."""
    monkeypatch.setattr(lease_liveness, "_FRESH", 0.0)
    url = server().url(new_stream())
    with LogStore.open(url) as store:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"running\n"
        time.sleep(3)  # longer than a lease: it was renewed
        assert [one.state for one in store.list_sessions()] == ["running"]
        writer.send_signal(signal.SIGKILL)
        writer.wait(HANG)
        writer.stdout.close()
        until = time.monotonic() + HANG
        while [one.state for one in store.list_sessions()] != ["interrupted"]:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_what_the_servers_write_to_the_disk() -> None:
    """The monitoring addresses tell, or the user; where neither does, nothing is claimed."""
    synced = Cluster(sync=True)
    for servers, monitors, expected in (
        (synced, synced.monitors, "power"),
        (synced, [*synced.monitors, *server().monitors], "process"),
        (synced, [*synced.monitors, "http://127.0.0.1:1"], None),
        (synced, [], None),
    ):
        query = f"?monitor={','.join(monitors)}" if monitors else ""
        log = JetStreamBackend(servers.url("runs") + query)
        assert log.health(0, read_bytes=None).durability == expected
        log.close()
    log = JetStreamBackend(synced.url("runs") + "?sync=always")
    assert log.health(0, read_bytes=None).durability == "power"
    log.close()
    synced.remove()


def test_what_a_store_can_do(tmp_path: Path) -> None:
    """Sessions are searched, verified, sealed and replayed, and move to a file and back."""
    with (
        LogStore.open(server().url(new_stream())) as store,
        LogStore.open(server().url(new_stream())) as other,
        LogStore.open(tmp_path / "runs.db") as file,
    ):
        assert MyTactic(CONFIG, log_store=store)("a lighthouse") == "writer says so"
        [found] = store.list_sessions()
        assert {hit.session_id for hit in store.search("lighthouse")} == {found.session_id}
        assert verify(store.backend).damages == ()
        assert str(len(list(store.backend.read()))) in store.seal().splitlines()
        loaded = store.load_session(found.session_id)
        for source, target in ((store, file), (file, other)):
            target.import_sessions(source.backend)
            assert target.load_session(found.session_id) == loaded
            assert verify(target.backend).damages == ()
        with other.replay(found.session_id):
            assert MyTactic(CONFIG, log_store=other)("a lighthouse") == "writer says so"


def test_an_erased_text_is_in_no_file_of_the_stream(tmp_path: Path) -> None:
    """The messages of a payload are overwritten; the rest of the session can be read."""
    servers = Cluster()
    text = "a secret that is erased"
    with LogStore.open(servers.url("runs") + f"?rows={tmp_path}/rows.sqlite") as store:
        with store.session("tests::erased", task=text) as session:
            pass
        assert text.encode() in b"".join(_blocks(servers.folder))
        store.erase_session(session.session_id, reason="asked")
        assert [one.type for one in store.backend.read()][:2] == [
            "session.started", "session.succeeded",
        ]  # fmt: skip
    assert text.encode() not in b"".join(_blocks(servers.folder))
    servers.remove()


def _blocks(folder: Path) -> list[bytes]:
    return [one.read_bytes() for one in folder.rglob("*.blk")]


def test_an_append_of_too_many_messages() -> None:
    """It is refused as a whole, with the limit in the message; 999 of a stream are stored."""
    log = JetStreamBackend(server().url(new_stream()))
    with pytest.raises(AppendTooLarge, match="at most 1,000"):
        log.append([event("s", n + 1) for n in range(1_000)])
    assert log.head() == 0
    assert len(log.append([event("s", n + 1) for n in range(999)])) == 999
    log.close()


def test_servers_that_are_killed() -> None:
    """What was acknowledged is there, once and in order: one server is killed, then all."""
    servers = Cluster(3)
    log = JetStreamBackend(servers.url("runs"), timeout=20.0)
    acknowledged = 0

    def go_on(count: int) -> None:
        nonlocal acknowledged
        for _ in range(count):
            log.append(batch("s", acknowledged))
            acknowledged += 1

    go_on(20)
    for group in ((0,), (0, 1, 2)):
        for number in group:
            servers.signal(number, signal.SIGKILL)
        if len(group) == 1:
            go_on(5)  # the other two go on
        for number in group:
            servers.start(number)
        go_on(5)
    stored = without_positions(log.read())
    assert stored == [one for number in range(acknowledged) for one in batch("s", number)]
    log.close()
    servers.remove()


@pytest.mark.parametrize("fault", ["the leader is cut off from the others", "all disks are full"])
def test_faults_of_a_network_and_of_disks_of_their_own(fault: str) -> None:
    """Writers go on through a server that has a majority; nothing acknowledged is lost."""
    if not nats_network.possible():
        pytest.skip("this machine gives a process no network of its own (Linux namespaces)")
    command = [sys.executable, "-m", "benchmarks", "jetstream-faults", "--each", "--only", fault]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * HANG)
    assert found.returncode == 0, found.stdout + found.stderr


def test_digests() -> None:
    """They are read without the payloads, in the order of the events, from any position."""
    log = JetStreamBackend(server().url(new_stream()))
    log.append([event("a", 1), event("b", 1), event("a", 2), event("c", 1)])
    log.append(batch("b", 1))
    found = [(one.position, one.digest) for one in log.read()]
    for after in (0, *(position for position, _ in found)):
        for upto in (None, *(position for position, _ in found)):
            read = [one for page in log.read_digests(after=after, upto=upto) for one in page]
            last = found[-1][0] if upto is None else upto
            assert read == [one for one in found if after < one[0] <= last]
    log.close()


def test_following() -> None:
    """An append is heard of without a look at the log."""
    url = server().url(new_stream())
    log, other = JetStreamBackend(url), JetStreamBackend(url)
    log.append(batch("s", 0))
    with other.announcements() as news:
        begin = time.monotonic()
        log.append(batch("s", 1))
        assert news.wait(HANG)
        assert time.monotonic() - begin < news.silence
        assert not news.wait(0.0)
        assert not news.wait(1.5 * news.silence)  # the server says that it has nothing to tell
    log.close()
    other.close()


def test_no_server() -> None:
    """The error names the servers, without the password."""
    log = JetStreamBackend("nats://ada:secret@127.0.0.1:1/runs", timeout=0.5)
    with pytest.raises(LogError, match=r"ada@127\.0\.0\.1:1/runs") as raised:
        log.append(batch("s", 0))
    assert "secret" not in str(raised.value)
    assert "not known" not in str(raised.value)  # nothing was sent
    log.close()
