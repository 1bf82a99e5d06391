"""Bad input: one clear message each, and the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lllm
from lllm.importing.transcripts import transcript_json
from tests.support.otlp import genai, request, says, span, write

GOOD = genai(9, trace="9" * 32)
BAD: dict[str, tuple[object, str]] = {
    "another format": ({"type": "assistant", "uuid": "1"}, "it is no request of OTLP"),
    "no JSON": ("{half", "it is not JSON"),
    "names of protobuf": ({"resource_spans": []}, "not in camelCase"),
    "milliseconds": (
        request(span(1, "x", startTimeUnixNano="1795700000000")),
        "its start is 1795700000000, which is no time in nanoseconds",
    ),
    "no start": (request(span(1, "x", startTimeUnixNano=None)), "its start is 'None'"),
    "a time that is none": (request(span(1, "x", endTimeUnixNano="soon")), "its end is 'soon'"),
    "no id": (request(span(1, "x", spanId="")), "its span id is ''"),
    "an id that is none": (request(span(1, "x", traceId="zz")), "its trace id is 'not hex: zz'"),
    "a number that is none": (
        request(span(1, "x", attributes=[{"key": "a", "value": {"intValue": "many"}}])),
        "is 'many', no whole number",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_the_rest_goes_on(name: str, store: lllm.LogStore, tmp_path: Path) -> None:
    bad, why = BAD[name]
    line = bad if isinstance(bad, str) else json.dumps(bad)
    path = write(tmp_path / "spans.jsonl", request(GOOD), line, request(genai(8, trace="8" * 32)))
    found = store.import_otlp(path)
    assert (found.sessions, len(found.left_out)) == (2, 1)
    assert why in found.left_out[0]
    assert found.left_out[0].startswith(f"{path}, line 2: ")


def test_lone_surrogates(store: lllm.LogStore, tmp_path: Path) -> None:
    """JavaScript cuts texts within a character; such a span is imported like any other."""
    made = genai(9, trace="9" * 32, said=[says("\ud83d", "assistant")], given={"user.id": "\ud83d"})
    path = write(tmp_path / "spans.jsonl", json.dumps(request(made)), request(made))
    found = store.import_otlp(path)
    assert (found.sessions, found.spans, found.known, found.left_out) == (1, 1, 1, ())
    assert store.import_otlp(path).events == 0


def test_a_later_version(store: lllm.LogStore, tmp_path: Path) -> None:
    """Fields, signals and kinds of values that nobody knows yet stop nothing."""
    made = genai(9, trace="9" * 32)
    made |= {"flags": 257, "later": {"a": [1]}, "kind": "SPAN_KIND_LATER"}
    made["attributes"].append({"key": "later", "value": {"laterValue": "x"}})
    later = {**request(made), "resourceLater": [{"x": 1}]}
    found = store.import_otlp(write(tmp_path / "spans.jsonl", {"resourceProfiles": []}, later))
    assert (found.sessions, found.left_out) == (1, ())


def test_an_end_before_the_start(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(tmp_path / "spans.jsonl", request(genai(1, took=-5)))
    found = store.import_otlp(path)
    assert found.sessions == 1
    assert "ends before it starts" in found.left_out[0]


def test_half_a_file(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(tmp_path / "spans.jsonl", request(GOOD), request(genai(8, trace="8" * 32)))
    path.write_bytes(path.read_bytes()[:-100])
    found = store.import_otlp(path)
    assert (found.sessions, len(found.left_out)) == (1, 1)
    assert "its last line is cut off" in found.left_out[0]


def test_a_last_line_without_a_line_break(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(tmp_path / "spans.jsonl", request(GOOD))
    path.write_bytes(path.read_bytes()[:-1])
    assert store.import_otlp(path).sessions == 1


def test_a_line_that_is_too_long(
    store: lllm.LogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcript_json, "LONGEST", 100_000)
    long = request(span(1, "x" * 200_000))
    found = store.import_otlp(write(tmp_path / "spans.jsonl", long, request(GOOD)))
    assert found.sessions == 1
    assert "it has more than 100,000 bytes" in found.left_out[0]


def test_a_span_twice_with_other_content(store: lllm.LogStore, tmp_path: Path) -> None:
    """In one file, and against what the log has."""
    other = genai(9, trace="9" * 32, tokens={"input_tokens": 7, "output_tokens": 7})
    found = store.import_otlp(write(tmp_path / "spans.jsonl", request(GOOD), request(other)))
    assert "came twice with different content" in found.left_out[0]
    found = store.import_otlp(write(tmp_path / "other.jsonl", request(other)))
    assert "is here already with other content" in found.left_out[0]
    assert store.export_cost_summary()["prompt_tokens"] == 100


def test_memory_is_bounded(store: lllm.LogStore) -> None:
    """Where no roots come, the traces are written that were silent for the longest time."""
    from lllm.importing.otlp.decode_json import signals_of
    from lllm.importing.otlp.importer import OtlpImporter

    importer = OtlpImporter(store, settle=1e9, idle=1e9, most_bytes=50_000)
    for number in range(1, 201):
        importer.add(signals_of(request(genai(number, parent=999, trace=f"{number:032x}"))))
        importer.write_ready()
        assert importer.waiting_bytes <= 60_000
    assert 100 < importer.result().sessions < 200


def test_an_erased_session_stays_erased(store: lllm.LogStore, tmp_path: Path) -> None:
    path = write(tmp_path / "spans.jsonl", request(GOOD))
    store.import_otlp(path)
    [listed] = store.list_sessions()
    store.erase_session(listed.session_id, reason="asked", by="ada")
    found = store.import_otlp(path)
    assert found.events == 0
    assert "was erased here" in found.left_out[0]
