"""The files of a store are their owner's alone, whatever the umask, or a group's where a mode says
so; what is there already is left."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lllm.cli import main
from lllm.doctor.examine import examine
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.segments import segments_of
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.concurrency.liveness import Liveness, host
from lllm.events.errors import LogError
from lllm.events.integrity.backup import back_up
from lllm.logging import local_store, sqlite_store
from lllm.store.log_store import LogStore
from lllm.testing.writers import batch

Make = Callable[..., LogStore]
Backend = type[SQLiteBackend] | type[LocalFileBackend]
STORES = [pytest.param(sqlite_store, id="sqlite"), pytest.param(local_store, id="jsonl")]
BACKENDS = [pytest.param(one, id=one.__name__) for one in (SQLiteBackend, LocalFileBackend)]
FILES, FOLDERS = "files", "folders"


@pytest.fixture(params=[0o000, 0o177])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A umask that must not matter."""
    given: int = request.param
    before = os.umask(given)
    yield given
    os.umask(before)


def modes_below(folder: Path) -> dict[str, set[int]]:
    """The permissions of all that lies in a folder."""
    found: dict[str, set[int]] = {FILES: set(), FOLDERS: set()}
    for one in folder.rglob("*"):
        mode = stat.S_IMODE(one.lstat().st_mode)
        found[FOLDERS if one.is_dir() else FILES].add(mode)
    return found


def shout(store: LogStore, text: str) -> str:
    """A session in a store."""

    @store.tactic("shout")
    def shouting(text: str) -> str:
        return text.upper()

    return shouting(text)


def used(store: LogStore) -> None:
    """A store in which a session ran, and was listed."""
    assert shout(store, "a") == "A"
    assert len(store.list_sessions()) == 1


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("make", STORES)
@pytest.mark.parametrize(("mode", "folder"), [(None, 0o700), (0o660, 0o2770), (0o600, 0o700)])
def test_everything_has_the_mode(tmp_path: Path, make: Make, mode: int | None, folder: int) -> None:
    """Database, write-ahead log, segments, rows, locks and the folders above them, while a store is
    open and when it is closed."""
    store = make(tmp_path / "above" / "store", mode=mode)
    with closing(store):
        used(store)
        names = {one.name for one in tmp_path.rglob("*")}
        assert "write.lock" in names
        assert "write.queue" in names
        if make is sqlite_store:
            assert {"store-wal", "store-shm"} <= names
        assert modes_below(tmp_path) == {FILES: {mode or 0o600}, FOLDERS: {folder}}
    assert modes_below(tmp_path) == {FILES: {mode or 0o600}, FOLDERS: {folder}}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_and_exports(tmp_path: Path, backend: Backend) -> None:
    """A backup and an export are their owner's alone; an export to a file that is there leaves its
    permissions."""
    with closing(LogStore(backend(tmp_path / "store"))) as store:
        used(store)
        (found,) = store.list_sessions()
        back_up(store.backend, tmp_path / "copy")
    there = tmp_path / "there.json"
    there.touch()
    there.chmod(0o644)
    for path in (tmp_path / "new.json", there):
        given = ["export", "--store", str(tmp_path / "store"), found.session_id, "-o", str(path)]
        assert main(given) == 0
    assert stat.S_IMODE(there.stat().st_mode) == 0o644
    there.unlink()
    assert modes_below(tmp_path) == {FILES: {0o600}, FOLDERS: {0o700}}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("kind", ["torn", "damaged"])
def test_what_is_moved_aside(tmp_path: Path, kind: str) -> None:
    """So are the beginning of an append that was moved aside, and the copy that a repair keeps."""
    path = tmp_path / "logs"
    with closing(LocalFileBackend(path)) as log:
        log.append(batch("s", 1))
        log.append(batch("s", 2))
    (segment,) = segments_of(path)
    content = segment.path.read_bytes()
    if kind == "torn":
        segment.path.write_bytes(content[:-9])
        with closing(LocalFileBackend(path)) as log:
            log.append(batch("t", 1))
    else:
        segment.path.write_bytes(content.replace(b"\n", b"\r\n"))
        assert main(["repair", "--store", str(path)]) == 0
    assert list(path.glob(f"*.{kind}"))
    assert modes_below(tmp_path) == {FILES: {0o600}, FOLDERS: {0o700}}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mode", "folder"), [(None, 0o700), (0o660, 0o2770)])
