"""Writes the results of replaying many sessions as a JUnit report, which CI servers show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from lllm.events.files.own_files import open_new_output
from lllm.replay.report import ReplayReport

# Characters that XML 1.0 can't express (https://www.w3.org/TR/xml/#charsets).
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_report(report: ReplayReport, path: str) -> None:
    """Write a report as JUnit's XML (https://github.com/testmoapp/junitxml).

    Each session is a test case. A session that diverged is a failure; one that could not be
    replayed is an error.

    Args:
        report: The results to write.
        path: The path of the file; an existing file is overwritten.

    Raises:
        OSError: The file can't be written.
    """
    seconds = sum(one.seconds for one in report.results)
    counts = {
        "name": "lllm replay",
        "tests": str(len(report.results)),
        "failures": str(len(report.of("diverged"))),
        "errors": str(len(report.of("failed"))),
        "time": f"{seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", counts)
    for one in report.results:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_text(one.tactic_path or "lllm"),
            name=_text(one.session_id), time=f"{one.seconds:.3f}",
        )  # fmt: skip
        if one.verdict == "same":
            continue
        tag = "failure" if one.verdict == "diverged" else "error"
        where = f"Where: {one.where}." if one.where else ""
        found = ElementTree.SubElement(
            case, tag, type=_text(one.kind or "failed"),
            message=_text(one.message.partition("\n")[0]),
        )  # fmt: skip
        found.text = _text("\n".join(part for part in (one.message, where, one.diff) if part))
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode", xml_declaration=False)
    with open(path, "w", encoding="utf-8", newline="\n", opener=open_new_output) as file:
        file.write(f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _text(text: str) -> str:
    return _NO_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
