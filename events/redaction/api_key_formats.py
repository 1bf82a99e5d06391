"""Finds API keys and tokens by the prefix that their issuer gives them.

Each format has the prefix, the alphabet and the length of an issuer's keys, so ids, digests, UUIDs
and base64 are not matched. If keys may become longer, the length is the minimum. The URL of the
issuer's page about its keys is above each format. Many such pages do not describe the form of a
key; then it is taken from the published rules of gitleaks (https://github.com/gitleaks/gitleaks,
config/gitleaks.toml) and detect-secrets (https://github.com/Yelp/detect-secrets), or from examples
in public documents, with a length that leaves some room. GitHub lists the issuers whose keys it
scans for:
https://docs.github.com/en/code-security/reference/secret-security/supported-secret-scanning-patterns

A letter may come directly before a prefix of four characters or more (`xsk-proj-...`), because
texts are joined without a blank. Shorter prefixes are also the ends of words (`task-...`), so the
characters after them must include small and capital letters. Far inside a long run of base64, a
prefix is not counted: it occurs there by chance.
"""

# ruff: noqa: E501 (tables of formats and texts)
from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from lllm.events.redaction.randomness import is_masked, is_words

_ESCAPE = re.compile(
    r"(?:\\[abefnrtv0]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}|[\d;\[]m)\Z"
)
_GLUED = 4  # a letter may come before a prefix of at least so many characters