def test_a_damaged_database(tmp_path: Path, mode: int | None, folder: int) -> None:
    """What is made while the pages of a damaged file are read, and by its repair: the new file, the
    copy of the old one, and the lock folder. A link that somebody
    planted under a name of these is not followed."""
    path = tmp_path / "runs.db"
    with closing(sqlite_store(path, mode=mode)) as store:
        used(store)
    with path.open("r+b") as file:
        file.write(bytes(4096))  # the first page, without which SQLite can't open it
    shutil.rmtree(tmp_path / "runs.db-lllm")
    store = LogStore(SQLiteBackend(path, mode=mode))
    with pytest.warns(RuntimeWarning, match="can't write its log"):
        assert shout(store, "b") == "B"
    assert modes_below(tmp_path) == {FILES: {mode or 0o600}, FOLDERS: {folder}}
    with pytest.warns(RuntimeWarning, match="could not write"):
        store.close()
    decoy = tmp_path / "decoy"
    decoy.write_bytes(b"somebody else's")
    decoy.chmod(mode or 0o600)
    for planted in ("runs.db.kept", "runs.db.kept-wal", "runs.db.new"):
        (tmp_path / planted).symlink_to(decoy)
    assert main(["repair", "--store", str(path)]) == 0
    assert decoy.read_bytes() == b"somebody else's"
    assert len(list(tmp_path.glob("*.damaged"))) == 1
    assert modes_below(tmp_path) == {FILES: {mode or 0o600}, FOLDERS: {folder}}
    with closing(sqlite_store(path)) as store:
        assert len(store.list_sessions()) == 1


