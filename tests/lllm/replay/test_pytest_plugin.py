"""The pytest plugin: marked tests run against recorded sessions, and stale recordings fail."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib

import pytest

from tests.support import ROOT

pytest_plugins = ["pytester"]

PLUGIN = "lllm.replay.pytest_plugin"
INSTALLED = any(one.value == PLUGIN for one in importlib.metadata.entry_points(group="pytest11"))

AGENT = '''
import json
from lllm import Tactic, tool
from lllm.invokers.scripted import ScriptedInvoker, tool_call

PROMPT = "You are precise."
ASKED = []


@tool
def lookup(city: str) -> str:
    """Looks a city up."""
    ASKED.append(city)
    return f"{city} has 3.7 million people."


class Analyst(Tactic):
    name = "analyst"

    def call(self, task):
        return self.ask(task)

    def ask(self, task):
        reader = self.agents["reader"]
        reader.open()
        reader.receive(task)
        return reader.respond().content


def script(request):
    ASKED.append(request.messages[-1].text)
    if request.messages[-1].role == "user":
        return tool_call("lookup", {"city": "Berlin"})
    return json.dumps({"millions": 3.7})


def analyst(model=script, **given):
    agent = {
        "name": "reader", "model_name": "gpt-4o-mini", "system_prompt": PROMPT, "tools": [lookup],
        "invoker": ScriptedInvoker(model),
    }
    return Analyst({"agent_configs": [agent]}, **given)
'''

TEST = """
import agent, pytest

@pytest.mark.lllm_replay("tests/x.jsonl")
def test_it(lllm_replay):
    assert agent.analyst()("How many?") == '{"millions": 3.7}'
"""


class Project:
    """A project with a tactic, and tests in pytest's own folder."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.recording = pytester.path / "tests" / "x.jsonl"
        self.agent(AGENT)
        pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
        pytester.syspathinsert()

    def agent(self, text: str) -> None:
        """Write the code."""
        sys.modules.pop("agent", None)
        self._pytester.makepyfile(agent=text)
        self._pytester.path.joinpath("agent.py").touch()

    def run(self, test: str, *arguments: str) -> pytest.RunResult:
        """Run a test."""
        self._pytester.makepyfile(test_it=test)
        sys.modules.pop("agent", None)
        plugin = () if INSTALLED else ("-p", PLUGIN)
        return self._pytester.runpytest_inprocess(
            *plugin, "-p", "no:cacheprovider", "-q", *arguments
        )


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose recording was made live."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Project(pytester)
    made.run(TEST, "--lllm-record").assert_outcomes(passed=1)
    assert made.recording.exists()
    return made


def test_it_is_an_entry_point() -> None:
    """So that no configuration is needed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"lllm": PLUGIN}


def test_a_marked_test_is_answered_from_its_recording(project: Project) -> None:
    """No model is asked and no tool runs, with or without the fixture, in sync and async tests;
    the fixture calls the code as it was called then, and knows the recorded task and delivery."""
    text = project.recording.read_bytes()
    project.run(
        TEST + """
@pytest.mark.lllm_replay("tests/x.jsonl")
def test_without_the_fixture():
    agent.ASKED.clear()
    assert agent.analyst()("How many?") == '{"millions": 3.7}'
    assert agent.ASKED == []

@pytest.mark.lllm_replay("tests/x.jsonl")
@pytest.mark.anyio
async def test_async(lllm_replay):
    assert await agent.analyst().acall("How many?") == '{"millions": 3.7}'

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.lllm_replay("tests/x.jsonl")
class TestClass:
    def test_called_as_then(self, lllm_replay):
        assert lllm_replay.task == "How many?"
        assert lllm_replay.call(agent.analyst()) == lllm_replay.delivery
        assert [one.verdict for one in lllm_replay.requests] == ["same", "same"]
