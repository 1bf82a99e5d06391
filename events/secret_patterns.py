"""What a secret looks like: a Pattern for each kind, and how to tell fast that there is none.

`api_keys()` are looked for in everything that is written. EMAIL, CARD and BEARER are ready for
those who want them, and a Pattern of one's own is a name and a regular expression:

    LogStore(backend, redact=[EMAIL, CARD, Pattern("ticket", r"TICKET-[0-9]{6}")])

A pattern asks for the prefix, the alphabet and the length that its provider writes down, and for an
end on both sides, so that ids, digests, UUIDs and base64 are left alone. Where a provider says that
its keys may grow, the length is the least. Each names the page its format comes from; GitHub's list
of what it scans for has them all:
https://docs.github.com/en/code-security/reference/secret-security/supported-secret-scanning-patterns
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from lllm.events.errors import ConfigError

_SECRET = "secret"  # the group that is cut, where a regular expression has one of that name
_NAME = re.compile(r"[a-z0-9][a-z0-9 ._-]*")


@dataclass(frozen=True)
class Pattern:
    """One kind of secret.

    name: stands in the marks and the counts, as `[redacted: NAME]`; small letters, digits, space,
    and `._-`. regex: of Python's `re`, searched in every text; a group named `secret` says that
    only it is cut, and what is around it is only how to find it. check: called with what would be
    cut; False keeps it. needs: what every such secret holds; a text without it is not searched,
    which takes no time.

    Raises ConfigError for a name or regex that can't be, and for a regex that the empty text fits.
    """

    name: str
    regex: str
    check: Callable[[str], bool] | None = None
    needs: str = ""
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"A Pattern's name is of small letters, digits, space and '._-', not {self.name!r}."
            )
        if not isinstance(self.regex, str):
            raise ConfigError(f"Pattern {self.name!r} needs its regex as a str: {self.regex!r}")
        try:
            compiled = re.compile(self.regex)
        except re.error as error:
            raise ConfigError(f"Pattern {self.name!r}: {self.regex!r} is wrong: {error}") from error
        if compiled.search("") is not None:
            raise ConfigError(f"Pattern {self.name!r} fits the empty text, so it fits everywhere.")
        object.__setattr__(self, "_compiled", compiled)

    @property
    def mark(self) -> str:
        """What stands where a secret was."""
        return f"[redacted: {self.name}]"

    @property
    def has_surroundings(self) -> bool:
        """Whether it knows a secret by what stands around it."""
        return _SECRET in self._compiled.groupindex

    def cut(self, text: str, found: Counter[str], *, behind: int = 0) -> str:
        """A text with a mark for every secret, which `found` counts.

        behind: where the part begins that may be cut; what stands before it is only looked at.
        """

        def marked(match: re.Match[str]) -> str:
            start, end = self._span(match)
            secret = text[start:end]
            if not secret or start < behind or (self.check and not self.check(secret)):
                return match[0]
            found[self.name] += 1
            return text[match.start() : start] + self.mark + text[end : match.end()]

        if self.needs not in text:
            return text
        return self._compiled.sub(marked, text)

    def is_all(self, text: str) -> bool:
        """Whether a text is a secret and nothing else."""
        match = self._compiled.fullmatch(text)
        if match is None or self._span(match) != match.span():
            return False
        return self.check is None or bool(self.check(text))

    def _span(self, match: re.Match[str]) -> tuple[int, int]:
        if self.has_surroundings and match.start(_SECRET) >= 0:
            return match.span(_SECRET)
        return match.span()


# A key begins behind anything but a letter or digit, and behind an escape: texts hold JSON, reprs,
# URLs and terminal colours, in which `\n`, `\x1b`, `\u00e9`, `%3D` and `[0m` end with one.
_ESCAPES = (
    r"\\[abefnrtv0]", r"\\x[0-9a-fA-F]{2}", r"\\u[0-9a-fA-F]{4}", r"%[0-9a-fA-F]{2}", r"[\d;\[]m",
)  # fmt: skip


def _begun(prefix: str) -> str:
    """Behind a prefix: that it has its beginning there. `re` finds a literal fast, so the prefix
    comes first."""
    escaped = "|".join(f"(?<={escape}{prefix})" for escape in _ESCAPES)
    return f"(?:(?<![A-Za-z0-9]{prefix})|{escaped})"


def _key(name: str, prefix: str, rest: str) -> Pattern:
    return Pattern(name, f"{prefix}{_begun(prefix)}{rest}(?![A-Za-z0-9])")


@cache
def api_keys() -> tuple[Pattern, ...]:
    """Those that are looked for in everything that is written."""
    # Made late: most programs never write one, and so many expressions take 10 ms to compile.
    return (
        # The rule that Anthropic gave to GitLab, for api03, admin01, oat01 and their like:
        # https://gitlab.com/gitlab-org/security-products/analyzers/secrets/-/merge_requests/319
        _key("anthropic-key", "sk-ant-", r"[a-z]{3,8}[0-9]{2}-[A-Za-z0-9_-]{80,}"),
        # https://openrouter.ai/docs/api_reference/authentication; 64 hex digits.
        _key("openrouter-key", "sk-or-", r"v[0-9]-[0-9a-f]{64}"),
        # Project, service account and admin keys, and those before them, whose form others copied
        # (48 letters and digits, 32 at least): https://platform.openai.com/docs/api-reference/authentication
        # and gitleaks' openai-api-key.
        _key(
            "openai-key",
            "sk-",
            r"(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,}|[A-Za-z0-9]{32,})",
        ),
        # 39 characters: https://docs.cloud.google.com/docs/authentication/api-keys
        _key("google-key", "AIza", r"[A-Za-z0-9_-]{35}(?![_-])"),
        # AKIA is a long-lived key, ASIA a temporary one, 20 characters:
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
        _key("aws-key-id", "A[KS]IA", r"[A-Z0-9]{16}"),
        # 40 characters without a prefix, so only where they are assigned, by the names that they
        # have in the environment, the files of the CLI and the API:
        # https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html
        Pattern(
            "aws-secret-key",
            r"""(?:secret_access_key|SECRET_ACCESS_KEY|[Ss]ecretAccessKey)[\s"'\\:=>,]{1,16}"""
            r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        ),
        # https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github#githubs-token-formats
        _key("github-token", "gh[pousr]_", r"[A-Za-z0-9]{36,}"),
        _key("github-token", "github_pat_", r"[A-Za-z0-9_]{50,}"),
        # https://docs.gitlab.com/security/tokens/#token-prefixes; the newer have two more parts.
        _key("gitlab-token", "glpat-", r"[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.?[0-9a-z]{7,9})?"),
        # https://docs.slack.dev/authentication/tokens; numbers come first, then what is random.
        _key("slack-token", "x(?:ox[abeoprs]|app)-", r"[0-9]+-[A-Za-z0-9-]{17,}"),
        # https://huggingface.co/docs/hub/security-tokens; 34 letters.
        _key("huggingface-token", "hf_", r"[A-Za-z0-9]{34,}"),
        # https://console.groq.com/docs/quickstart; 48 at least.
        _key("groq-key", "gsk_", r"[A-Za-z0-9]{48,}"),
        # 40 characters: https://replicate.com/docs/topics/security/api-tokens
        _key("replicate-token", "r8_", r"[A-Za-z0-9]{37}"),
        # Secret and restricted keys, live and of sandboxes: https://docs.stripe.com/keys
        _key("stripe-key", "[sr]k_(?:live|test)_", r"[A-Za-z0-9]{16,}"),
        # 80 characters, less to be safe:
        # https://docs.gitguardian.com/secrets-detection/secrets-detection-engine/detectors/specifics/x_ai_api_key
        _key("xai-key", "xai-", r"[A-Za-z0-9_]{40,}"),
        # 48 letters and digits, by gitleaks' perplexity-api-key; less to be safe.
        _key("perplexity-key", "pplx-", r"[A-Za-z0-9]{40,}"),
    )


