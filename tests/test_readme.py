"""Every snippet of the README, run as it stands there."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

from lllm import Runtime, load_package
from tests import loopback_messages, loopback_responses
from tests.loopback import Loopback, text, tool_calls

README = (Path(__file__).parent.parent / "README.md").read_text()


def snippets(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_python_snippets_run(tmp_path: Path) -> None:
    """The snippets are one program, from the first tactic on; it runs as it stands, against a
    server that answers as the provider does."""
    script = tmp_path / "first.py"
    script.write_text("\n".join(snippets("python")))
    with Loopback() as server, Loopback() as claude:
        server.answers(
            tool_calls(("population", '{"city": "Berlin"}')),
            text("Berlin has 3.7 million inhabitants."),
            text("Berlin is home to 3.7 million people."),
            loopback_responses.sent(loopback_responses.response(loopback_responses.says("2.1."))),
            text("3.7 million."),
        )
        claude.answers(loopback_messages.replies(loopback_messages.says("About 3.7 million.")))
        run = subprocess.run(
            [sys.executable, "-W", "error", str(script)],
            cwd=tmp_path,
            env=os.environ
            | {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test-0123456789"}
            | {
                "ANTHROPIC_BASE_URL": loopback_messages.base_url(claude),
                "ANTHROPIC_API_KEY": "sk-test-0123456789",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.splitlines()
    assert printed[:3] == [
        "Berlin is home to 3.7 million people.", "About 3.7 million.", "2.1.",
    ]  # fmt: skip
    assert "RuntimeError: no good" in printed
    assert "8" in printed
    assert printed[-1] == "It rained."
    assert (tmp_path / "runs.db").exists()
    assert b"sk-test-0123456789" not in (tmp_path / "runs.db").read_bytes()


def test_the_toml_snippet_is_a_package(tmp_path: Path) -> None:
    """The lllm.toml of the README is read as it stands."""
    (tmp_path / "mine" / "tactics").mkdir(parents=True)
    (tmp_path / "mine" / "more").mkdir()
    (tmp_path / "shared_pkg").mkdir()
    (tmp_path / "shared_pkg" / "lllm.toml").write_text('[package]\nname = "shared_pkg"\n')
    (tmp_path / "mine" / "lllm.toml").write_text(snippets("toml")[0])
    (tmp_path / "mine" / "tactics" / "one.py").write_text(
        "from lllm import Tactic\nclass One(Tactic):\n"
        "    name = 'one'\n    def call(self, task):\n        return task\n"
    )
    package = load_package(tmp_path / "mine", Runtime())
    assert package.name == "my_project"


def test_the_names_that_the_readme_mentions_exist() -> None:
    """What the README calls by a dotted name is there."""
    for name in set(re.findall(r"`(lllm(?:\.\w+)+)`", README)) - LOGGERS:
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


LOGGERS = {"lllm.tactic", "lllm.agent", "lllm.invoker", "lllm.store", "lllm.toml"}
