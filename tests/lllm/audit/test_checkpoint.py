"""Checkpoints are those of C2SP tlog-checkpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm import AuditError
from lllm.audit.checkpoint import LogCheckpoint, parse_checkpoint
from lllm.audit.signed_note import parse_note
from lllm.events.integrity.merkle import EMPTY_ROOT

# https://c2sp.org/tlog-checkpoint
PUBLISHED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv"
    "2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
ROOT_LINE = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


def test_the_published_checkpoint() -> None:
    """It is read, under its signature, and written as it was."""
    note = parse_note(PUBLISHED.encode())
    read = parse_checkpoint(note.text)
    assert (read.origin, read.size) == ("example.com/behind-the-sofa", 20852163)
    assert read.root.hex() == "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
    assert read.text() == note.text
    assert [one.name for one in note.signatures] == ["example.com/behind-the-sofa"]


LINES = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    LINES,
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(LINES, max_size=3),
)
def test_any_checkpoint_comes_back(
    origin: str, size: int, root: bytes, extensions: list[str]
) -> None:
    """What is written is read as it was, extensions too."""
    made = LogCheckpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(made.text()) == made


def test_an_empty_log() -> None:
    """Its size is 0, and its root is known."""
    made = LogCheckpoint("log", 0, EMPTY_ROOT)
    assert made.text() == "log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert parse_checkpoint(made.text()) == made
    with pytest.raises(AuditError, match="empty, but its root"):
        parse_checkpoint(f"log\n0\n{ROOT_LINE}\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "may be cut off"),
        (f"log\n1\n{ROOT_LINE}", "may be cut off"),
        ("log\n", "here there is 1"),
        ("log\n1\n", "here there are 2"),
        (f"\n1\n{ROOT_LINE}\n", "'' is not"),
        (f"lo\tg\n1\n{ROOT_LINE}\n", r"'lo\\tg' is not"),
        (f"log\n01\n{ROOT_LINE}\n", "'01' is not"),
        (f"log\n-1\n{ROOT_LINE}\n", "'-1' is not"),
        (f"log\n+1\n{ROOT_LINE}\n", "is not"),
        (f"log\n1 \n{ROOT_LINE}\n", "'1 ' is not"),
        (f"log\n1_0\n{ROOT_LINE}\n", "'1_0' is not"),
        (f"log\n\N{ARABIC-INDIC DIGIT ONE}\n{ROOT_LINE}\n", "is not"),
        (f"log\n\n{ROOT_LINE}\n", "'' is not"),
        (f"log\n{'9' * 19}\n{ROOT_LINE}\n", "can't have 9999999999999999999 events"),
        (f"log\n{'9' * 5_000}\n{ROOT_LINE}\n", "is not"),
        ("log\n1\nCsUYapGGPo4=\n", "32 bytes, and this one has 8"),
        (f"log\n1\n{ROOT_LINE[:-2]}J=\n", "in base64"),
        (f"log\n1\n{ROOT_LINE[:-1]}\n", "in base64"),
        (f"log\n1\n {ROOT_LINE}\n", "in base64"),
        (f"log\n1\n{ROOT_LINE}\n\n", "'' is not"),
        (f"log\n1\n{ROOT_LINE}\nmore\n\nmore\n", "'' is not"),
    ],
)
def test_what_is_no_checkpoint(text: str, told: str) -> None:
    """The message says which line is wrong."""
    with pytest.raises(AuditError, match=told):
        parse_checkpoint(text)