# Every prefix above holds a `-` or `_`, or else begins with `A`. `re` finds one byte that an
# expression begins with ten times as fast as it tries sixteen prefixes: with `-` and `_` made the
# same, two such searches come to each place where a key can be.
_SAME = bytes.maketrans(b"_", b"-")
_DASHED = re.compile(
    rb"-(?:(?<=[abefikoprstux8]-)(?=[0-9A-Za-z-]{19})"
    rb"(?:(?<=sk-)(?:live-|test-|[0-9A-Za-z-]{32})|(?<=rk-)(?:live|test)-|(?<=hf-|r8-)"
    rb"|(?<=gh[pousr]-|xai-)|(?<=pplx-)|(?<=xox[abeoprs]-|xapp-)[0-9]|(?<=glpat-|b-pat-))"
    rb"|access-key|ACCESS-KEY)"
)
_A = re.compile(rb"A(?:[KS]IA[0-9A-Z]{16}|Iza[0-9A-Za-z_-]{35}|ccessKey)")


def may_hold_key(data: bytes) -> bool:
    """Whether one of `api_keys()` may stand in a UTF-8 text, or in JSON made of it.

    It may say yes where there is none, never no where there is one: JSON has no escape for the
    characters of a key, so that a key stands in it as it is.
    """
    return _DASHED.search(data.translate(_SAME)) is not None or _A.search(data) is not None