"""
    ).assert_outcomes(passed=4)  # fmt: skip
    assert project.recording.read_bytes() == text


def test_a_changed_prompt_fails_with_the_diff(project: Project) -> None:
    """Also where the program swallows every Exception; the traceback of lllm is left out."""
    project.agent(AGENT.replace("precise", "exact").replace(
        "return self.ask(task)",
        "\n        try:\n            return self.ask(task)\n        except Exception:\n"
        "            return '{}'",
    ))  # fmt: skip
    result = project.run(TEST)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "*The model is asked something else than in the recording.",
        "Where: tactic 'analyst', agent 'reader', dialog 'main', respond 1, step 1, attempt 1.",
        "-You are precise.",
        "+You are exact.",
    ])  # fmt: skip
    assert "replayed_session.py" not in result.stdout.str()
    shown = result.stdout.str().partition("short test summary")[0]
    assert shown.count("+You are exact.") == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("pass", "If the code is right, the recording is stale. Record it anew with *"),
        (
            "agent.Analyst.ask = lambda self, task: '{}'; agent.analyst()('How many?')",
            "*A recorded request was not made, and 1 more:*",
        ),
        ("try: agent.analyst()('Which?')\n    except BaseException: pass", "*-How many?*"),
        ("assert 1 == 2", "*assert 1 == 2*"),
    ],
)
def test_a_stale_recording_fails(project: Project, body: str, told: str) -> None:
    """Requests that are recorded and not asked, all of them or some, fail the test."""
    mark = "@pytest.mark.lllm_replay('tests/x.jsonl')"
    result = project.run(f"import agent, pytest\n{mark}\ndef test():\n    {body}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])


def test_recording_anew(project: Project) -> None:
    """A changed prompt passes again once it is recorded; a test that fails, or runs none or two
    sessions, leaves the recording as it was."""
    project.agent(AGENT.replace("precise", "exact"))
    before = project.recording.read_text()
    for body in (
        "assert agent.analyst()('How many?') == 3",
        "pass",
        "agent.analyst()('How many?'); agent.analyst()('How many?')",
    ):
        test = "import agent, pytest\n@pytest.mark.lllm_replay('tests/x.jsonl')\n"
        project.run(f"{test}def test():\n    {body}\n", "--lllm-record").assert_outcomes(failed=1)
        assert project.recording.read_text() == before
    project.run(TEST, "--lllm-record").assert_outcomes(passed=1)
    assert "You are exact." in project.recording.read_text()
    assert [one.name for one in project.recording.parent.iterdir()] == ["x.jsonl"]
    project.run(TEST).assert_outcomes(passed=1)


def test_sub_tactics_with_stores_are_recorded(project: Project, pytester: pytest.Pytester) -> None:
    """All that a test runs is in its recording, and not in the stores that the code names; the
    configuration's `redact` is that of recordings and comparisons."""
    project.agent(AGENT + '''
from lllm.logging import sqlite_store
store = sqlite_store("own.db")

class Boss(Tactic):
    name = "boss"

    def __init__(self, **given):
        super().__init__({"agent_configs": []}, **given)
        self.analyst = analyst(log_store=sqlite_store("other.db"))

    def call(self, task):
        return self.analyst(task)
''')  # fmt: skip
    pytester.makeconftest(
        "import pytest\nfrom lllm import Pattern\n"
        "@pytest.fixture(scope='session')\ndef lllm_replay_config():\n"
        "    return {'redact': [Pattern('mood', 'precise')]}\n"
    )
    test = TEST.replace("agent.analyst()", "agent.Boss(log_store=agent.store)")
    project.run(test, "--lllm-record").assert_outcomes(passed=1)
    text = project.recording.read_text()
    assert text.count('"session.started"') == 2
    assert "You are precise." not in text
    project.run(test).assert_outcomes(passed=1)
    from lllm.logging import sqlite_store

    for name in ("own.db", "other.db"):
        with sqlite_store(pytester.path / name) as store:
            assert store.list_sessions() == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("3.7}", "1234567.5}", None),
        ('"millions": 3.7', '"people": 3.7', '*"people": "number"*'),
        ('"millions": 3.7', '"millions": "3.7"', '*"millions": "string"*'),
        ('return tool_call("lookup", {"city": "Berlin"})', 'return "hi"', '*"text": "text"*'),
        ("ASKED.append(request.messages[-1].text)", "1 / 0", "*ZeroDivisionError*"),
    ],
)
def test_verifying(project: Project, old: str, new: str, told: str | None) -> None:
    """The live model is asked each recorded request; an answer of another shape fails, another text
    of the same shape does not. No tool runs, and nothing is written."""
    assert old in AGENT
    project.agent(AGENT.replace(old, new))
    text = project.recording.read_bytes()
    result = project.run(
        TEST + "    assert [one for one in agent.ASKED if one == 'Berlin'] == []\n",
        "--lllm-verify",
    )
    if told is None:
        result.assert_outcomes(passed=1)
    else:
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([told])
    assert project.recording.read_bytes() == text


def test_what_can_not_be(project: Project) -> None:
    """A mark without a path or with an unknown option, no recording, a fixture without a mark, a
    test of unittest, and both options at once are told."""
    result = project.run("""
import pytest, unittest

@pytest.mark.lllm_replay
def test_no_path(): pass

@pytest.mark.lllm_replay("x", store="y")
def test_unknown(): pass

@pytest.mark.lllm_replay("tests/none.jsonl")
def test_no_recording(): pass

def test_no_mark(lllm_replay): pass

class TestUnit(unittest.TestCase):
    @pytest.mark.lllm_replay("tests/x.jsonl")
    def test_unit(self): pass
""")
    result.assert_outcomes(failed=1, errors=4)
    result.stdout.fnmatch_lines_random([
        "*it takes one path*",
        "*it has no store*",
        "*There is no recording *none.jsonl. Record it anew with *",
        '*needs a mark, as @pytest.mark.lllm_replay("tests/sessions/x.jsonl").',
        "*is for test functions, not for *test_unit.",
    ])  # fmt: skip
    assert project.run(TEST, "--lllm-record", "--lllm-verify").ret == pytest.ExitCode.USAGE_ERROR


def test_a_run_without_marks_loads_nothing(pytester: pytest.Pytester) -> None:
    """The plugin costs a run that does not use it the import of two small modules."""
    pytester.makepyfile(
        "import sys\ndef test_it():\n    assert not [name for name in sys.modules if name in "
        "('msgspec', 'lllm.store', 'lllm.agents', 'lllm.replay.replay', 'lllm.events')]\n"
    )
    result = pytester.runpytest_subprocess(*(() if INSTALLED else ("-p", PLUGIN)))
    result.assert_outcomes(passed=1)


def test_the_guide(project: Project, pytester: pytest.Pytester) -> None:
    """The programs of the guide to replays, but for the last, are a test that passes."""
    guide = (ROOT / "docs" / "replay.md").read_text()
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL))
    project.run(program.partition("from openai")[0]).assert_outcomes(passed=1)
    assert (pytester.path / "analyst.jsonl").exists()
