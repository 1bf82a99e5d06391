"""A JSONL log whose end was deleted, emptied or replaced by an older copy: nobody writes to it, so
that no position is given twice, and everybody who looks is told."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lllm import LogStore
from lllm.cli.program import main
from lllm.events.backends.jsonl import lost_end as high_water
from lllm.events.backends.jsonl.backend import LocalFileBackend
from lllm.events.backends.jsonl.line_format import WHOLE
from lllm.events.backends.jsonl.lost_end import noted_in
from lllm.events.backends.jsonl.segments import segments_of
from lllm.events.backends.sqlite.backend import SQLiteBackend
from lllm.events.backends.sqlite.database import Durability
from lllm.events.errors import LogDamaged, LogUnavailable
from lllm.events.integrity.verify import verify
from lllm.events.log import follow
from lllm.testing.writers import batch, event, without_positions
from tests.support.echo import echo

Lose = Callable[[Path], None]


def last_of(path: Path) -> Path:
    """The file that appends go to."""
    return segments_of(path)[-1].path


def deleted(path: Path) -> None:
    """The last file is gone."""
    last_of(path).unlink()


def emptied(path: Path) -> None:
    """The last file has no bytes."""
    os.truncate(last_of(path), 0)


def older_copy(path: Path) -> None:
    """The last file is as it was some appends before."""
    lines = last_of(path).read_bytes().splitlines(keepends=True)
    count = max(number for number in range(len(lines)) if lines[number - 1].endswith(WHOLE))
    draft = path / "copy"
    draft.write_bytes(b"".join(lines[:count]))
    draft.rename(last_of(path))


def last_two_deleted(path: Path) -> None:
    """The last two files are gone."""
    deleted(path)
    deleted(path)


def all_deleted(path: Path) -> None:
    """No file of the log is left, nor what says its format."""
    for segment in segments_of(path):
        segment.path.unlink()
    (path / "log.json").unlink()


def a_folder_of_rows(path: Path) -> None:
    """The rows alone are left."""
    all_deleted(path)
    shutil.rmtree(path / "locks")


LOSSES: list[Lose] = [
    deleted, emptied, older_copy, last_two_deleted, all_deleted, a_folder_of_rows,
]  # fmt: skip
each_loss = pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A log of several files with rows, and the highest position that was given."""
    path = tmp_path_factory.mktemp("template") / "logs"
    with LogStore(LocalFileBackend(path, segment_bytes=3_000)) as store:
        for number in range(3):
            echo(store)(f"task {number}")
        while not 2 < last_of(path).read_bytes().count(b"\n") < 5:
            store.save_error(ValueError("one append"))
        store.list_sessions()
        head = store.log.head()
    assert len(segments_of(path)) > 3
    assert noted_in(path / "locks" / "write.lock") == head
    return path, head


@pytest.fixture
def written(template: tuple[Path, int], tmp_path: Path) -> tuple[Path, int]:
    """A copy of it."""
    shutil.copytree(template[0], tmp_path / "logs")
    return tmp_path / "logs", template[1]


@each_loss
def test_nothing_is_written(written: tuple[Path, int], lose: Lose) -> None:
    """An append is refused with one error that says what was reached, where the log ends and what
    to do; what is left can be read."""
    path, head = written
    with closing(LocalFileBackend(path)) as log:
        before = without_positions(log.read())
    lose(path)
    for _ in range(2):
        with closing(LocalFileBackend(path, segment_bytes=3_000)) as log:
            end = log.head()
            assert end < head
            for _ in range(2):
                with pytest.raises(LogDamaged) as met:
                    log.append(batch("new", 0))
                assert met.value.position == head
                assert f"at position {end}," in str(met.value)
                assert f"up to position {head} were acknowledged" in str(met.value)
                assert "lllm repair" in str(met.value)
                assert str(path) in str(met.value)
            left = without_positions(log.read())
            assert left == before[: len(left)]
            assert log.head() == end


@each_loss
def test_it_is_told(
    written: tuple[Path, int], lose: Lose, capsys: pytest.CaptureFixture[str]
) -> None:
    """`verify` and `doctor` name it and exit with 1, also of a store that they may only read."""
    path, head = written
    lose(path)
    for command in ("verify", "doctor"):
        assert main([command, "--store", str(path)]) == 1
        assert f"up to position {head} were" in " ".join(capsys.readouterr().out.split())
    with closing(LocalFileBackend(path, read_only=True)) as log:
        assert [damage.position for damage in verify(log).damages] == [head]


