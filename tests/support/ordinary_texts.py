"""Ten thousand texts as agents write and read them, none of which holds a secret.

The same ones on each run: templates that are filled from a seeded generator, beside a list of texts
that are known to look like secrets to a careless pattern.
"""

# ruff: noqa: E501 (tables of formats and texts)
from __future__ import annotations

import base64
import hashlib
import random
import string
import uuid
from collections.abc import Callable, Iterator

ALPHANUMERIC = string.ascii_letters + string.digits
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

NOUNS = [
    "agent",
    "answer",
    "batch",
    "budget",
    "cache",
    "city",
    "client",
    "cookie",
    "credential",
    "customer",
    "document",
    "engine",
    "event",
    "explainable",
    "file",
    "gateway",
    "index",
    "intelligence",
    "invoice",
    "key",
    "language",
    "ledger",
    "learning",
    "machine",
    "management",
    "message",
    "model",
    "network",
    "number",
    "order",
    "owner",
    "parser",
    "password",
    "payment",
    "pipeline",
    "policy",
    "prompt",
    "query",
    "queue",
    "record",
    "region",
    "request",
    "response",
    "retry",
    "route",
    "schema",
    "secret",
    "server",
    "session",
    "signature",
    "stream",
    "system",
    "table",
    "task",
    "team",
    "ticket",
    "token",
    "tool",
    "transcript",
    "user",
    "vector",
    "version",
]
VERBS = [
    "appends",
    "asks",
    "builds",
    "checks",
    "counts",
    "deletes",
    "explains",
    "finds",
    "folds",
    "keeps",
    "measures",
    "needs",
    "parses",
    "reads",
    "returns",
    "rotates",
    "sends",
    "stores",
    "takes",
    "tells",
    "trusts",
    "validates",
    "writes",
]
# What keys begin with, as beginnings of ordinary names.
PREFIXES = [
    "sk-",
    "sk_",
    "xai-",
    "hf_",
    "gsk_",
    "npm_",
    "npm-",
    "pypi-",
    "key-",
    "fw_",
    "fc-",
    "pa-",
    "re_",
    "pat-",
    "pat_",
    "pul-",
    "ico-",
    "jina_",
    "csk-",
    "llx-",
    "nvapi-",
    "tvly-",
    "glpat-",
    "ghp_",
    "gho_",
    "xoxb-",
    "AIza",
    "AKIA",
    "ya29.",
    "hvs.",
    "SG.",
    "dp.pt.",
    "dapi",
    "API-",
    "rpa_",
    "r8_",
    "pplx-",
    "secret_",
    "access-",
    "token_",
    "bearer-",
    "basic-",
    "aio_",
    "whsec_",
    "sk-proj-",
    "sk-ant-",
    "sk-or-",
    "rnd_",
    "vck_",
    "waka_",
    "shippo_live_",
    "lin_api_",
    "figd_",
    "task-",
    "disk-",
    "risk-",
    "desk-",
    "mask-",
    "shelf_",
    "flask-",
    "kiosk_",
]

