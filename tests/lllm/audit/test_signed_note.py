"""Signed notes are those of C2SP: written, read and checked."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lllm import AuditError, SignatureInvalid
from lllm.audit.keys import PrivateKey, PublicKey
from lllm.audit.signed_note import (
    MAX_BYTES,
    SignedNote,
    is_signed,
    parse_note,
    sign_note,
    verify_note,
)
from tests.lllm.audit.test_keys import C2SP_PUBLIC, GO_PRIVATE, GO_PUBLIC

# https://pkg.go.dev/golang.org/x/mod/sumdb/note
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb"
    "6KE6RyyBwJnAM=\n"
)
GO_NOTE = f"{GO_TEXT}\n{GO_LINE}".encode()
# https://c2sp.org/signed-note#example
C2SP_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ON"
    "ncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()

FIRST, SECOND = PrivateKey("first", b"1" * 32), PrivateKey("second", b"2" * 32)


@pytest.mark.parametrize(("note", "key"), [(GO_NOTE, GO_PUBLIC), (C2SP_NOTE, C2SP_PUBLIC)])
def test_published_notes(note: bytes, key: str) -> None:
    """Known notes are read, verified, and written as they were."""
    assert is_signed(note)
    read = parse_note(note)
    public = PublicKey.parse(key)
    assert verify_note(read, [public]) == (public,)
    assert read.content().encode() == note


def test_the_published_signature_is_ours() -> None:
    """Signing the known text with the known key gives the known note, byte for byte."""
    assert sign_note(GO_TEXT, PrivateKey.parse(GO_PRIVATE)).content().encode() == GO_NOTE


@given(
    st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=20)),
    st.integers(1, 3),
)
def test_any_text_comes_back(lines: list[str], signers: int) -> None:
    """Any lines, empty ones among them, are read as they were signed, by each of the signers."""
    text = "".join(f"{line}\n" for line in [*lines, "end"])
    keys = [PrivateKey(f"key-{number}", bytes([number]) * 32) for number in range(signers)]
    note = sign_note(text, *keys)
    again = parse_note(note.content().encode())
    assert again == note
    public = [key.public for key in keys]
    assert verify_note(again, public) == tuple(public)


def test_unknown_signatures_are_passed_over() -> None:
    """What others signed with it does not matter, as long as one known key did."""
    note = sign_note("text\n", FIRST, SECOND)
    assert verify_note(note, [SECOND.public]) == (SECOND.public,)
    third = PrivateKey("third", b"3" * 32).public
    with pytest.raises(
        SignatureInvalid, match=r"None of the given keys.*third\+.*Signed by: first\+"
    ):
        verify_note(note, [third])
    with pytest.raises(SignatureInvalid, match=r"Given: none\."):
        verify_note(note, [])
    # The same name with another key, and so with another id, is another signer.
    with pytest.raises(SignatureInvalid, match="None of the given keys"):
        verify_note(note, [PublicKey("first", third.key)])


def test_a_signature_that_does_not_fit() -> None:
    """One wrong signature of a known key refuses the note, though another one fits."""
    good = sign_note("text\n", FIRST, SECOND)
    other = sign_note("other text\n", FIRST)
    mixed = SignedNote(good.text, (good.signatures[1], other.signatures[0]))
    with pytest.raises(SignatureInvalid, match="'first' does not fit the text"):
        verify_note(mixed, [FIRST.public, SECOND.public])
    assert verify_note(mixed, [SECOND.public]) == (SECOND.public,)


def test_every_change_of_a_note_is_seen() -> None:
    """Whichever byte is changed, the note is none any more or its signature does not fit."""
    key = PublicKey.parse(C2SP_PUBLIC)
    for at in range(len(C2SP_NOTE)):
        changed = C2SP_NOTE[:at] + bytes([C2SP_NOTE[at] ^ 1]) + C2SP_NOTE[at + 1 :]
        with pytest.raises(AuditError):
            verify_note(parse_note(changed), [key])
    for end in range(len(C2SP_NOTE)):
        with pytest.raises(AuditError):
            verify_note(parse_note(C2SP_NOTE[:end]), [key])


SIGNED = base64.b64encode(b"keyid").decode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "This is not a signed note"),
        (b"text\n", "This is not a signed note"),
        (b"text\n\n", "This is not a signed note"),
        (b"text\n\nmore text\n", "This is not a signed note"),
        (f"text\n\n- a {SIGNED}\n".encode(), "This is not a signed note"),
        (f"text\n— a {SIGNED}\n".encode(), "This is not a signed note"),
        (f"text\n\n— a {SIGNED}".encode(), "may be cut off"),
        (f"text\n\n— a {SIGNED}\n\n".encode(), "This is not a signed note"),
        (f"text\n\n— a {SIGNED}\nmore\n".encode(), "'more' is not"),
        (f"text\n\n— a  {SIGNED}\n".encode(), "is not"),
        (f"text\n\n— a {SIGNED} b\n".encode(), "is not"),
        ("text\n\n— a !!!!\n".encode(), "is not"),
        ("text\n\n— a AAAAAA==\n".encode(), "is not"),
        ("text\n\n— a AAAAAAB=\n".encode(), "is not"),
        (f"text\n\n— a+b {SIGNED}\n".encode(), "must not contain spaces"),
        (f"text\n\n— a\N{NO-BREAK SPACE}b {SIGNED}\n".encode(), "must not contain spaces"),
        (f"text\n\n—  {SIGNED}\n".encode(), "is not"),
        (f"text\r\n\r\n— a {SIGNED}\r\n".encode(), "carriage returns"),
        (f"te\0xt\n\n— a {SIGNED}\n".encode(), "no control characters"),
        (f"te\txt\n\n— a {SIGNED}\n".encode(), "no control characters"),
        (b"te\xffxt\n\n", "from byte 2 on"),
        (b"x" * (MAX_BYTES + 1), "at most 1,000,000 bytes"),
        (b"text\n\n" + f"— a {SIGNED}\n".encode() * 101, "At most 100 signatures"),
    ],
)  # fmt: skip
def test_what_is_no_note(content: bytes, told: str) -> None:
    """The message says what is wrong with it."""
    with pytest.raises(AuditError, match=told):
        parse_note(content)


def test_what_can_not_be_signed() -> None:
    """A text that is no note is not signed."""
    for text in ("", "no newline", "a\tb\n", "a\r\n"):
        with pytest.raises(AuditError):
            sign_note(text, FIRST)


def test_sixteen_signatures_are_read() -> None:
    """As many as every reader must take, and more."""
    keys = [PrivateKey(f"key-{number}", bytes([number]) * 32) for number in range(16)]
    note = parse_note(sign_note("text\n", *keys).content().encode())
    assert len(verify_note(note, [key.public for key in keys])) == 16
