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
    ("openai", "sk-(?:proj-|svcacct-|admin-)?", r"[\w-]{20,}"),
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
    ("aws", "(?:AKIA|ASIA|ABIA|ACCA)", r"[A-Z0-9]{16}\b"),
    ("stripe", "(?:sk|rk)_(?:live|test)_", r"[A-Za-z0-9]{16,}"),
    ("stripe", "whsec_", r"[A-Za-z0-9+/=]{24,}"),
    ("google", "AIza", r"[\w-]{35}"),
    ("google", "GOCSPX-", r"[\w-]{20,}"),
    ("google", r"ya29\.", r"[\w-]{20,}"),
    ("google", "1//0", r"[\w-]{30,}"),
    ("twilio", "SK", r"[0-9a-f]{32}\b"),
    ("sendgrid", r"SG\.", r"[\w-]{16,32}\.[\w-]{32,64}"),
    ("npm", "npm_", r"[A-Za-z0-9]{30,}"),
    ("pypi", "pypi-", r"[\w-]{50,}"),
    ("huggingface", "(?:hf|api_org)_", r"[A-Za-z0-9]{30,}"),
    ("digitalocean", "do[opr]_v1_", r"[a-f0-9]{40,}"),
    ("databricks", "dapi", r"[a-f0-9]{32}(?:-\d)?\b"),
    ("mailgun", "key-", r"[a-f0-9]{32}\b"),
    ("mailchimp", "[a-f0-9]{32}-us", r"\d{1,2}\b"),
    ("shopify", "shp(?:at|ca|pa|ss)_", r"[a-fA-F0-9]{32}"),
    ("vault", r"hv[bsr]\.", r"[\w-]{20,}"),
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
    ("newrelic", "[a-f0-9]{36}NRAL", r"\b"),
    ("artifactory", "AKCp", r"[A-Za-z0-9]{60,}"),
    ("fly", "fo1_", r"[\w-]{40,}"),
    ("alibaba", "LTAI", r"[A-Za-z0-9]{20}\b"),
    ("age", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,58}"),
    ("hubspot", r"pat-(?:na|eu)\d-", r"[a-f0-9]{8}-[a-f0-9-]{27}"),
    ("mapbox", r"sk\.eyJ", r"[\w-]{20,}\.[\w-]{20,}"),
    ("google", r"AAAA[\w-]{7}:APA91b", r"[\w-]{60,}"),
    ("brevo", "xkeysib-", r"[a-f0-9]{64}"),
    ("buildkite", "bk(?:ua|aat|at)_", r"[a-f0-9]{32,}"),
    ("circleci", "CCIPAT_", r"\w{20,}"),
    ("netlify", "nfp_", r"[A-Za-z0-9]{30,}"),
    ("contentful", "CFPAT-", r"[\w-]{30,}"),
    ("dynatrace", r"dt0[a-z]\d\d\.", r"[A-Z0-9]{16,}\.[A-Z0-9]{40,}"),
    ("tailscale", "tskey-", r"[a-z]{2,10}-[\w-]{16,}"),
    ("sourcegraph", "sgp_", r"[a-f0-9_]{40,}"),
    ("supabase", "sb_secret_", r"[\w-]{20,}"),
    ("flutterwave", "FLWSECK(?:_TEST)?-", r"[A-Za-z0-9-]{20,}"),
    ("plaid", "access-(?:sandbox|production|development)-", r"[a-f0-9]{8}-[a-f0-9-]{27}"),
    ("onepassword", "ops_eyJ", r"[\w-]{40,}"),
    ("adafruit", "aio_", r"[A-Za-z0-9]{28}\b"),
    ("razorpay", "rzp_live_", r"[A-Za-z0-9]{14,}"),
    (
        "teams",
        r"https:(?:\x03?/){2}[\w-]{1,40}\.webhook\.office\.com\x03?/",
        r"[a-z0-9]{4,12}\x03?/[\w@/\x03-]{40,}",
    ),
    ("unix_crypt", r"\$(?:[1256y]|apr1|2[abxy]|argon2\w{1,2})\$", r"[\w./$,=+]{20,}"),
)
_CUE: Final = (
    r"\bsk[-_.]|pat-(?:na|eu)|APA91b|xkeysib|\bbk[a-z]{2,3}_|CCIPAT|\bnfp_|CFPAT|\bdt0|tskey-|sgp_"
    r"|sb_secret|FLWSECK|access-(?:s|p|d)|ops_ey|\baio_|rzp_|webhook|\brk_|whsec|gh[oprsu]_|github_pat|\bgl[a-z]{1,5}[-_]|\bxox|xapp-|hooks|discord"
    r"|AKIA|ASIA|ABIA|ACCA|AIza|GOCSPX|ya29|1//0|\bSK[0-9a-f]{8}|SG\.|npm_|pypi-"
    r"|\bhf_|api_org_|\bdo[opr]_v1|dapi[0-9a-f]|key-[0-9a-f]|-us\d|\bshp[a-z]{2}_|\bhv[bsr]\."
    r"|secret_|\bntn_|\blin_|gsk_|xai-|\br8_|pplx-|lsv2|sbp_|sntry|pscale|\bpat[A-Za-z0-9]{14}"
    r"|\bsq0|EAAA|figd_|PMAK|\bdp\.|\bpul-|TT3xF|\bcio[a-z0-9]{32}|rubygems_|dckr_|\bNR[A-Z]{2}-|NRAL|AKCp"
    r"|\bfo1_|LTAI|AGE-S|\$(?:[1256y]|apr1|2[abxy]|argon2\w{1,2})\$"
)
_MIDDLE_CUE: Final = r"\.[\w-]{6}\.[\w-]{27}|[78]Q~|:AA|atlasv1"
# Those that show by what is within: the anchor, what stands before its end, what behind it.
_MIDDLES: Final = (
    ("discord", r"\.[\w-]{6}\.", r"\b[MNO][\w-]{22,27}\.[\w-]{6}\.\Z", r"[\w-]{27,45}"),
    ("azure", "[78]Q~", r"[A-Za-z0-9_~.-]{3}[78]Q~\Z", r"[A-Za-z0-9_~.-]{31,34}"),
    ("telegram", r"\d:AA", r"\b(?:bot)?\d{8,10}:AA\Z", r"[\w-]{32,35}"),
    ("terraform", r"\.atlasv1\.", r"\b[A-Za-z0-9]{14}\.atlasv1\.\Z", r"[\w-]{50,512}"),
)
_KIND_OF: Final = {"jwt": "jwt", "unix_crypt": "password"}
_CLASS: Final = re.compile(r"(\[[^\]]*\]|\\[wd])(?:\{(\d+))?")
_LEAD_CHARS: Final = 6


