"""Keys that show by their form whose they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from baton.redaction import values
from baton.redaction.finding import RANK_FORMAT, Candidate
from baton.redaction.scanning import Detector, compile_anchor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.redaction.subject import Subject

# Name, how it begins, what follows. The first that fits names the key.
_FORMS: Final = (
    ("anthropic", "sk-ant-", r"[\w-]{16,}"),
    ("openrouter", "sk-or-", r"[\w-]{16,}"),
    ("openai", "sk-", r"(?:proj-|svcacct-|admin-)?[\w-]{20,}"),
    ("github", "gh[oprsu]_", r"[A-Za-z0-9]{30,}"),
    ("github", "github_pat_", r"\w{30,}"),
    ("gitlab", "gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt|ffct)-", r"[\w.-]{20,}"),
    ("slack", "xox[abceoprs]-", r"[A-Za-z0-9.-]{16,}"),
    ("slack", "xapp-", r"\d-[A-Za-z0-9-]{20,}"),
    ("slack", r"https:(?:\x03?/){2}hooks\.slack\.com\x03?/", r"[a-z]{4,12}\x03?/[\w/\x03]{20,}"),
    (
        "discord",
        r"https:(?:\x03?/){2}(?:\w{2,6}\.)?discord(?:app)?\.com\x03?/api\x03?/webhooks\x03?/",
        r"\d{15,21}\x03?/[\w-]{30,}",
    ),
    ("discord", "[MNO]", r"[\w-]{22,27}\.[\w-]{6}\.[\w-]{27,45}"),
    ("aws", "(?:AKIA|ASIA|ABIA|ACCA)", r"[A-Z0-9]{16}\b"),
    ("stripe", "(?:sk|rk)_(?:live|test)_", r"[A-Za-z0-9]{16,}"),
    ("stripe", "whsec_", r"[A-Za-z0-9+/=]{24,}"),
    ("google", "AIza", r"[\w-]{35}"),
    ("google", "GOCSPX-", r"[\w-]{20,}"),
    ("google", r"ya29\.", r"[\w-]{20,}"),
    ("google", "1//0", r"[\w-]{30,}"),
    ("azure", "", r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}"),
    ("twilio", "SK", r"[0-9a-f]{32}\b"),
    ("sendgrid", r"SG\.", r"[\w-]{16,32}\.[\w-]{32,64}"),
    ("npm", "npm_", r"[A-Za-z0-9]{30,}"),
    ("pypi", "pypi-", r"[\w-]{50,}"),
    ("huggingface", "(?:hf|api_org)_", r"[A-Za-z0-9]{30,}"),
    ("digitalocean", "do[opr]_v1_", r"[a-f0-9]{40,}"),
    ("databricks", "dapi", r"[a-f0-9]{32}(?:-\d)?\b"),
    ("mailgun", "key-", r"[a-f0-9]{32}\b"),
    ("mailchimp", "", r"[a-f0-9]{32}-us\d{1,2}\b"),
    ("shopify", "shp(?:at|ca|pa|ss)_", r"[a-fA-F0-9]{32}"),
    ("telegram", "(?:bot)?", r"\d{8,10}:AA[\w-]{32,35}"),
    ("vault", r"hv[bsr]\.", r"[\w-]{20,}"),
    ("terraform", "", r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{50,}"),
    ("grafana", "gl(?:c|sa)_", r"[\w+/=]{32,}"),
    ("notion", "(?:secret|ntn)_", r"[A-Za-z0-9]{40,}"),
    ("linear", "lin_(?:api|oauth)_", r"[A-Za-z0-9]{32,}"),
    ("groq", "gsk_", r"[A-Za-z0-9]{40,}"),
    ("xai", "xai-", r"[A-Za-z0-9]{60,}"),
    ("replicate", "r8_", r"[A-Za-z0-9]{30,}"),
    ("perplexity", "pplx-", r"[A-Za-z0-9]{40,}"),
    ("langsmith", "lsv2_(?:pt|sk)_", r"[a-f0-9]{32}_[a-f0-9]{8,}"),
    ("supabase", "sbp_", r"[a-f0-9]{40}"),
    ("sentry", "sntry[su]_", r"[\w+/=]{30,}"),
    ("planetscale", "pscale_(?:pw|tkn|oauth)_", r"[\w.=-]{30,}"),
    ("airtable", "pat", r"[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    ("square", r"(?:sq0(?:atp|csp|idp)-|EAAA)", r"[\w-]{22,}"),
    ("figma", "figd_", r"[\w-]{36,}"),
    ("postman", "PMAK-", r"[a-f0-9]{24}-[a-f0-9]{34}"),
    ("doppler", r"dp\.(?:pt|st|ct|sa|scim|audit)\.", r"[\w.-]{40,}"),
    ("pulumi", "pul-", r"[a-f0-9]{40}"),
    ("atlassian", "AT[AC]TT3xFfGF0", r"[\w=-]{40,}"),
    ("crates", "cio", r"[A-Za-z0-9]{32}\b"),
    ("rubygems", "rubygems_", r"[a-f0-9]{48}"),
    ("docker", "dckr_(?:pat|oat)_", r"[\w-]{27,}"),
    ("newrelic", "NR(?:AK|JS|II|RA)-", r"[A-Za-z0-9-]{19,}"),
    ("newrelic", "", r"[a-f0-9]{36}NRAL\b"),
    ("artifactory", "AKCp", r"[A-Za-z0-9]{60,}"),
    ("fly", "fo1_", r"[\w-]{40,}"),
    ("alibaba", "LTAI", r"[A-Za-z0-9]{20}\b"),
    ("age", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,58}"),
    ("jwt", "eyJ", r"[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"),
    ("jwt", "eyJ", r"[\w-]{12,}\.[\w-]{12,}\.[\w-]{20,}"),
    ("unix_crypt", r"\$(?:[1256y]|apr1|2[abxy]|argon2\w{1,2})\$", r"[\w./$,=+]{20,}"),
)
_CUE: Final = (
    r"\bsk[-_]|\brk_|whsec|gh[oprsu]_|github_pat|\bgl[a-z]{1,5}[-_]|\bxox|xapp-|hooks|discord"
    r"|\.[\w-]{6}\.|AKIA|ASIA|ABIA|ACCA|AIza|GOCSPX|ya29|1//0|[78]Q~|\bSK[0-9a-f]{8}|SG\.|npm_|pypi-"
    r"|\bhf_|api_org_|\bdo[opr]_v1|dapi[0-9a-f]|key-[0-9a-f]|-us\d|\bshp[a-z]{2}_|:AA|\bhv[bsr]\."
    r"|atlasv1|secret_|\bntn_|\blin_|gsk_|xai-|\br8_|pplx-|lsv2|sbp_|sntry|pscale|\bpat[A-Za-z0-9]{14}"
    r"|\bsq0|EAAA|figd_|PMAK|\bdp\.|\bpul-|TT3xF|\bcio[a-z0-9]{32}|rubygems_|dckr_|\bNR[A-Z]{2}-|NRAL|AKCp"
    r"|\bfo1_|LTAI|AGE-S|\beyJ|\$(?:[1256y]|apr1|2[abxy]|argon2\w{1,2})\$"
)
_KIND_OF: Final = {"jwt": "jwt", "unix_crypt": "password"}


def _form(start: str, rest: str) -> str:
    boundary = "" if start.startswith((r"\$", "https")) else r"\b"
    return f"{boundary}{start}{rest}"


_ANCHOR: Final = compile_anchor("|".join(_form(start, rest) for _, start, rest in _FORMS))
_NAMED: Final = re.compile(
    "|".join(
        f"(?P<{name}_{n}>{start}{rest})".replace(r"\b", "")
        for n, (name, start, rest) in enumerate(_FORMS)
    ).encode()
)
_TAIL: Final = re.compile(rb"[\w.-]{0,8192}")
_MANY_LETTERS: Final = 40


def _judge(subject: Subject, start: int, end: int) -> Sequence[Candidate]:
    view = subject.view
    named = _NAMED.match(view, start, end)
    provider = (named.lastgroup or "").rpartition("_")[0] if named else "unknown"
    token = view[start:end]
    if not _looks_random(token) or _continues_a_word(view, start):
        return ()
    stop = _TAIL.match(view, end)
    if stop is not None and stop.end() - end > _MANY_LETTERS:
        end = stop.end()  # the scan's stretch ended within it
    end -= len(token) - len(token.rstrip(b".-")) if end - start == len(token) else 0
    kind = _KIND_OF.get(provider, "api_key")
    return (Candidate(start, end, kind, provider, RANK_FORMAT),)


def _looks_random(token: bytes) -> bool:
    """Words with hyphens have no digit, and placeholders repeat themselves."""
    return values.has_digit(token[3:]) and len(set(token[:200])) > 9


def _continues_a_word(view: bytes, start: int) -> bool:
    """`task-sk-…` is a slug; `=sk-…` is not."""
    return start > 1 and view[start - 1 : start] == b"-" and view[start - 2 : start - 1].isalnum()


DETECTOR: Final = Detector(_CUE, _ANCHOR, _judge, units=3)