FIXED = (
    "xai-explainable_artificial_intelligence_for_the_analysis_of_medical_images_2024",
    "xai-Explainable_Artificial_Intelligence_Survey_And_Taxonomy_Of_Methods",
    "sk-learn-contrib-imbalanced-learning-toolkit-for-python-and-numpy",
    "npm_config_registry=https://registry.npmjs.org/ npm_lifecycle_event npm_package_version",
    "pypi-attestations and pypi-AgendaForTheNextMeetingOfThePackagingWorkingGroup",
    "token_count=12345678901234567890 total_tokens=991234 max_tokens: 16384, stop_token: </s>",
    "Bearer of good news, the bearer: a man of forty-five years and 1234567890123456 ideas",
    "Basic usage: see Basic authentication, Basic QWERTY and basic instincts",
    "Authorization: Bearer <token>", "Authorization: Bearer $OPENAI_API_KEY",
    "Authorization: Bearer ${TOKEN}", "Authorization: Bearer {token}", "Authorization: required",
    'headers = {"Authorization": f"Bearer {api_key}", "x-api-key": key}',
    'headers={"Authorization": "Bearer " + token}', "Authorization: none of the above is right",
    "Authorization: Basic <credentials>", "curl -H 'Authorization: Bearer YOUR_API_KEY' https://a.b",
    "curl -H \"x-api-key: $ANTHROPIC_API_KEY\" https://api.anthropic.com/v1/messages",
    "password: <your password>", "Password: ********", "password=password", "password: string",
    "The password must have 12 characters: letters, digits and signs.", "Forgot your password?",
    'api_key=os.environ["X"]', "api_key=os.getenv('OPENAI_API_KEY')", "api_key = config.api_key",
    "api_key=settings.OPENAI_API_KEY,", "OPENAI_API_KEY=sk-...", "OPENAI_API_KEY=<your key here>",
    "export OPENAI_API_KEY=your-api-key-here", "OPENAI_API_KEY=$(cat key.txt)", 'api_key="EMPTY"',
    'OpenAI(base_url="http://localhost:11434/v1", api_key="ollama")', 'api_key: "not-needed"',
    "secret = get_secret(name)", "token = tokenizer.encode(text)[0]", "token: str | None = None",
    "def login(user: str, password: str, token: str = '') -> Session:", "the secret: be kind",
    '{"token": " the", "logprob": -0.31, "bytes": [32, 116]}', '{"eos_token": "<|endoftext|>"}',
    '{"next_page_token": "CAUQAA9xYzE2Zm9vYmFyYmF6cXV4MTIz"}', "nextToken=eyJrIjoxfQ==",
    '{"type": "object", "required": ["password", "username"], "properties": {"password": {}}}',
    '{"password": {"type": "string", "minLength": 8}, "secret": false, "api_key": null}',
    "A cookie: flour, sugar, butter. Set-Cookie is a header. cookie = cookies[0]",
    "Cookie: <cookie value>", "postgres://user:password@localhost:5432/db", "http://host:8080/a@b",
    "https://user:${PASSWORD}@example.org/", "git@github.com:owner/repository.git",
    "ssh://git@github.com:22/owner/repository.git", "mailto:ann.b+c@mail.example.org",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n",
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\n",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----", "BEGIN PRIVATE KEY is a label",
    "docker run -u 1000:1000 image", "curl -u user:password https://example.org", "ls -u a:b",
    "sort --key 2,2 --token-limit 400 --password-file /run/secrets/db --secret id=npmrc",
    "export PATH=/usr/bin:/bin PWD=/home/ann OLDPWD=/tmp SSH_AUTH_SOCK=/tmp/ssh-XXXX/agent.1",
    "primary_key=id, foreign_key=user_id, sort_key: created_at, cache_key='users:1:profile'",
    "public_key=MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs", "keyboard, monkey: donkey=turkey",
    "AKIA is a prefix and so is ASIA; AIza, ghp_ and xoxb- are others, sk-proj- too.",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9",
    ".btn-primary-outline-large__icon--token-secret-key { color: #deadbe; }",
    "sk-toggleable__content sk-estimator-doc-link sk-parallel-item sk-container-id-1-text-repr",
    "https://sqs.eu-west-1.amazonaws.com/123456789012/queue-of-orders-and-payments.fifo",
    "https://docs.python.org/3/library/secrets.html#secrets.token_urlsafe",
    "https://example.org/search?q=token+secret&page=2&session_id=01jd8z7p3s9q2m4x6v8b0n1c3d",
    "{{ secrets.OPENAI_API_KEY }} %{password} #{token} [api_key] (secret)", "token=token2",
    "os.environ['GITHUB_TOKEN'] = token", 'monkeypatch.setenv("OPENAI_API_KEY", "test")',
    "Signature: a pen, please. signature=None, sig=12", "design: big=1&sig=small",
    "https://hooks.slack.com/services/T000/B000/XXXX", "https://discord.com/api/webhooks/ID/TOKEN",
    "caf\u00e9 \u200b na\u00efve \u2011 hyphen, \uff21\uff22\uff23, \u4f60\u597d\uff0c\u4e16\u754c\uff1a\u5bc6\u7801",
    "%7B%22a%22%3A1%7D and %2Fpath%2Fto%2Ffile%3Fx%3D1 and 100%25 sure", "\\u00e9\\x1b[0m\\n\\t",
)  # fmt: skip


