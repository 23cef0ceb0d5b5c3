"""Single sign-on: only a token that the issuer signed for this service, now, opens anything."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from service.errors import UserError
from service.quota.limits import UNLIMITED
from service.settings import SSOSettings
from service.tenants.jwks import signing_keys
from service.tenants.principal import Principal
from service.tenants.recent import Recent
from service.tenants.sso import (
    LEEWAY_SECONDS,
    MAX_TOKEN_BYTES,
    NotAMember,
    SingleSignOn,
    looks_like_jwt,
)
from service.tenants.team import Team

ISSUER = "https://issuer.example"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TEAMS = {name: Team(name) for name in ("search", "ads")}
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SETTINGS = SSOSettings(issuer=ISSUER, audience="gptoss", jwks_url=f"{ISSUER}/jwks")


def jwk(key: Any = RSA_KEY, **members: Any) -> dict[str, Any]:
    """What an issuer publishes of a key."""
    kinds: dict[type, Any] = {
        rsa.RSAPublicKey: RSAAlgorithm,
        ec.EllipticCurvePublicKey: ECAlgorithm,
    }
    public = key.public_key()
    kind = next((a for c, a in kinds.items() if isinstance(public, c)), OKPAlgorithm)
    shown: dict[str, Any] = kind.to_jwk(public, as_dict=True)
    return {name: shown[name] for name in shown if name != "key_ops"} | {"kid": "one"} | members


def mint(
    *, key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "one", **changes: Any
) -> str:
    """A good token, but for the changes; None takes a claim away."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "gptoss",
        "sub": "ann",
        "exp": int((NOW + timedelta(hours=1)).timestamp()),
        "gptoss_team": "search",
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else {})


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Desk:
    """Single sign-on with an issuer inside this process."""

    def __init__(self, *keys: dict[str, Any], **changes: Any) -> None:
        self.keys = list(keys) or [jwk()]
        self.jwks_uri = f"{ISSUER}/jwks"
        self.fetches = 0
        self.clock = Clock()
        transport = httpx.MockTransport(self._answer)
        self.sso = SingleSignOn(
            SETTINGS.model_copy(update=changes),
            client=lambda: httpx.AsyncClient(transport=transport),
            clock=self.clock,
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.fetches += 1
        document: dict[str, Any] = {"keys": self.keys}
        if request.url.path.endswith("/openid-configuration"):
            document = {"issuer": ISSUER, "jwks_uri": self.jwks_uri}
        body = json.dumps(document).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))

    async def ask(
        self, token: str, now: datetime = NOW, teams: Mapping[str, Team] = TEAMS
    ) -> Principal | None:
        return await self.sso.authenticate(token, teams, now)

    def opens(self, token: str, now: datetime = NOW) -> bool:
        return self.team(token, now) is not None

    def team(self, token: str, now: datetime = NOW) -> str | None:
        principal = asyncio.run(self.ask(token, now))
        return principal.team.name if principal else None


def refused(token: str) -> bool:
    """Whether a token is refused where a good one opens."""
    desk = Desk()
    return desk.opens(mint()) and not desk.opens(token)