def _boundary(start: str) -> str:
    return "" if start.startswith((r"\$", "https")) else r"\b"


def _lead(rest: str) -> str:
    """The first few characters of what follows: more would have the anchor count too much."""
    told = _CLASS.match(rest)
    return f"{told[1]}{{{min(int(told[2] or 1), _LEAD_CHARS)}}}" if told else rest


_ANCHOR: Final = compile_anchor(
    "|".join(f"{_boundary(start)}{start}{_lead(rest)}" for _, start, rest in _FORMS)
)
_NAMED: Final = re.compile(
    "|".join(
        f"(?P<{name}_{n}>{start}{rest})" for n, (name, start, rest) in enumerate(_FORMS)
    ).encode()
)
_MIDDLE: Final = compile_anchor(
    "|".join(f"{anchor}{_lead(rest)}" for _, anchor, _, rest in _MIDDLES)
)
_AROUND: Final = tuple(
    (name, re.compile(anchor.encode()), re.compile(left.encode()), re.compile(rest.encode()))
    for name, anchor, left, rest in _MIDDLES
)
_JWT: Final = compile_anchor(r"\beyJ[\w-]{6}")
_JWT_FORM: Final = re.compile(rb"[\w-]{11,4096}+\.((?:eyJ)?)([\w-]{8,8192}+)\.([\w-]{0,2048}+)")
_TAIL: Final = re.compile(rb"[\w.-]{0,8192}+")
# A form is read so far; what is longer has its tail read once it is known to be a key.
_MAX_FORM_BYTES: Final = 512
_MAX_LEFT_BYTES: Final = 48
_LOOK_AT_BYTES: Final = 200


def _judge(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    named = _NAMED.match(view, start, start + _MAX_FORM_BYTES)
    if named is None:
        return ()
    provider = (named.lastgroup or "").rpartition("_")[0]
    end = named.end()
    return _key(view, start, end, provider)


def _judge_middle(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    for name, anchor, left, rest in _AROUND:
        if found := anchor.match(view, start):
            first = max(0, found.end() - _MAX_LEFT_BYTES)
            before = left.search(view[first : found.end()])
            after = rest.match(view, found.end()) if before else None
            if before and after:
                return _key(view, first + before.start(), after.end(), name)
    return ()


def _judge_jwt(subject: Subject, start: int, _end: int) -> Sequence[Candidate]:
    view = subject.view
    token = _JWT_FORM.match(view, start)
    if token is None:
        return ()
    is_signed = len(token[2]) >= 12 and len(token[3]) >= 20 and token.end(1) - start >= 16
    if not (token[1] or is_signed):
        return ()
    return _key(view, start, token.end(), "jwt")


def _key(view: bytes, start: int, end: int, provider: str) -> Sequence[Candidate]:
    token = view[start : min(end, start + _LOOK_AT_BYTES)]
    if not _looks_random(token) or _continues_a_word(view, start):
        return ()
    if end - start == _MAX_FORM_BYTES:
        end = _tail_end(view, end)
    end -= len(view[start:end]) - len(view[start:end].rstrip(b".-"))
    return (Candidate(start, end, _KIND_OF.get(provider, "api_key"), provider, RANK_FORMAT),)


def _tail_end(view: bytes, end: int) -> int:
    tail = _TAIL.match(view, end)
    return tail.end() if tail else end


def _looks_random(token: bytes) -> bool:
    """Words with hyphens have no digit, and placeholders repeat themselves."""
    return values.has_digit(token[3:]) and len(set(token)) > 9


def _continues_a_word(view: bytes, start: int) -> bool:
    """`task-sk-…` is a slug; `=sk-…` is not."""
    return start > 1 and view[start - 1 : start] == b"-" and view[start - 2 : start - 1].isalnum()


DETECTORS: Final = (
    Detector(_CUE, _ANCHOR, _judge, units=9),
    Detector(_MIDDLE_CUE, _MIDDLE, _judge_middle, units=7),
    Detector(r"\beyJ", _JWT, _judge_jwt, units=16),
)