@each_loss
def test_a_store_goes_on(written: tuple[Path, int], lose: Lose) -> None:
    """A program that logs to it is told once and goes on; its rows stay, and a rebuild forgets
    nothing of what was reached."""
    path, head = written
    lose(path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with LogStore(LocalFileBackend(path, segment_bytes=3_000)) as store:
            assert len(store.list_sessions()) == 3
            assert echo(store)("more") == "more"
            assert echo(store)("more") == "more"
            assert store.log.head() < head
            store.rebuild()
            assert store.lag == 0
    texts = [str(one.message) for one in told]
    assert [text for text in texts if "its log; events wait" in text] == texts[:1]
    assert len(texts) == 2, texts  # the other says how many were lost at the close
    with (
        closing(LocalFileBackend(path)) as log,
        pytest.raises(LogDamaged, match=f"position {head}"),
    ):
        log.append(batch("new", 0))


@each_loss
def test_repair(written: tuple[Path, int], lose: Lose, capsys: pytest.CaptureFixture[str]) -> None:
    """`repair` has the log go on behind the highest position that was given, which is known
    when the machine starts again; what is missing stays named. Doing it again does nothing."""
    path, head = written
    lose(path)
    assert main(["repair", "--store", str(path)]) == 1
    assert f"{head:020}.jsonl: no position is used again" in capsys.readouterr().out
    restarted(path / "locks" / "write.lock")
    assert noted_in(path / "locks" / "write.lock") == head
    files = [segment.path for segment in segments_of(path)]
    with closing(LocalFileBackend(path)) as log:
        assert log.head() == head
        assert log.append(batch("new", 0))[0] > head
        assert without_positions(log.read(after=head)) == batch("new", 0)
        assert [damage.position for damage in verify(log).damages] == [head]
    assert main(["repair", "--store", str(path)]) == 1
    assert [segment.path for segment in segments_of(path)] == files
    with LogStore(LocalFileBackend(path)) as store:
        echo(store)("more")
        assert store.list_sessions(limit=1)[0].state == "success"
        assert store.rebuild(check=True).difference is None


@pytest.mark.parametrize("lose", [deleted, emptied, older_copy], ids=lambda lose: lose.__name__)
def test_what_is_put_back_is_whole(written: tuple[Path, int], lose: Lose) -> None:
    """Once the file is put back, the log is whole and goes on."""
    path, head = written
    file = last_of(path)
    shutil.copy(file, path.parent / "kept")
    lose(path)
    with closing(LocalFileBackend(path)) as log:
        with pytest.raises(LogDamaged):
            log.append(batch("new", 0))
        shutil.copy(path.parent / "kept", file)
        assert log.append(batch("new", 0))[0] > head
        assert verify(log).is_sound


@pytest.mark.parametrize("lose", [emptied, older_copy], ids=lambda lose: lose.__name__)
def test_while_it_is_written(written: tuple[Path, int], lose: Lose) -> None:
    """A process that has the log open notices it at its next append, writes behind a repair, and
    so does another."""
    path, head = written
    with closing(LocalFileBackend(path)) as log:
        head = log.append(batch("mine", 0))[-1]
        lose(path)
        for _ in range(2):
            with pytest.raises(LogDamaged, match="The end of a log is missing"):
                log.append(batch("mine", 1))
        code = "import sys; from lllm.cli.program import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "repair", "--store", str(path)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
        assert log.append(batch("mine", 1))[0] > head


def _append_and_die(path: Path) -> None:
    log = LocalFileBackend(path)
    for number in range(1, 4):
        log.append([event("killed", number)])
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("lose", [deleted, emptied, older_copy], ids=lambda lose: lose.__name__)
def test_behind_a_killed_writer(tmp_path: Path, lose: Lose) -> None:
    """What a killed process wrote is known to have been there."""
    path = tmp_path / "logs"
    process = multiprocessing.get_context("fork").Process(target=_append_and_die, args=(path,))
    process.start()
    process.join()
    with closing(LocalFileBackend(path)) as log:
        head = log.head()
        assert len(list(log.read())) == 3
    lose(path)
    with (
        closing(LocalFileBackend(path)) as log,
        pytest.raises(LogDamaged, match=f"position {head}"),
    ):
        log.append(batch("new", 0))


def test_a_writer_died_before_it_noted_its_append(written: tuple[Path, int]) -> None:
    """A log that goes on behind what is noted is whole."""
    path, head = written
    (path / "locks" / "write.lock").write_bytes(b"%020d\n" % (head - 500))
    with closing(LocalFileBackend(path)) as log:
        assert verify(log).is_sound
        assert log.append(batch("new", 0))[0] > head
    assert noted_in(path / "locks" / "write.lock") == last_end(path)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_power_was_lost(
    written: tuple[Path, int], durability: Durability, caplog: pytest.LogCaptureFixture
) -> None:
    """Events that nobody synced may be gone when the machine starts again: the log goes on, says so
    once, and the rows know of them no more. A note of synced events counts then, too."""
    path, head = written
    lock = path / "locks" / "write.lock"
    with closing(LocalFileBackend(path, durability=durability)) as log:
        head = log.append(batch("last", 0))[-1]
    restarted(lock)
    older_copy(path)
    lost = head - last_end(path)
    with closing(LocalFileBackend(path, durability=durability)) as log:
        if durability == "power":
            with pytest.raises(LogDamaged, match=f"position {head}"):
                log.append(batch("new", 0))
            return
    with LogStore(LocalFileBackend(path)) as store:
        assert store.rebuild(check=True).difference is None
        store.log.append(batch("new", 0))
        store.log.append(batch("new", 1))
        assert verify(store.log).is_sound
    assert caplog.text.count(f"the last {lost} bytes of the log are missing") == 1
    assert noted_in(lock) == last_end(path)


def restarted(lock: Path) -> None:
    """What is noted is of an earlier start of the machine."""
    lock.write_bytes(lock.read_bytes().replace(high_water.machine_start(), b"0" * 36))


def last_end(path: Path) -> int:
    """The position where the files end."""
    last = segments_of(path)[-1]
    return last.begin + last.path.stat().st_size


@pytest.mark.parametrize("note", [b"", b"0", b"x" * 21, b"%020d" % 7], ids=repr)
def test_a_note_that_is_none(written: tuple[Path, int], note: bytes) -> None:
    """Where the note says nothing, as in a store of an older lllm, the rows tell what was
    reached, before they are built anew."""
    path, head = written
    (path / "locks" / "write.lock").write_bytes(note)
    deleted(path)
    with LogStore(LocalFileBackend(path)) as store:
        assert len(store.list_sessions()) == 3
    (path / "rows.sqlite").unlink()
    with (
        closing(LocalFileBackend(path)) as log,
        pytest.raises(LogDamaged, match=f"position {head}"),
    ):
        log.append(batch("new", 0))


@pytest.mark.parametrize("lose", [deleted, emptied, older_copy], ids=lambda lose: lose.__name__)
def test_who_follows_is_told(written: tuple[Path, int], lose: Lose) -> None:
    """Who follows the log refuses where it ends before what was read, instead of waiting for what
    will never come, or taking it for something else."""
    path, _ = written
    with closing(LocalFileBackend(path)) as log:
        events = follow(log, after=log.head() - 1, poll=0.001)
        position = next(events).position
        lose(path)
        with pytest.raises(LogDamaged, match=f"was read up to position {position}") as met:
            next(events)
        assert met.value.position == position


def test_who_follows_an_older_database_is_told(tmp_path: Path) -> None:
    """The same of an SQLite log whose older copy was put in its place: the rows and the numbers
    are in that file, and a position alone tells that there was more."""
    with closing(SQLiteBackend(tmp_path / "runs.db")) as log:
        head = log.append(batch("s", 0))[-1]
        with pytest.raises(LogDamaged, match=f"ends at {head} now"):
            next(follow(log, after=head + 3, poll=0.001))


def test_a_file_in_the_middle(written: tuple[Path, int]) -> None:
    """A file in the middle that is missing, empty or an older copy is named; what comes behind it
    is read, and positions go on."""
    path, head = written
    middle = segments_of(path)[1]
    content = middle.path.read_bytes()
    first_line = content.splitlines(keepends=True)[0]
    for left in (None, b"", first_line):
        middle.path.unlink()
        if left is not None:
            middle.path.write_bytes(left)
        with closing(LocalFileBackend(path)) as log:
            (found,) = {damage.position for damage in verify(log).damages if not damage.stream}
            assert found == segments_of(path)[2 if left is not None else 1].begin
            assert log.append([event(f"new {left!r}", 1)])[0] > head
        middle.path.write_bytes(content)


def test_a_cut_in_the_middle_of_an_append_is_torn(
    written: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cut has left of an append is moved aside, and writing goes on, also where the next
    append can't be written any more."""
    path, _ = written
    os.truncate(last_of(path), last_of(path).stat().st_size - 5)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, closing(LocalFileBackend(path)) as log:
        patched.setattr(log._shared.tail, "write", fails)
        with pytest.raises(LogUnavailable, match="No space"):
            log.append(batch("new", 0))
        end = log.head()
        assert noted_in(path / "locks" / "write.lock") == end
    assert len(list(path.glob("*.torn"))) == 1
    with closing(LocalFileBackend(path)) as log:
        assert log.append(batch("new", 0))[0] > end
        assert verify(log).damages == ()
        assert not verify(log).is_sound


def test_a_restored_backup_is_whole(written: tuple[Path, int]) -> None:
    """A backup knows nothing of what came behind it, and goes on where it ends."""
    path, _ = written
    with LogStore(LocalFileBackend(path)) as store:
        store.backup(path.parent / "backup")
        echo(store)("behind it")
    shutil.rmtree(path)
    shutil.copytree(path.parent / "backup", path)
    with LogStore(LocalFileBackend(path)) as store:
        echo(store)("more")
        assert len(store.list_sessions()) == 4
        assert verify(store.backend).is_sound


@pytest.mark.parametrize("behind", [False, True])
def test_another_damage_is_told_beside_it(written: tuple[Path, int], behind: bool) -> None:
    """Damage up to the last event in front of the last file says nothing of the end, which is told
    as well; where the last file itself is damaged, that is why it ends too early."""
    path, _ = written
    older_copy(path)
    file = segments_of(path)[-1 if behind else -2].path
    data = file.read_bytes()
    at = data.rindex(b'"digest":"') + len(b'"digest":"')
    file.write_bytes(data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :])
    with closing(LocalFileBackend(path, read_only=True)) as log:
        told = [str(damage) for damage in verify(log).damages]
    assert "digest" in told[0]
    assert len(told) == (1 if behind else 2)