def test_a_token_of_the_issuer_opens_as_a_key_does() -> None:
    digest = hashlib.sha256(f"{ISSUER}|ann".encode()).hexdigest()
    expected = Principal(f"sso:{digest[:12]}", TEAMS["search"], UNLIMITED)
    assert asyncio.run(Desk().ask(mint())) == expected


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSA_KEY),
        ("RS384", RSA_KEY),
        ("RS512", RSA_KEY),
        ("PS256", RSA_KEY),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("ES384", ec.generate_private_key(ec.SECP384R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
)
def test_every_algorithm_of_the_settings_verifies(algorithm: str, key: Any) -> None:
    desk = Desk(jwk(key), algorithms=(algorithm,))
    assert desk.opens(mint(key=key, algorithm=algorithm))
    assert not desk.opens(mint(key=key, algorithm=algorithm)[:-6] + "AAAAAA")


def _forged(header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token made by hand: PyJWT refuses to make these."""
    payload = jwt.decode(mint(), options={"verify_signature": False})
    parts = b".".join(_part(json.dumps(each).encode()) for each in (header, payload))
    return (parts + b"." + _part(sign(parts))).decode()


def _part(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_alg_none_is_refused(name: str) -> None:
    unsigned = _forged({"alg": name, "kid": "one"}, lambda parts: b"")
    assert refused(unsigned)
    assert refused(_forged({"alg": name, "kid": "one"}, lambda parts: b"any"))


def test_hs256_with_the_public_key_as_the_secret_is_refused() -> None:
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for secret in (pem, json.dumps(jwk()).encode(), jwk()["n"].encode()):

        def signed(parts: bytes, secret: bytes = secret) -> bytes:
            return hmac.digest(secret, parts, "sha256")

        assert refused(_forged({"alg": "HS256", "kid": "one"}, signed))


def test_a_symmetric_key_of_the_issuer_is_ignored() -> None:
    secret = b"s" * 32
    oct = {"kty": "oct", "kid": "one", "k": _part(secret).decode(), "alg": "HS256"}
    token = mint(key=secret, algorithm="HS256")
    assert signing_keys({"keys": [oct]}, ("RS256", "HS256")) == ()
    assert not Desk(oct).opens(token)
    assert not Desk(jwk(alg="HS256")).opens(token)


def test_an_algorithm_that_is_not_in_the_settings_is_refused_without_a_fetch() -> None:
    desk = Desk(algorithms=("ES256",))
    assert not desk.opens(mint())
    assert desk.fetches == 0


def test_a_key_verifies_only_the_algorithms_that_fit_it() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    all = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
    fits = [key.algorithms for key in signing_keys({"keys": [jwk(), jwk(curve)]}, all)]
    assert fits == [{"RS256", "PS256"}, {"ES256"}]
    assert signing_keys({"keys": [jwk(alg="PS256")]}, all)[0].algorithms == {"PS256"}
    assert not Desk(jwk(alg="RS512")).opens(mint())


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"kty": ["RSA"]},
        {"kid": 7},
        {"n": "!"},
        {"n": 7},
        {"n": "AQAB"},
        {"alg": ["RS256"]},
    ],
)
def test_a_published_key_that_is_not_for_signatures_or_is_broken_is_left_out(
    members: dict[str, Any],
) -> None:
    assert signing_keys({"keys": [jwk(**members)]}, ("RS256",)) == ()


def test_an_rsa_key_under_2048_bits_is_left_out() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    assert signing_keys({"keys": [jwk(weak)]}, ("RS256",)) == ()


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(["keys", "kty", "n", "e", "kid", "alg"]), values)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | _objects(x)))
def test_no_published_document_breaks_the_reader(document: object) -> None:
    assert signing_keys(document, ("RS256",)) == ()
    assert signing_keys({"keys": [document]}, ("RS256",)) == ()


@pytest.mark.parametrize("issuer", ["https://other.example", f"{ISSUER}/", "", None])
def test_a_wrong_issuer_is_refused(issuer: str | None) -> None:
    assert refused(mint(iss=issuer))


def test_an_issuer_that_is_a_list_is_refused() -> None:
    claims = jwt.decode(mint(), options={"verify_signature": False}) | {"iss": [ISSUER]}
    token = jwt.PyJWS().encode(json.dumps(claims).encode(), RSA_KEY, "RS256", {"kid": "one"})
    assert refused(token)


@pytest.mark.parametrize("audience", ["other", "gptoss2", "", [], ["other"], 7, None])
def test_a_wrong_audience_is_refused(audience: object) -> None:
    assert refused(mint(aud=audience))


def test_one_of_several_audiences_is_enough() -> None:
    assert Desk().opens(mint(aud=["other", "gptoss"]))


@pytest.mark.parametrize("subject", [None, "", 7])
def test_a_token_without_a_subject_is_refused(subject: object) -> None:
    assert refused(mint(sub=subject))


@pytest.mark.parametrize(
    "expiry", [None, "never", True, [], float("nan"), float("inf"), 10**400, -1, 0]
)
def test_a_token_without_a_good_expiry_is_refused(expiry: object) -> None:
    assert refused(mint(exp=expiry))


@pytest.mark.parametrize("begin", ["now", True, [], float("nan"), float("inf"), 10**400])
def test_a_begin_that_is_no_time_is_refused(begin: object) -> None:
    assert refused(mint(nbf=begin))


def test_an_expired_token_is_refused_and_the_leeway_is_30_seconds() -> None:
    token = mint(exp=int(NOW.timestamp()))
    assert LEEWAY_SECONDS <= 30
    assert Desk().opens(token, NOW + 29 * SECOND)
    assert not Desk().opens(token, NOW + 30 * SECOND)


def test_a_token_that_is_not_yet_valid_is_refused_and_the_leeway_is_30_seconds() -> None:
    token = mint(nbf=int(NOW.timestamp()))
    assert not Desk().opens(token, NOW - 31 * SECOND)
    assert Desk().opens(token, NOW - 30 * SECOND)


def test_a_remembered_token_expires_on_time() -> None:
    desk, token = Desk(), mint(exp=int(NOW.timestamp()))
    assert desk.opens(token, NOW)
    assert not desk.opens(token, NOW + 30 * SECOND)


def test_two_tokens_with_the_same_first_20_characters_are_different_principals() -> None:
    """CVE-2026-35030: LiteLLM's cache was keyed by `token[:20]`."""
    desk, ann, ben = Desk(), mint(sub="ann"), mint(sub="ben", gptoss_team="ads")
    assert ann[:20] == ben[:20]

    async def both() -> tuple[Principal | None, Principal | None]:
        return await desk.ask(ann), await desk.ask(ben)

    first, second = asyncio.run(both())
    assert first and second
    assert (first.team.name, second.team.name) == ("search", "ads")
    assert first.id != second.id


def test_a_remembered_token_does_not_vouch_for_one_with_another_signature() -> None:
    desk, token = Desk(), mint()
    head, _, signature = token.rpartition(".")
    assert desk.opens(token)
    assert not desk.opens(f"{head}.{signature[::-1]}")


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were verified, in order."""
    tokens: list[str] = []
    decode = jwt.decode

    def counted(token: str, *args: Any, **options: Any) -> dict[str, Any]:
        tokens.append(token)
        return decode(token, *args, **options)

    monkeypatch.setattr(jwt, "decode", counted)
    return tokens


def test_a_remembered_token_costs_no_verification(verified: list[str]) -> None:
    desk, good, bad = Desk(), mint(), mint(aud="other")
    for _ in range(5):
        assert desk.opens(good)
        assert not desk.opens(bad)
    assert verified == [good, bad]
    desk.clock.seconds += 60
    desk.opens(good)
    desk.opens(bad)
    assert verified == [good, bad] * 2


def test_a_flood_of_bad_tokens_does_not_push_out_good_ones(
    verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.tenants.sso.REMEMBERED_TOKENS", 3)
    desk, good = Desk(), mint()
    assert desk.opens(good)
    flood = [mint(aud="other", sub=str(number)) for number in range(10)]
    assert not any(map(desk.opens, flood))
    assert desk.opens(good)
    assert verified == [good, *flood]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4))))
def test_what_is_remembered_is_bounded_in_number_and_age(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    recent, put = Recent[int](10, 3, clock), {}
    for number, seconds in steps:
        clock.seconds += seconds
        recent.put(bytes([number]), number)
        put[number] = clock.seconds
        assert recent.get(bytes([number])) == number
        there = [each for each in range(10) if recent.get(bytes([each])) is not None]
        assert len(there) <= len(recent) <= 3
        assert all(clock.seconds - put[each] < 10 for each in there)


def test_a_signature_is_verified_before_anything_is_remembered(verified: list[str]) -> None:
    desk, token = Desk(), mint()
    forged = token[:-6] + "AAAAAA"
    assert not desk.opens(forged)
    assert not desk.opens(forged)
    assert desk.opens(token)
    assert not desk.opens(forged)
    assert verified == [forged, token]


def test_a_storm_of_unknown_key_ids_fetches_once_in_30_seconds() -> None:
    desk = Desk()

    async def storm() -> list[Principal | None]:
        tokens = [mint(kid=f"invented-{number}") for number in range(50)]
        return await asyncio.gather(*map(desk.ask, tokens))

    assert set(asyncio.run(storm())) == {None}
    assert desk.fetches == 1
    desk.clock.seconds += 29
    asyncio.run(storm())
    assert desk.fetches == 1
    desk.clock.seconds += 1
    asyncio.run(storm())
    assert desk.fetches == 2


def test_a_rotated_key_is_picked_up_and_a_withdrawn_one_opens_nothing_more() -> None:
    desk, old = Desk(), mint()
    assert desk.opens(old)
    new = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    desk.keys = [jwk(new, kid="two")]
    desk.clock.seconds += 31
    assert desk.opens(mint(key=new, kid="two"))
    assert not desk.opens(old)


def test_without_key_ids_only_the_one_key_that_fits_is_used() -> None:
    bare, other = jwk(), jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    del bare["kid"], other["kid"]
    curve = jwk(ec.generate_private_key(ec.SECP256R1()))
    assert Desk(bare, curve).opens(mint(kid=None))
    assert Desk(bare, curve).opens(mint(kid="one-that-is-not-published"))
    assert Desk(jwk(), curve).opens(mint(kid=None))
    assert not Desk(bare, other).opens(mint(kid=None))


@pytest.mark.parametrize(
    ("claim", "team"),
    [("search", "search"), (["search"], "search"), (["staff", "ads"], "ads")],
)
def test_the_claim_names_the_team(claim: object, team: str) -> None:
    assert Desk().team(mint(gptoss_team=claim)) == team


@pytest.mark.parametrize(
    ("claim", "team"),
    [("grp-7", "search"), (["grp-7", "x"], "search"), (["grp-7", "grp-8"], "search")],
)
def test_the_claim_is_mapped_to_the_team(claim: object, team: str) -> None:
    desk = Desk(team_claim="groups", teams={"grp-7": "search", "grp-8": "search", "grp-9": "ads"})
    assert desk.team(mint(groups=claim, gptoss_team="ads")) == team


@pytest.mark.parametrize("claim", [None, "", "other", 7, [], {}, ["search", "ads"], [["search"]]])
def test_a_claim_that_leads_to_no_team_or_to_several_is_not_a_bad_token(claim: object) -> None:
    with pytest.raises(NotAMember) as raised:
        Desk().team(mint(gptoss_team=claim))
    assert raised.value.id.startswith("sso:")


@pytest.mark.parametrize(
    "claim", ["search", "grp-0", ["grp-7", "grp-9"], "grp-5", ["grp-7", "grp-5"]]
)
def test_an_unmapped_team_is_not_a_bad_token(claim: object) -> None:
    mapping = {"grp-7": "search", "grp-9": "ads", "grp-5": "a-team-that-is-gone"}
    with pytest.raises(NotAMember):
        Desk(teams=mapping).team(mint(gptoss_team=claim))


def test_a_change_of_the_team_counts_at_once() -> None:
    desk, token = Desk(), mint()
    assert desk.opens(token)
    changed = Team("search", disabled=True)
    principal = asyncio.run(desk.ask(token, teams={"search": changed}))
    assert principal and principal.team is changed
    with pytest.raises(NotAMember):
        asyncio.run(desk.ask(token, teams={}))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a.b",
            "a.b.c.d",
            "a..c",
            ".b.c",
            "a.b.",
            "a.b.c\n",
            "a.b.ü",
            "a b.c.d",
            "gptoss_a_b",
        ),
        "a.b." + "c" * MAX_TOKEN_BYTES,
    ],
)
def test_other_strings_cost_nothing(text: str) -> None:
    desk = Desk()
    assert not looks_like_jwt(text)
    assert not desk.opens(text)
    assert desk.fetches == 0


@given(
    header=st.binary(max_size=50)
    | st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5u", "zip"]),
        st.sampled_from(["RS256", "one", "none", "ES256"]) | st.none() | st.lists(st.text()),
    ).map(lambda header: json.dumps(header).encode()),
    payload=st.binary(max_size=50),
    signature=st.binary(min_size=1, max_size=50),
)
def test_no_token_without_the_signature_opens_or_breaks(
    header: bytes, payload: bytes, signature: bytes
) -> None:
    token = b".".join(map(_part, (header, payload, signature))).decode()
    desk = Desk()
    assert desk.opens(mint())
    assert not desk.opens(token)


def test_a_token_over_8_kib_is_refused_even_if_it_is_good() -> None:
    assert refused(mint(pad="x" * MAX_TOKEN_BYTES))


def test_a_deeply_nested_header_is_refused() -> None:
    assert refused(f"{_part(b'[' * 5000).decode()}.e30.AA")


def test_a_subject_that_is_no_text_in_utf_8_opens_nothing_else() -> None:
    assert Desk().opens(mint(sub="\ud800"))


def test_no_part_of_a_token_is_logged_or_raised(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    desk = Desk()
    tokens = [mint(aud="x"), mint(exp=1), mint(kid="x"), mint(algorithm="RS512"), mint()]
    tokens += [mint(nbf=2**40), mint(sub=None), f"{tokens[0][:-9]}.e30.AAAAAAAAA", tokens[0][:-6]]
    for token in tokens:
        desk.opens(token)
    foreign = mint(gptoss_team="nowhere")
    with pytest.raises(NotAMember) as raised:
        desk.opens(foreign)
    said = caplog.text + repr(raised.value) + repr(desk.sso)
    for token in [*tokens, foreign]:
        assert not any(part in said for part in token.split(".") if len(part) > 8)
    assert "a token is refused: InvalidAudienceError" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"audience": ""}, "setting sso.audience is empty"),
        ({"issuer": ""}, "setting sso.issuer must be https"),
        ({"issuer": "http://issuer.example"}, "setting sso.issuer is plain http"),
        ({"issuer": "http://127.0.0.1.example"}, "setting sso.issuer is plain http"),
        ({"issuer": "ftp://issuer.example"}, "setting sso.issuer must be https"),
        ({"issuer": "https://user:word@issuer.example"}, "without user or password"),
        ({"issuer": "https://[::1"}, "setting sso.issuer is no URL"),
        ({"jwks_url": "http://10.0.0.1/jwks"}, "setting sso.jwks_url is plain http"),
        ({"jwks_url": "https://x:port/"}, "setting sso.jwks_url is no URL"),
    ],
)
def test_settings_that_would_let_strangers_in_are_refused_at_start(
    changes: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said) as raised:
        SingleSignOn(SETTINGS.model_copy(update=changes))
    assert "\n" not in str(raised.value)
    assert "word@" not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost:80", "[::1]:80", "127.9.9.9"])
def test_plain_http_is_for_loopback(host: str) -> None:
    SingleSignOn(SETTINGS.model_copy(update={"issuer": f"http://{host}", "jwks_url": ""}))


def test_an_issuer_over_https_cannot_send_us_to_plain_http_on_this_machine() -> None:
    desk = Desk(jwks_url="")
    desk.jwks_uri = "http://127.0.0.1/jwks"
    assert not desk.opens(mint())
    assert Desk(jwks_url="").opens(mint())
