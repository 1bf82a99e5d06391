"""The sessions that the benchmark gives to every viewer are the same in both of their forms."""

from __future__ import annotations

from pathlib import Path

from benchmarks.viewers.conversations import ERROR, conversations, spans_of, write_transcripts
from lllm import LogStore, SQLiteBackend


def test_transcripts_and_spans_have_the_same_sessions(tmp_path: Path) -> None:
    """What lllm imports has the questions, tokens and failures that are in the spans."""
    write_transcripts(tmp_path / "projects", 20)
    with LogStore(SQLiteBackend(tmp_path / "runs.db")) as store:
        store.import_transcripts("claude-code", tmp_path / "projects")
        listed = store.list_sessions()[::-1]
        said = list(conversations(20))
        for session, one in zip(listed, said, strict=True):
            assert one.question.startswith(str(session.task).rstrip("…"))
        assert [one.state == "failure" for one in listed] == [one.answer is None for one in said]
        for session, one in zip(listed, said, strict=True):
            root, *others = spans_of(one)
            assert (root.error == ERROR) is (session.state == "failure")
            tokens = sum(int(span.attributes.get("llm.token_count.prompt", 0)) for span in others)
            assert session.total_cost > 0
            assert tokens == session.prompt_tokens