@pytest.mark.parametrize("make", STORES)
def test_what_is_there_is_left(tmp_path: Path, make: Make) -> None:
    """A store that others may read stays so, and doctor says how it is; so it does of a folder in
    which everybody may write."""
    path = tmp_path / "store"
    make(path).close()
    main_file = path if path.is_file() else path / "log.json"
    with closing(make(path)) as store:
        used(store)
        for one in (path, *path.glob("*.jsonl")) if path.is_dir() else (path,):
            one.chmod(0o644 if one.is_file() else 0o757)
        tmp_path.chmod(0o757)
        mode = stat.S_IMODE(main_file.stat().st_mode)
        remarks = [one for one in examine(store).remarks if one.about == "access"]
        assert [one.severity for one in remarks] == ["warning", "warning"]
        assert "Everybody on this machine may make and remove files" in remarks[0].says
        assert "mode 0644" in remarks[1].says
    with closing(make(path, mode=0o660)) as store:
        assert shout(store, "b") == "B"
    assert stat.S_IMODE(main_file.stat().st_mode) == mode
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("make", STORES)
def test_doctor_says_how_files_are(tmp_path: Path, make: Make) -> None:
    """What a store's owner, or its group, has alone is as it should be."""
    for mode, says in ((0o600, "their owner's (0600)"), (0o660, "their group's too (0660)")):
        with closing(make(tmp_path / f"store{mode}", mode=mode)) as store:
            used(store)
            remarks = [one for one in examine(store).remarks if one.about == "access"]
            assert remarks[-1].severity == "ok"
            assert says in remarks[-1].says


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_shared_store_stays_shared(tmp_path: Path, backend: Backend) -> None:
    """Who opens a shared store without a mode makes files that the others can use."""
    with closing(LogStore(backend(tmp_path / "store", mode=0o660))) as store:
        used(store)
    before = os.umask(0o077)
    try:
        with closing(LogStore(backend(tmp_path / "store"))) as store:
            if isinstance(store.backend, LocalFileBackend):
                store.backend._shared.tail.segment_bytes = 1
            assert shout(store, "b") == "B"
            assert len(store.list_sessions()) == 2
            assert modes_below(tmp_path) == {FILES: {0o660}, FOLDERS: {0o2770}} or (
                backend is SQLiteBackend
            )
            assert modes_below(tmp_path)[FILES] == {0o660}
    finally:
        os.umask(before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_mode_in_a_process(tmp_path: Path, backend: Backend) -> None:
    """Another mode than a store is open with is an error; none is the one that it is open with; and
    a pickled backend has its own."""
    with closing(backend(tmp_path / "store", mode=0o660)) as log:
        with pytest.raises(LogError, match=r"open in this process with mode=0o660.*mode=0o600"):
            backend(tmp_path / "store", mode=0o600)
        backend(tmp_path / "store").close()
        with closing(pickle.loads(pickle.dumps(log))) as other:
            assert other.mode == 0o660
        log.append(batch("s", 1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", [0o060, 0o400, 0o770, 0o2660, "0660", True, -1])
def test_modes_that_can_not_be(tmp_path: Path, backend: Backend, mode: object) -> None:
    """A mode without its owner, or that is none of files, is refused before anything is made."""
    with pytest.raises(ValueError, match="permissions"):
        backend(tmp_path / "store", mode=mode)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# All is imported and used once before the process becomes another user's, who may not be able to
# read where Python is installed.
_AS_ANOTHER = """
import os, sys
from contextlib import closing
from pathlib import Path
from lllm.events.concurrency.liveness import Liveness, host
from lllm.logging import local_store, sqlite_store

def run(path):
    make = sqlite_store if sys.argv[1] == "sqlite" else local_store
    with closing(make(path)) as store:

        @store.tactic("shout")
        def shout(text):
            return text.upper()

        return shout("a"), len(store.list_sessions())

run(sys.argv[4] + "-before")
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[2]))
os.umask(0o077)
if sys.argv[1] == "dead":
    print(Liveness(Path(sys.argv[4])).is_dead(sys.argv[5], host()))
else:
    print(*run(sys.argv[4]))
"""


def as_another(user: int, group: int, *given: str) -> str:
    """What a process says that another user runs, where this one may make such."""
    first, *rest = given
    command = [sys.executable, "-c", _AS_ANOTHER, first, str(user), str(group), *rest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of this test's own that other users reach, where those of a group may make files.
    What lies above `tmp_path` is this user's alone."""
    if os.getuid() != 0:
        yield tmp_path
        return
    with TemporaryDirectory() as name:
        os.chown(name, -1, 4_242)
        os.chmod(name, 0o2775)
        yield Path(name)


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
def test_a_team_shares_a_store(open_folder: Path, kind: str) -> None:
    """Users of one group write one store in turn, and together."""
    make = sqlite_store if kind == "sqlite" else local_store
    path = open_folder / "store"
    with closing(make(path, mode=0o660)) as store:
        used(store)
        assert as_another(4_001, 4_242, kind, str(path)) == "A 2"
        assert as_another(4_002, 4_242, kind, str(path)) == "A 3"
        shout(store, "b")
        assert len(store.list_sessions()) == 4
    assert as_another(4_001, 4_242, kind, str(path)) == "A 5"
    with closing(make(path)) as store:
        assert len(store.list_sessions()) == 5


def test_a_lock_that_can_not_be_read(open_folder: Path) -> None:
    """Another user, who can't open a process's lock, doesn't take it for dead; nor does one where a
    link stands in its place."""
    locks = open_folder / "locks"
    mine = Liveness(locks)
    owner = mine.owner()
    if os.getuid() == 0:
        locks.chmod(0o755)  # its names can be seen; the files can't be opened
    mine.close(keep_file=True)
    if os.getuid() == 0:
        assert as_another(4_001, 4_001, "dead", str(locks), owner) == "False"
    assert Liveness(locks).is_dead(owner, host())  # its owner may ask
    lock = locks / f"{owner}.lock"
    lock.rename(locks / "decoy")
    lock.symlink_to(locks / "decoy")
    assert not Liveness(locks).is_dead(owner, host())