class _Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def some(self, alphabet: str, length: int) -> str:
        """A random text."""
        return "".join(self.random.choices(alphabet, k=length))

    def words(self, count: int) -> list[str]:
        """Random words."""
        return [self.random.choice((*NOUNS, *VERBS)) for _ in range(count)]

    def digest(self) -> str:
        """A SHA-256 in hex."""
        return hashlib.sha256(self.random.randbytes(8)).hexdigest()

    def sentence(self) -> str:
        """A few words with an end."""
        text = " ".join(
            f"the {self.random.choice(NOUNS)} {self.random.choice(VERBS)}"
            for _ in range(self.random.randint(1, 6))
        )
        return text.capitalize() + self.random.choice(".?!:;,")

    def prose(self) -> str:
        """Some sentences on some lines."""
        return self.random.choice(("\n", " ", "\r\n", "\n    ")).join(
            self.sentence() for _ in range(self.random.randint(1, 25))
        )

    def identifier(self) -> str:
        """A name as in code, that may begin as keys do."""
        words = self.words(self.random.randint(2, 9))
        name = self.random.choice((
            "_".join(words), "-".join(words), "".join(map(str.capitalize, words)),
            "_".join(words).upper(), "-".join(words) + f"-v{self.random.randint(1, 20)}",
        ))  # fmt: skip
        return self.random.choice(("", *PREFIXES)) + name

    def hash(self) -> str:
        """Digests, in the ways they are written."""
        digest = self.digest()
        return self.random.choice((
            digest, digest[:40], digest[:32], digest.upper(), f"sha256:{digest}", f"task-{digest}",
            f"commit {digest[:40]}\n", f"disk-{digest[:32]}", f"definition-{digest}",
            f"sha512-{base64.b64encode(self.random.randbytes(64)).decode()}",
            f"etag: W/\"{digest[:32]}\"", f"image@sha256:{digest}", f"risk_{digest[:32]}",
        ))  # fmt: skip

    def id(self) -> str:
        """Ids of providers, and others'."""
        prefix, length = self.random.choice((
            ("chatcmpl-", 29), ("msg_01", 22), ("toolu_01", 22), ("call_", 24), ("req_011", 21),
            ("file-", 22), ("run_", 24), ("asst_", 24), ("thread_", 24), ("step_", 24), ("cus_", 14),
            ("evt_", 24), ("pi_", 24), ("in_1", 23), ("vs_", 24), ("gen-", 20), ("fp_", 10),
            ("srvtoolu_01", 22), ("msgbatch_01", 22), ("container_01", 22), ("org-", 24),
            ("user-", 24), ("ft-", 24), ("batch_", 24), ("pm_1", 23), ("price_1", 23),
        ))  # fmt: skip
        hexed, length_of_hex = self.random.choice((
            ("resp_", 48), ("rs_", 48), ("msg_", 48), ("batch_", 32), ("req_", 32), ("fc_", 48),
            ("call_", 32), ("trace-", 32), ("task-", 32), ("ws_", 48), ("run-", 32), ("cmpl-", 32),
        ))  # fmt: skip
        identity = uuid.UUID(bytes=self.random.randbytes(16))
        return self.random.choice((
            prefix + self.some(ALPHANUMERIC, length),
            hexed + self.some("0123456789abcdef", length_of_hex),
            str(identity), identity.hex, f"{{{str(identity).upper()}}}", f"urn:uuid:{identity}",
            self.some(CROCKFORD, 26), self.some(CROCKFORD.lower(), 26),
            self.some(ALPHANUMERIC + "-_", 21), self.some(ALPHANUMERIC, 27),
            f"00-{identity.hex}-{identity.hex[:16]}-01", self.some(string.digits, 18),
            f"arn:aws:iam::{self.some(string.digits, 12)}:role/{self.identifier()}",
            f"AROA{self.some(string.ascii_uppercase, 17)}", f"pk_live_{self.some(ALPHANUMERIC, 24)}",
        ))  # fmt: skip

    def blob(self) -> str:
        """Base64 of what is no text: images, signatures of thoughts, encrypted reasoning."""
        data = self.random.randbytes(self.random.randint(20, 1500))
        return self.random.choice((
            "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode(),
            "/9j/4AAQSkZJRg" + base64.b64encode(data).decode(),
            "gAAAAAB" + base64.urlsafe_b64encode(data).decode(),
            "EqQBCgIYAhIM" + base64.b64encode(data).decode(),
            base64.encodebytes(data).decode(), base64.urlsafe_b64encode(data).decode().rstrip("="),
            data.hex(), base64.b64encode(self.prose().encode()).decode(),
        ))  # fmt: skip

    def code(self) -> str:
        """Lines that assign, call and read."""
        name, other = self.identifier(), "_".join(self.words(2))
        quoted = self.random.choice(("'", '"'))
        return "\n".join(
            self.random.choice((
                f"{other} = {name.replace('-', '_').replace('.', '_')}({other}, limit=16384)",
                f"import {other} as {other[:3]}", f"# {self.sentence()}",
                f"{other}_key = {quoted}{name}{quoted}", f"{other}[{quoted}{name}{quoted}] += 1",
                f"assert {other}.token_count == {self.random.randint(1, 99999)}",
                f"{other}_tokens: int = {self.random.randint(1, 10**9)}",
                f"export {other.upper()}_URL=https://{name.strip('-_.').lower()}.example.org/v1",
                f"logger.info({quoted}%s %s{quoted}, {other}, {name!r})",
                f"const {other} = await client.{other}({{ {other}: {quoted}{name}{quoted} }});",
                f'{{"{other}_id": "{self.id()}", "usage": {{"total_tokens": 12, "max_tokens": null}}}}',
            ))
            for _ in range(self.random.randint(1, 12))
        )  # fmt: skip

    def place(self) -> str:
        """Paths, URLs, packages, addresses."""
        words = self.words(5)
        return self.random.choice((
            "/".join(("", "home", *words, self.identifier())) + ".py",
            f"https://{words[0]}.example.org/{'/'.join(words)}?{words[1]}_id={self.id()}&page=2#top",
            f"s3://{'-'.join(words)}/{self.digest()[:8]}/part-00000-{self.id()}.parquet",
            f"{'-'.join(words)}=={self.random.randint(0, 9)}.{self.random.randint(0, 99)}.0",
            f"@{words[0]}/{'-'.join(words[1:])}@^{self.random.randint(0, 9)}.0.0",
            f"{words[0]}.{words[1]}+{words[2]}@mail.example.org",
            "C:\\" + "\\".join(words) + f"\\{self.identifier()}.txt",
            f"--{'-'.join(words)} {words[0]} -H 'Accept: application/json'",
            f".{'-'.join(words)}__{words[0]}--{words[1]}:hover > a",
            f"{self.random.randint(1, 255)}.0.0.1:5432 {self.some(string.digits, 13)}",
        ))  # fmt: skip


def ordinary_texts(count: int, seed: int = 13) -> Iterator[str]:
    """That many texts, the known ones first."""
    writer = _Writer(seed)
    kinds: tuple[Callable[[], str], ...] = (
        writer.prose, writer.identifier, writer.hash, writer.id, writer.blob, writer.code,
        writer.place,
    )  # fmt: skip
    yield from FIXED
    for number in range(count - len(FIXED)):
        yield kinds[number % len(kinds)]()