@dataclass(frozen=True)
class KeyFormat:
    """The format of one issuer's keys: a prefix and the characters that follow.

    Attributes:
        name: The name of the kind of key, which the mark shows.
        prefix: The characters that each key begins with.
        rest: The regular expression for the characters after the prefix.
        any_body: True if these characters can't be words, so they are not checked for words.
        regex: The whole regular expression.
    """

    name: str
    prefix: str
    rest: str
    any_body: bool
    regex: re.Pattern[str]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Find the keys of this format in a text.

        Args:
            text: The text to search.

        Yields:
            The start and the end of each key.
        """
        for match in self.regex.finditer(text):
            start, end = match.span()
            body = text[match.start() + len(self.prefix) : end]
            if is_masked(body) or (not self.any_body and is_words(body)):
                continue
            if self._begins(text, start, body):
                yield start, end

    def _begins(self, text: str, start: int, body: str) -> bool:
        before = text[max(0, start - 64) : start]
        if not before or before[-1] not in _OF_BLOBS:
            return True
        run = before[len(before.rstrip(_OF_BLOBS)) :]
        if len(run) >= 20 and not is_words(run):
            return False  # by chance, far inside a run of base64
        if not before[-1].isalnum():
            return True
        if len(self.prefix) < _GLUED and (
            self.prefix.isalnum() or body.islower() or body.isupper()
        ):
            # the end of a word: task, disk, desk
            word = self.prefix.isalnum() or before[-1] in "aeiouAEIOU"
            return not word or _ESCAPE.search(before) is not None
        return True


_OF_BLOBS = string.ascii_letters + string.digits + "+/_-"
_A = "[A-Za-z0-9]"
_U = "[A-Za-z0-9_-]"
_H = "[0-9a-f]"

# name, prefixes, expression for the rest, True if the rest can't be words
_FORMATS: tuple[tuple[str, str, str, bool], ...] = (
    # The rule that Anthropic gave to GitLab, for api03 and its like; gitleaks has admin01, too:
    # https://gitlab.com/gitlab-org/security-products/analyzers/secrets/-/merge_requests/319
    ("anthropic-key", "sk-ant-", rf"[a-z]{{3,8}}[0-9]{{2}}-{_U}{{80,}}", True),
    # https://openrouter.ai/docs/api_reference/authentication; 64 hex digits.
    ("openrouter-key", "sk-or-", rf"v[0-9]-{_H}{{64}}", True),
    # https://langfuse.com/docs/api-and-data-platform/features/public-api
    ("langfuse-key", "sk-lf-", rf"{_H}{{8}}-{_H}{{4}}-{_H}{{4}}-{_H}{{4}}-{_H}{{12}}", True),
    # Project, service account and admin keys:
    # https://platform.openai.com/docs/api-reference/authentication
    ("openai-key", "sk-proj- sk-svcacct- sk-admin- sk-None-", rf"{_U}{{40,}}", False),
    # Older keys; other issuers copied the form (DeepSeek, Moonshot, DashScope, LiteLLM, Stability).
    ("openai-key", "sk-", rf"{_A}{{32,}}", False),
    # 39 characters: https://docs.cloud.google.com/docs/authentication/api-keys
    ("google-key", "AIza", rf"{_U}{{35}}(?![_-])", False),
    # Keys bound to an account: https://ai.google.dev/gemini-api/docs/api-key
    ("google-key", "AQ.", rf"{_U}{{40,60}}(?![_-])", False),
    # https://developers.google.com/identity/protocols/oauth2#size
    ("google-oauth-token", "ya29.", r"[A-Za-z0-9_.-]{30,}", False),
    ("google-oauth-token", "1//0", rf"{_U}{{40,}}", False),
    # https://developers.google.com/identity/protocols/oauth2/web-server
    ("google-client-secret", "GOCSPX-", rf"{_U}{{24,}}", False),
    # AKIA is a long-lived key, ASIA a temporary one, 20 characters:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
    ("aws-key-id", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}", True),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-how.html
    ("aws-bedrock-key", "ABSK", r"[A-Za-z0-9+/]{60,}={0,2}", True),
    ("aws-bedrock-key", "bedrock-api-key-", r"[A-Za-z0-9+/_-]{40,}={0,2}", True),
    # A client secret has `Q~` after three characters and a digit:
    # https://learn.microsoft.com/en-us/purview/sit-defn-azure-ad-client-secret
    ("azure-client-secret", "Q~", r"(?<=[A-Za-z0-9_~.]{3}[0-9]Q~)[A-Za-z0-9_~.-]{31,34}", True),
    # Keys of 84 characters hold `JQQJ99`:
    # https://learn.microsoft.com/en-us/purview/sit-defn-azure-cognitive-search-api-key
    ("azure-key", "JQQJ99", rf"{_A}{{20,40}}", True),
    ("azure-key", "AzSe AzCa ACDb AIoT AzFu", r"[A-Za-z0-9+/]{6,}={1,2}", True),
    # https://build.nvidia.com; https://docs.api.nvidia.com
    ("nvidia-key", "nvapi-", rf"{_U}{{40,}}", False),
    # https://inference-docs.cerebras.ai/quickstart
    ("cerebras-key", "csk-", rf"{_A}{{40,}}", False),
    # https://docs.fireworks.ai/getting-started/quickstart
    ("fireworks-key", "fw_", rf"{_A}{{20,}}", False),
    # https://docs.pinecone.io/guides/projects/manage-api-keys
    ("pinecone-key", "pcsk_", r"[A-Za-z0-9_]{40,}", False),
    # https://docs.langchain.com/langsmith/create-account-api-key
    ("langsmith-key", "lsv2_pt_ lsv2_sk_", rf"{_H}{{32}}_{_H}{{10}}", True),
    # https://docs.tavily.com/documentation/quickstart
    ("tavily-key", "tvly-", rf"{_U}{{28,}}", False),
    # https://docs.gitguardian.com/secrets-detection/secrets-detection-engine/detectors/specifics/jina_api_key
    # says that it has a prefix; at least 32 hex digits follow.
    ("jina-key", "jina_", rf"{_H}{{32}}{_U}{{16,}}", True),
    # https://docs.voyageai.com/docs/api-key-and-installation
    ("voyage-key", "pa-", rf"{_U}{{40,48}}", False),
    # https://docs.together.ai/docs/api-keys-authentication
    ("together-key", "tgp_v1_", rf"{_U}{{40,}}", False),
    # https://docs.llamaindex.ai/en/stable/llama_cloud/
    ("llamacloud-key", "llx-", rf"{_A}{{40,}}", False),
    # https://docs.firecrawl.dev/introduction
    ("firecrawl-key", "fc-", rf"{_H}{{32}}", True),
    # https://e2b.dev/docs/api-key
    ("e2b-key", "e2b_", rf"{_H}{{40}}", True),
    # https://docs.runpod.io/get-started/api-keys
    ("runpod-key", "rpa_", rf"{_A}{{40,}}", False),
    # https://elevenlabs.io/docs/api-reference/authentication
    ("elevenlabs-key", "sk_", rf"{_H}{{48}}", True),
    # https://www.braintrust.dev/docs
    ("braintrust-key", "bt-st-", rf"{_A}{{40,}}", False),
    # https://docs.wandb.ai/platform/hosting/iam/service-accounts
    ("wandb-key", "wandb_v1_", r"[A-Za-z0-9_]{40,}", False),
    # https://console.groq.com/docs/quickstart; 48 at least.
    ("groq-key", "gsk_", rf"{_A}{{48,}}", False),
    # 80 characters; a shorter length is used to be safe:
    # https://docs.gitguardian.com/secrets-detection/secrets-detection-engine/detectors/specifics/x_ai_api_key
    ("xai-key", "xai-", r"[A-Za-z0-9_]{40,}", False),
    # 48 letters and digits; a shorter length is used to be safe.
    ("perplexity-key", "pplx-", rf"{_A}{{40,}}", False),
    # https://huggingface.co/docs/hub/security-tokens; 34 letters.
    ("huggingface-token", "hf_ api_org_", rf"{_A}{{34,}}", False),
    # 40 characters: https://replicate.com/docs/topics/security/api-tokens
    ("replicate-token", "r8_", rf"{_A}{{37}}", False),
    # https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github#githubs-token-formats
    ("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", rf"{_A}{{36,}}", False),
    ("github-token", "github_pat_", r"[A-Za-z0-9_]{50,}", False),
    # https://docs.gitlab.com/security/tokens/#token-prefixes; the newer have two more parts.
    (
        "gitlab-token",
        "glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- gloas- glsoat- glffct- glwt-",
        rf"{_U}{{20,}}(?:\.[0-9a-z]{{2}}\.?[0-9a-z]{{7,9}})?",
        False,
    ),
    ("gitlab-token", "GR1348941", rf"{_U}{{20}}", False),
    # https://docs.slack.dev/authentication/tokens; numbers come first, then random characters.
    ("slack-token", "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-", r"[0-9]+-[A-Za-z0-9-]{17,}", True),
    ("slack-token", "xoxe.xoxb- xoxe.xoxp-", r"[0-9]-[A-Za-z0-9]{100,}", True),
    # Secret and restricted keys, live and of sandboxes: https://docs.stripe.com/keys
    ("stripe-key", "sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_", rf"{_A}{{16,}}", False),
    ("stripe-key", "whsec_", r"[A-Za-z0-9+/]{32,}={0,2}", False),
    # https://docs.npmjs.com/about-access-tokens
    ("npm-token", "npm_", rf"{_A}{{36}}", False),
    # https://docs.pypi.org/project-management/create-api-token/: a macaroon; all have the same
    # beginning.
    ("pypi-token", "pypi-AgE", rf"{_U}{{50,}}", True),
    # https://guides.rubygems.org/api-key-scopes/
    ("rubygems-key", "rubygems_", rf"{_H}{{48}}", True),
    # https://learn.microsoft.com/en-us/nuget/nuget-org/scoped-api-keys
    ("nuget-key", "oy2", r"[a-z0-9]{43}", False),
    # https://docs.docker.com/security/access-tokens/
    ("docker-token", "dckr_pat_ dckr_oat_", rf"{_U}{{24,}}", False),
    # https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys
    ("sendgrid-key", "SG.", rf"{_U}{{16,32}}\.{_U}{{32,64}}", True),
    # https://www.twilio.com/docs/glossary/what-is-a-sid
    ("twilio-key", "SK", rf"{_H}{{32}}", True),
    # https://developers.brevo.com/docs/getting-started
    ("brevo-key", "xkeysib- xsmtpsib-", rf"{_H}{{64}}-{_A}{{16}}", True),
    # https://documentation.mailgun.com/docs/mailgun/api-reference/authentication
    ("mailgun-key", "key-", rf"(?<![A-Za-z0-9_-]key-){_H}{{32}}", True),
    # https://mailchimp.com/developer/marketing/guides/quick-start/
    ("mailchimp-key", "-us", rf"(?<={_H}{{32}}-us)[0-9]{{1,2}}", True),
    # https://resend.com/docs/api-reference/introduction
    ("resend-key", "re_", rf"{_A}{{8}}_{_A}{{20,}}", False),
    # https://developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes
    ("vault-token", "hvs. hvb. hvr.", rf"{_U}{{24,}}", False),
    # https://developer.hashicorp.com/terraform/cloud-docs/users-teams-organizations/api-tokens
    ("terraform-token", ".atlasv1.", r"[A-Za-z0-9_=-]{60,}", True),
    # https://docs.digitalocean.com/reference/api/create-personal-access-token/
    ("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", rf"{_H}{{64}}", True),
    # https://docs.databricks.com/aws/en/dev-tools/auth/pat
    ("databricks-token", "dapi", rf"{_H}{{32}}(?:-[0-9])?", True),
    # https://docs.doppler.com/docs/service-tokens
    ("doppler-token", "dp.pt. dp.ct. dp.scim. dp.audit.", rf"{_A}{{40,}}", False),
    ("doppler-token", "dp.st.", rf"(?:[a-z0-9_-]{{2,35}}\.)?{_A}{{40,}}", False),
    # https://docs.dynatrace.com/docs/dynatrace-api/basics/dynatrace-api-authentication
    ("dynatrace-token", "dt0c01. dt0s01. dt0s02. dt0s16.", r"[A-Z0-9]{24}\.[A-Z0-9]{64}", True),
    # https://developer.atlassian.com/cloud/
    ("atlassian-token", "ATATT3 ATCTT3 ATBB", r"[A-Za-z0-9_=-]{28,}", True),
    # https://linear.app/developers/graphql
    ("linear-key", "lin_api_ lin_oauth_", rf"{_A}{{40,}}", False),
    # https://developers.notion.com/reference/authentication
    ("notion-token", "ntn_", rf"[0-9]{{11}}{_A}{{35}}", True),
    ("notion-token", "secret_", rf"{_A}{{43}}", False),
    # https://airtable.com/developers/web/guides/personal-access-tokens
    ("airtable-token", "pat", rf"{_A}{{14}}\.{_H}{{64}}", True),
    # https://www.figma.com/developers/api#access-tokens
    ("figma-token", "figd_ figo_", rf"{_U}{{40,}}", False),
    # https://learning.postman.com/docs/reference/postman-api/authentication/
    ("postman-key", "PMAK-", rf"{_H}{{24}}-{_H}{{34}}", True),
    # https://shopify.dev/docs/apps/build/authentication-authorization
    ("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}", True),
    # https://planetscale.com/docs/api/reference/service-tokens
    ("planetscale-token", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[A-Za-z0-9_=.-]{32,}", False),
    # https://supabase.com/docs/guides/api/api-keys
    ("supabase-key", "sbp_", rf"{_H}{{40}}", True),
    ("supabase-key", "sb_secret_", rf"{_U}{{20,}}", False),
    # https://neon.com/docs/manage/api-keys
    ("neon-key", "napi_", rf"{_A}{{40,}}", False),
    # https://fly.io/docs/security/tokens/
    ("fly-token", "fo1_ fm1a_ fm1r_ fm2_", r"[A-Za-z0-9+/_-]{43,}={0,3}", True),
    # https://docs.netlify.com/api/get-started/
    ("netlify-token", "nfp_ nfc_ nfo_", rf"{_A}{{36,}}", False),
    # https://vercel.com/changelog/new-token-formats-and-secret-scanning
    ("vercel-token", "vcp_ vci_ vca_ vcr_ vck_", rf"{_A}{{24,}}", False),
    # https://render.com/docs/api
    ("render-key", "rnd_", rf"{_A}{{28,}}", False),
    # https://devcenter.heroku.com/articles/authentication
    ("heroku-key", "HRKU-", rf"{_U}{{36,}}", False),
    # https://grafana.com/docs/grafana/latest/administration/service-accounts/
    ("grafana-token", "glsa_", rf"{_A}{{32}}_[0-9A-Fa-f]{{8}}", True),
    ("grafana-token", "glc_", r"[A-Za-z0-9+/]{32,}={0,3}", True),
    # https://docs.sentry.io/account/auth-tokens/
    ("sentry-token", "sntrys_", r"[A-Za-z0-9+/=_-]{40,}", True),
    ("sentry-token", "sntryu_ sntrya_ sntryi_", rf"{_H}{{64}}", True),
    # https://docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys/
    ("newrelic-key", "NRAK- NRII- NRJS- NRRA-", r"[A-Za-z0-9_-]{19,}", False),
    # https://posthog.com/docs/api
    ("posthog-key", "phx_ phs_", rf"{_A}{{40,}}", False),
    # https://tailscale.com/kb/1277/key-prefixes
    ("tailscale-key", "tskey-", rf"[a-z]+-{_A}{{8,}}(?:-{_A}{{16,}})?", True),
    # https://www.pulumi.com/docs/pulumi-cloud/access-management/access-tokens/
    ("pulumi-token", "pul-", rf"{_H}{{40}}", True),
    # https://developer.adobe.com/developer-console/docs/guides/authentication/
    ("adobe-client-secret", "p8e-", rf"{_U}{{32}}", False),
    # https://developer.squareup.com/docs/build-basics/access-tokens
    ("square-token", "sq0atp- sq0csp-", rf"{_U}{{22,}}", False),
    ("square-token", "EAAA", rf"{_U}{{60}}(?![_-])", True),
    # https://developers.facebook.com/docs/facebook-login/guides/access-tokens/
    ("facebook-token", "EAAB EAAC EAAD EAAG EAAI EAAJ EAAM", rf"{_A}{{90,}}", True),
    # https://plaid.com/docs/api/tokens/
    ("plaid-token", "access-", rf"(?:sandbox|development|production)-{_H}{{8}}(?:-{_H}{{4}}){{3}}-{_H}{{12}}", True),
    # https://circleci.com/docs/managing-api-tokens/
    ("circleci-token", "CCIPAT_ CCIPRJ_", r"[A-Za-z0-9_]{40,}", True),
    # https://buildkite.com/docs/platform/security/tokens
    ("buildkite-token", "bkua_ bkat_ bkct_", rf"{_A}{{36,}}", False),
    # https://docs.sonarsource.com/sonarqube-server/user-guide/managing-tokens
    ("sonar-token", "squ_ sqp_ sqa_", rf"{_H}{{40}}", True),
    # https://sourcegraph.com/docs/cli/how-tos/creating_an_access_token
    ("sourcegraph-token", "sgp_", rf"(?:(?:{_H}{{16}}|local)_)?{_H}{{40}}", True),
    # https://docs.prefect.io/v3/how-to-guides/cloud/manage-users/api-keys
    ("prefect-key", "pnu_ pnb_", rf"{_A}{{36}}", False),
    # https://docs.readme.com/main/reference/authentication
    ("readme-key", "rdme_", r"[a-z0-9]{70}", True),
    # https://www.contentful.com/developers/docs/references/authentication/
    ("contentful-token", "CFPAT-", rf"{_U}{{43}}", False),
    # https://help.duffel.com; https://duffel.com/docs/api/overview/authentication
    ("duffel-token", "duffel_test_ duffel_live_", r"[A-Za-z0-9_=-]{43}", True),
    # https://docs.easypost.com/docs/authentication
    ("easypost-key", "EZAK EZTK", rf"{_A}{{54}}", True),
    # https://docs.goshippo.com/docs/guides_general/authentication/
    ("shippo-token", "shippo_live_ shippo_test_", r"[0-9a-fA-F]{40}", True),
    # https://developer.flutterwave.com/docs/authentication
    ("flutterwave-key", "FLWSECK-", r"[0-9a-z]{32}-X", True),
    ("flutterwave-key", "FLWSECK_TEST-", r"[0-9a-z]{12,32}(?:-X)?", True),
    # https://jfrog.com/help/r/jfrog-platform-administration-documentation/access-tokens
    ("artifactory-key", "AKCp cmVmd", rf"{_A}{{59,69}}", True),
    # https://www.alibabacloud.com/help/en/ram/user-guide/create-an-accesskey-pair
    ("alibaba-key-id", "LTAI", rf"{_A}{{16,20}}", False),
    # https://www.tencentcloud.com/document/product/598/34228
    ("tencent-key-id", "AKID", rf"{_A}{{32}}", False),
    # https://yandex.cloud/en/docs/iam/concepts/authorization/
    ("yandex-key", "AQVN", rf"{_U}{{35,38}}", True),
    # https://age-encryption.org/v1
    ("age-key", "AGE-SECRET-KEY-1", r"[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", True),
    # https://support.1password.com/secret-key-security/;
    # https://developer.1password.com/docs/service-accounts/
    ("onepassword-key", "A3-", r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}", True),
    ("onepassword-key", "ops_eyJ", r"[A-Za-z0-9+/_-]{200,}={0,3}", True),
    # https://www.infracost.io/docs/; https://frame.io/developers
    ("infracost-key", "ico-", rf"{_A}{{32}}", False),
    ("frameio-token", "fio-u-", r"[A-Za-z0-9_=-]{64}", True),
    # https://octopus.com/docs/octopus-rest-api/how-to-create-an-api-key
    ("octopus-key", "API-", r"[A-Z0-9]{26,}", False),
    # https://io.adafruit.com/api/docs/; https://wakatime.com/developers
    ("adafruit-key", "aio_", rf"{_A}{{28}}", False),
    ("wakatime-key", "waka_", rf"{_H}{{8}}(?:-{_H}{{4}}){{3}}-{_H}{{12}}", True),
    # https://api.typeform.com
    ("typeform-token", "tfp_", r"[A-Za-z0-9_.=-]{40,}", True),
    # https://developers.hubspot.com/docs/apps/legacy-apps/private-apps/overview
    ("hubspot-token", "pat-", rf"(?:na|eu|ap)[0-9]-{_H}{{8}}(?:-{_H}{{4}}){{3}}-{_H}{{12}}", True),
    # https://developer.harness.io/docs/platform/User-Management/add-and-manage-api-keys
    ("harness-token", "pat. sat.", rf"{_U}{{22}}\.{_A}{{24}}\.{_A}{{20}}", True),
    # https://docs.openshift.com
    ("openshift-token", "sha256~", rf"{_U}{{43}}", True),
    # https://developers.cloudflare.com/fundamentals/api/get-started/ca-keys/
    ("cloudflare-key", "v1.0-", rf"{_H}{{24}}-{_H}{{146}}", True),
    ("cloudflare-token", "cfut_ cfat_ cfk_", rf"{_A}{{40,}}", False),
    # https://core.telegram.org/bots/features#creating-a-new-bot; digits and a colon come first.
    ("telegram-token", "AA", rf"(?<=[0-9]{{8}}:AA){_U}{{33}}(?![_-])", True),
    # https://docs.discord.com/developers/reference#authentication
    ("discord-token", "M N O", r"[A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}", False),
)  # fmt: skip


@cache
def api_key_formats() -> tuple[KeyFormat, ...]:
    """Return every key format.

    They are made at the first call: most programs never write a key, and compiling so many
    expressions takes tens of milliseconds.

    Returns:
        The formats.
    """
    return tuple(
        KeyFormat(
            name, prefix, rest, any_body,
            re.compile(f"{re.escape(prefix)}{rest}(?![A-Za-z0-9])"),
        )
        for name, prefix, rest, any_body in each_prefix()
    )  # fmt: skip


def each_prefix() -> Iterator[tuple[str, str, str, bool]]:
    """Yield the prefixes of all key formats, for the fast check.

    Yields:
        The name, the prefix, the expression for the rest and `any_body` of each KeyFormat.
    """
    for name, prefixes, rest, any_body in _FORMATS:
        for prefix in prefixes.split(" "):
            yield name, prefix, rest, any_body