def without_keys(text: str) -> str:
    """A text with marks for API keys: for log lines and messages, which are no events."""
    if may_hold_key(text.encode("utf-8", "surrogatepass")):
        found: Counter[str] = Counter()
        for pattern in api_keys():
            text = pattern.cut(text, found)
    return text


# The header of RFC 6750 section 2.1 (its b64token, with a digit in it, else it is a word), and JSON
# Web Tokens (RFC 7519 section 3: base64url, which begins with `{"`) wherever they stand. Its first
# characters are a set, and so are those of CARD, because `re` finds one of a set fast.
BEARER = Pattern(
    "bearer-token",
    r"[Bbe](?:(?<=[Bb])(?i:earer)[ \t]{1,8}"
    r"(?P<secret>(?=[A-Za-z._~+/-]{0,512}[0-9])[A-Za-z0-9._~+/-]{16,}={0,2})"
    rf"|yJ{_begun('eyJ')}[A-Za-z0-9_-]{{8,}}\.eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{16,}})",
)

# Of RFC 5321 section 4.1.2 what providers give out: no quoted names, no addresses of numbers. The
# lengths are of section 4.5.3.1 and of RFC 1035 section 2.3.4.
EMAIL = Pattern(
    "email",
    r"(?:(?<![A-Za-z0-9._%+\\-])|(?<=\\[abefnrtv0])|(?<=\\u[0-9a-fA-F]{4}))"
    r"[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9-])",
    needs="@",
)


def _is_luhn(text: str) -> bool:
    """The check digit of ISO/IEC 7812-1 annex B."""
    digits = [int(character) for character in reversed(text) if character in "0123456789"]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + doubled) % 10 == 0


# ISO/IEC 7812-1: 13 to 19 digits, whose first say who issues them (2 to 6, and the networks that
# begin with 81, 82 and 9792). In one, or as they are printed: in fours, as 4-6-4 or as 4-6-5.
CARD = Pattern(
    "card",
    r"[2-689]" + _begun("[2-689]") + r"(?<![0-9][ -][2-689])(?<![0-9]\.[2-689])"
    r"(?:(?<=[2-6])|(?<=8)(?=[12])|(?<=9)(?=792))"
    r"(?:[0-9]{12,18}"
    r"|[0-9]{3}([ -])[0-9]{4}\1[0-9]{4}\1(?:[0-9]{1,4}|[0-9]{4}\1[0-9]{1,3})"
    r"|(?<=3)[0-9]{3}([ -])[0-9]{6}\2[0-9]{4,5})"
    r"(?![0-9A-Za-z_])(?![ -][0-9])(?!\.[0-9])",
    _is_luhn,
)
