"""Sessions and attempts are judged: by events, which lists, exports and searches know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lllm import LocalFileBackend, LogStore, SessionNotFound, SQLiteBackend
from lllm.cli.program import cli
from lllm.events.backends.memory import MemoryBackend
from tests.support.histories import History

MAKERS: dict[str, Callable[[Path], LogStore]] = {
    "memory": lambda _: LogStore(MemoryBackend()),
    "sqlite": lambda folder: LogStore(SQLiteBackend(folder / "runs.db")),
    "jsonl": lambda folder: LogStore(LocalFileBackend(folder / "logs")),
}


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    """An empty store of each kind."""
    with MAKERS[request.param](tmp_path) as opened:
        yield opened


def ask(store: LogStore, *tasks: object) -> list[str]:
    """Sessions with these tasks, which deliver their task; their ids."""
    ids = []
    for task in tasks:
        with store.session("p::t", task=task, tags={"n": str(task)}) as session:
            session.deliver({"said": task})
            ids.append(session.session_id)
    return ids


def test_the_last_word_of_each_judge_holds(store: LogStore) -> None:
    """Of one name, step and judge the last counts; without value and comment it is taken back."""
    [one] = ask(store, "a")
    for value, step, by in ((False, None, "ada"), (0.5, None, "bot"), ("kind", 2, None)):
        store.annotate(one, name="correct", value=value, step=step, by=by)
    store.annotate(one, name="correct", value=True, comment="it is", by="ada")
    store.annotate(one, name="seen", comment="by me")
    store.annotate(one, name="gone", value=1)
    store.annotate(one, name="gone")
    now = store.load_session_record(one).annotations
    assert [(said.name, said.value, said.comment, said.by, said.step) for said in now] == [
        ("correct", True, "it is", "ada", None),
        ("correct", 0.5, None, "bot", None),
        ("correct", "kind", None, None, 2),
        ("seen", None, "by me", None, None),
    ]
    exported = json.loads(store.export_session(one))
    assert [said["value"] for said in exported["annotations"]] == [True, 0.5, "kind", None]
    assert store.export_session(one, "jsonl").count("session.annotated") == 7
    assert store.rebuild(check=True).difference is None
    assert [hit.session_id for hit in store.search("correct", role="note", limit=1)] == [one]


def test_lists_select_by_annotations(store: LogStore) -> None:
    """By name and value, by the name alone, by several at once, and by tags beside them."""
    one, two, three = ask(store, "a", "b", "c")
    store.annotate(one, name="correct", value=True)
    store.annotate(two, name="correct", value=False)
    store.annotate(three, name="correct", value=1.0)
    store.annotate(two, name="tone", value="kind\udc80'; --")

    def listed(**filters: object) -> set[str]:
        return {found.session_id for found in store.list_sessions(**filters)}  # type: ignore[arg-type]

    assert listed(annotations={"correct": True}) == {one}
    assert listed(annotations={"correct": 1}) == {three}
    assert listed(annotations={"correct": None}) == {one, two, three}
    assert listed(annotations={"correct": False, "tone": "kind\udc80'; --"}) == {two}
    assert listed(annotations={"correct": None}, tags={"n": "c"}) == {three}
    assert listed(annotations={"' OR 1 --": None}) == set()
    assert listed(annotations={"correct": None}, tactic_path="p::t") == {one, two, three}
    store.annotate(one, name="correct", value=False)
    assert listed(annotations={"correct": True}) == set()
    assert listed(annotations={"correct": False}) == {one, two}


def test_what_cant_be_judged(store: LogStore) -> None:
    """A session that is not there, no name, a step that is none: one clear error."""
    [one] = ask(store, "a")
    with pytest.raises(SessionNotFound):
        store.annotate("nobody", name="correct")
    with pytest.raises(ValueError, match="needs a name"):
        store.annotate(one, name="")
    with pytest.raises(ValueError, match="from 1"):
        store.annotate(one, name="correct", step=0)


def test_an_erasure_takes_annotations_along(store: LogStore, tmp_path: Path) -> None:
    """Nothing of them is left, in rows, in the index and in files."""
    [one] = ask(store, "a")
    store.annotate(one, name="zanzibarsecret", value="zanzibarsecret", comment="zanzibarsecret")
    store.erase_session(one, reason="asked to", by="ada")
    assert store.list_sessions(annotations={"zanzibarsecret": None}) == []
    assert store.search("zanzibarsecret") == []
    assert store.rebuild(check=True).difference is None
    store.close()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(b"barsecret" in file.read_bytes() for file in files)


def test_a_data_set_has_task_delivery_and_scores(store: LogStore) -> None:
    """Of each session that fits; values are plain JSON, and an erased session is left out."""
    one, two, three = ask(store, "a", ("b", 1), "c")
    for session, value in ((one, 1), (two, 0), (three, 1)):
        store.annotate(session, name="score", value=value, by="bot")
    store.annotate(two, name="score", value=5, by="ada")
    store.annotate(two, name="part", value=9, step=1)
    store.erase_session(three, reason="asked to", by="ada")
    rows = list(store.export_dataset(annotations={"score": None}))
    assert [(row.session_id, row.task, row.delivery, row.scores) for row in rows] == [
        (two, ["b", 1], {"said": ["b", 1]}, {"score": 5}),
        (one, "a", {"said": "a"}, {"score": 1}),
    ]
    assert len(rows[0].annotations) == 3
    assert rows[1].tags == {"n": "a"}
    assert [row.session_id for row in store.export_dataset(tags={"n": "a"})] == [one]


def test_the_command_line(tmp_path: Path) -> None:
    """`lllm annotate` judges, `show` shows it, `ls` selects by it, `export --dataset` has it."""
    path = str(tmp_path / "runs.db")
    with LogStore(SQLiteBackend(path)) as store:
        one, _ = ask(store, "a", "b")
        store.annotate(one, name="tone", value="kind of", step=2)
    runner = CliRunner()

    def run(*arguments: str) -> str:
        result = runner.invoke(cli, [*arguments, "--store", path], prog_name="lllm")
        assert result.exit_code == 0, result.output
        return result.output

    said = run("annotate", one, "correct=true", "--comment", "\x1b[31mfine", "--by", "ada")
    assert "  correct=true: \\x1b[31mfine, says ada" in said
    refused = runner.invoke(cli, ["annotate", one, "tone=kind", "--step", "9", "--store", path])
    assert (refused.exit_code, "has no call #9" in refused.output) == (2, True)
    shown = run("show", one)
    assert "note correct=true: \\x1b[31mfine, says ada" in shown
    assert "note tone=kind of (#2)" in shown
    listed = json.loads(run("ls", "--annotation", "correct=true", "--annotation", "tone", "--json"))
    assert [found["session_id"] for found in listed] == [one]
    lines = run("export", "--dataset", "--annotation", "correct").splitlines()
    assert [json.loads(line)["scores"] for line in lines] == [{"correct": True}]
    output = tmp_path / "set.jsonl"
    run("export", "--dataset", "-o", str(output))
    assert len(output.read_text().splitlines()) == 2
    for wrong in (["export", one, "--dataset"], ["export", one, "--annotation", "x"], ["export"]):
        assert runner.invoke(cli, [*wrong, "--store", path]).exit_code == 2


def test_judging_a_session_that_runs_leaves_it_running(store: LogStore) -> None:
    """What others say of a session is no event of its own."""
    history = History(store)
    session = history.start("p::t", "", {}, None)
    store.annotate(session.id, name="correct", value=True)
    history.finish(session, True)
    assert store.list_sessions(annotations={"correct": True})[0].state == "success"


def test_an_import_brings_annotations(store: LogStore, tmp_path: Path) -> None:
    """What was said of a session travels with it, once, however often it is imported."""
    [one] = ask(store, "a")
    store.annotate(one, name="correct", value=True, by="ada")
    file = tmp_path / "one.jsonl"
    file.write_text(store.export_session(one, "jsonl"), encoding="utf-8")
    with LogStore(MemoryBackend()) as other:
        other.import_sessions(file)
        other.import_sessions(file)
        annotations = other.load_session_record(one).annotations
        assert annotations == store.load_session_record(one).annotations
        assert len(annotations) == 1
        assert [found.session_id for found in other.list_sessions(annotations={"correct": True})]
