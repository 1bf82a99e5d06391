"""Lists of records are data frames with a column for each field, in pandas itself."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import pprint
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pandas as pd
import pytest

from lllm import LogStore, SQLiteBackend
from lllm.events.codec import encode
from lllm.events.values.json_values import to_plain
from lllm.invokers.scripted import rate_limited
from tests.support.runs import Asking, config


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogStore]:
    """A store with two sessions and three attempts, of which one failed."""
    with LogStore(SQLiteBackend(tmp_path_factory.mktemp("frames") / "runs.db")) as opened:
        Asking(config([rate_limited(retry_after=0), "One."]), log_store=opened)(
            "1", tags={"a": "b"}
        )
        Asking(config(["Two."]), log_store=opened)("2")
        yield opened


def columns_of(frame: pd.DataFrame, *kinds: str) -> dict[str, str]:
    """The types of some columns."""
    return {name: str(frame[name].dtype) for name in kinds}


def test_sessions(store: LogStore) -> None:
    """list_sessions: times are times, money and counts numbers, a row a session."""
    listed = store.list_sessions()
    frame = pd.DataFrame(listed)
    assert list(frame.columns) == list(type(listed[0]).__struct_fields__)
    assert len(frame) == 2
    assert columns_of(frame, "elapsed", "total_cost", "calls") == {
        "elapsed": "float64", "total_cost": "float64", "calls": "int64",
    }  # fmt: skip
    assert isinstance(frame["timestamp"].dtype, pd.DatetimeTZDtype)
    assert frame["total_cost"].sum() == sum(one.total_cost for one in listed)
    assert frame["tags"].tolist() == [{}, {"a": "b"}]


def test_calls(store: LogStore) -> None:
    """list_calls: statuses and times can be compared and averaged, by model or session."""
    frame = pd.DataFrame(store.list_calls())
    assert len(frame) == 3
    assert columns_of(frame, "elapsed", "cost", "status", "prompt_tokens", "wasted", "step") == {
        "elapsed": "float64", "cost": "float64", "status": "float64", "prompt_tokens": "float64",
        "wasted": "bool", "step": "int64",
    }  # fmt: skip
    assert frame.loc[frame["status"] == 429, "state"].tolist() == ["failure"]
    assert frame.groupby("asked")["elapsed"].count().to_dict() == {"gpt-4o-mini": 3}
    assert isinstance(frame["timestamp"].dtype, pd.DatetimeTZDtype)


def test_what_a_session_holds(store: LogStore) -> None:
    """Attempts, agents' calls, costs, events and the groups of a summary have columns, too."""
    session_id = store.list_sessions()[-1].session_id
    session = store.load_session(session_id)
    [call] = session.agent_sessions["a"]
    traces = pd.DataFrame(call.invoke_traces[1])
    assert traces["state"].tolist() == ["failure", "success"]
    assert traces["elapsed"].dtype == "int64"
    assert pd.DataFrame(session.agent_sessions["a"])["agent_name"].tolist() == ["a"]
    costs = pd.DataFrame(trace.cost for trace in call.invoke_traces[1])
    assert costs["cost"].sum() == session.total_cost.cost
    events = pd.DataFrame(store.events(session_id))
    assert events["type"].iloc[0] == "session.started"
    assert pd.DataFrame([session])["tactic_name"].tolist() == ["asking"]
    assert pd.DataFrame([store.load_session_record(session_id)])["tags"].tolist() == [{"a": "b"}]
    groups = store.export_cost_summary(group_by="model")["groups"]
    assert pd.DataFrame(groups)["key"].tolist() == ["gpt-4o-mini"]


def test_records_are_what_they_were(store: LogStore) -> None:
    """What makes them rows takes nothing from them: they are copied, pickled, printed, encoded and
    recorded as before, and `dataclasses` knows their fields."""
    [record, *_] = store.list_calls(limit=1)
    copies = [
        copy.deepcopy(record), pickle.loads(pickle.dumps(record)), dataclasses.replace(record),
        type(record)(**dataclasses.asdict(record)),
    ]  # fmt: skip
    assert copies == [record] * 4
    assert [one.name for one in dataclasses.fields(record)] == list(record.__struct_fields__)  # type: ignore[arg-type] # no dataclass to a type checker
    assert record.session_id in pprint.pformat(record)
    assert msgspec.convert(msgspec.json.decode(encode(record)), type(record)) == record
    assert to_plain(record) == to_plain(dataclasses.asdict(record))
    with pytest.raises(AttributeError):
        record.state = "running"  # type: ignore[misc] # frozen


def test_pandas_is_not_imported() -> None:
    """lllm itself needs no pandas, nor dataclasses for its records."""
    source = (
        "import sys, lllm; lllm.LogStore, lllm.CallRecord;"
        "print({'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
