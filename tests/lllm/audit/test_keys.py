"""Keys: their forms, their files, and what is said of one that can't be used."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from lllm import AuditError
from lllm.audit.keys import (
    PrivateKey,
    PublicKey,
    private_key_in_environment,
    read_private_key,
    read_public_key,
    write_key_files,
)

# https://pkg.go.dev/golang.org/x/mod/sumdb/note
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
# https://c2sp.org/signed-note#example
C2SP_PUBLIC = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"


def test_published_keys() -> None:
    """Known keys are read and written as they are, and belong together."""
    assert str(PublicKey.parse(C2SP_PUBLIC)) == C2SP_PUBLIC
    public = PublicKey.parse(f"{GO_PUBLIC}\n")
    assert (public.name, public.key_id.hex()) == ("PeterNeumann", "c74f20a3")
    private = PrivateKey.parse(f"{GO_PRIVATE}\n")
    assert private.public == public
    assert hash(private.public) == hash(public)
    assert str(public) == GO_PUBLIC
    assert private.secret_text() == GO_PRIVATE
    assert PublicKey.parse(C2SP_PUBLIC) != public


# https://www.rfc-editor.org/rfc/rfc8032#section-7.1, tests 1 and 2: seed, public key, message,
# signature
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9"
        "b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f1"
        "1d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize("vector", RFC8032)
def test_published_signatures(vector: tuple[str, str, str, str]) -> None:
    """Ed25519 is that of RFC 8032, and a change of one bit is seen."""
    seed, key, message, signature = map(bytes.fromhex, vector)
    private = PrivateKey("rfc", seed)
    assert private.public.key == key
    assert private.sign(message) == signature
    assert private.public.verifies(signature, message)
    assert not private.public.verifies(signature, message + b"!")
    assert not private.public.verifies(signature[:-1] + b"\x01", message)
    assert not private.public.verifies(b"", message)
    assert not PublicKey("rfc", b"\xff" * 32).verifies(signature, message)


@pytest.mark.parametrize("umask", [0, 0o277])
def test_a_pair_of_files(tmp_path: Path, umask: int) -> None:
    """The private key is for its owner alone, whatever the umask; both are read as written."""
    old = os.umask(umask)
    try:
        key = PrivateKey.generate("example.com/log")
        public = write_key_files(tmp_path / "log.key", key)
    finally:
        os.umask(old)
    assert public == tmp_path / "log.key.pub"
    assert (tmp_path / "log.key").stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert read_public_key(public) == key.public
    assert read_private_key(tmp_path / "log.key").secret_text() == key.secret_text()
    assert PrivateKey.generate("example.com/log").public != key.public


@pytest.mark.parametrize("there", ["log.key", "log.key.pub"])
def test_no_key_is_replaced(tmp_path: Path, there: str) -> None:
    """Where one of the files is there, even as a dangling link, nothing is written."""
    key = PrivateKey.generate("log")
    (tmp_path / there).symlink_to(tmp_path / "nowhere")
    with pytest.raises(AuditError, match=f"{there} exists already"):
        write_key_files(tmp_path / "log.key", key)
    assert os.listdir(tmp_path) == [there]


def test_a_private_key_that_others_can_read(tmp_path: Path) -> None:
    """It is refused, with what to do."""
    path = tmp_path / "log.key"
    write_key_files(path, PrivateKey.generate("log"))
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(AuditError, match=f"mode 0{mode:o}.*chmod 600 {path}"):
            read_private_key(path)


def test_a_private_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same text; the message about a wrong one names the variable and not its content."""
    monkeypatch.setenv("AUDIT_KEY", GO_PRIVATE)
    assert str(private_key_in_environment("AUDIT_KEY").public) == GO_PUBLIC
    monkeypatch.setenv("AUDIT_KEY", GO_PRIVATE.replace("AYEK", "AYEL"))
    with pytest.raises(AuditError, match=r"AUDIT_KEY: .*does not match its key id") as raised:
        private_key_in_environment("AUDIT_KEY")
    assert "FGyNhPJEMzD1" not in str(raised.value)
    for wrong in ("", None):
        if wrong is None:
            monkeypatch.delenv("AUDIT_KEY")
        else:
            monkeypatch.setenv("AUDIT_KEY", wrong)
        with pytest.raises(AuditError, match="AUDIT_KEY holds no private key"):
            private_key_in_environment("AUDIT_KEY")


def test_a_private_key_is_not_shown() -> None:
    """Neither its repr nor a pickle of it has the secret."""
    key = PrivateKey.parse(GO_PRIVATE)
    assert repr(key) == f"<PrivateKey of {GO_PUBLIC}>"
    with pytest.raises(TypeError, match="secret_text"):
        pickle.dumps(key)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a public key"),
        ("name+00000000", "not a public key"),
        (GO_PUBLIC.replace("ARpc", "ARpd"), "'PeterNeumann' does not match its key id 'c74f20a3'"),
        (GO_PUBLIC.replace("c74f20a3", "C74F20A3"), "does not match its key id"),
        (GO_PUBLIC.replace("PeterNeumann", "PeterN"), "does not match its key id"),
        (GO_PUBLIC.replace("10TW", "10T"), "not a public key"),
        ("a+00000000+AgAA", "of the type 2, and one of the type 1 is needed"),
        ("a+00000000+AQAA", "32 bytes, and this one has 2"),
        ("a b+00000000+" + GO_PUBLIC.rpartition("+")[2], "must not contain spaces"),
        (GO_PUBLIC.replace("PeterNeumann", ""), "must not be empty"),
        (GO_PRIVATE, "This is a private key"),
    ],
)
def test_what_is_no_public_key(text: str, told: str, tmp_path: Path) -> None:
    """The message says what is wrong, and where."""
    with pytest.raises(AuditError, match=told):
        PublicKey.parse(text)
    path = tmp_path / "key.pub"
    path.write_text(text)
    with pytest.raises(AuditError, match=f"{path}: .*{told}") as raised:
        read_public_key(path)
    assert "AYEKFALV" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (GO_PUBLIC.encode(), "does not begin with 'PRIVATE.KEY.'"),
        (b"PRIVATE+KEY+a+00000000+AQAA", "32 bytes"),
        (b"PRIVATE+KEY+a+00000000+AgAA", "of the type 2"),
        (b"PRIVATE+KEY+a", "not a private key"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * 5_000, "too long"),
    ],
)
def test_what_is_no_private_key(content: bytes, told: str, tmp_path: Path) -> None:
    """The same of private keys."""
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(AuditError, match=f"{path}: .*{told}"):
        read_private_key(path)


def test_without_the_library() -> None:
    """One error names the extra; public keys and checkpoints are read all the same."""
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: find(name) if name != 'cryptography' else None\n"
        "from lllm import MissingExtra\n"
        "from lllm.audit.checkpoint import parse_checkpoint\n"
        "from lllm.audit.keys import PrivateKey, PublicKey\n"
        "parse_checkpoint('a\\n0\\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\\n')\n"
        f"public = PublicKey.parse({C2SP_PUBLIC!r})\n"
        "for call in (lambda: PrivateKey.generate('a'), lambda: public.verifies(b'', b'')):\n"
        "    try: call()\n"
        "    except MissingExtra as error: assert 'pip install \"lllm[audit]\"' in str(error)\n"
        "    else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
