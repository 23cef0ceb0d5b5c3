"""JSON Web Key Sets: which published key may verify which signatures.

Only public-key signatures exist here. A key is usable with the algorithms that fit its type and
that the settings allow, so that no token can choose how a key is used.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import jwt

MIN_RSA_BITS = 2048

_FITTING = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_PUBLIC_MEMBERS = ("kty", "crv", "n", "e", "x", "y")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    public: Any  # one of the public key classes of `cryptography`, which compare by value


def signing_keys(document: object, algorithms: Collection[str]) -> tuple[SigningKey, ...]:
    """The usable keys of a JSON Web Key Set. What is no public key for signatures is left out."""
    listed = document.get("keys") if isinstance(document, dict) else None
    keys = (_signing_key(jwk, algorithms) for jwk in (listed if isinstance(listed, list) else ()))
    return tuple(key for key in keys if key is not None)


def _signing_key(jwk: object, allowed: Collection[str]) -> SigningKey | None:
    if not isinstance(jwk, dict) or not _verifies(jwk):
        return None
    kid, type, curve = jwk.get("kid"), str(jwk.get("kty")), jwk.get("crv")
    fitting = _FITTING.get((type, None if curve is None else str(curve)), ())
    algorithms = frozenset(a for a in fitting if a in allowed and jwk.get("alg", a) == a)
    if not algorithms or not (kid is None or isinstance(kid, str)):
        return None
    try:
        public = jwt.PyJWK({name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if type == "RSA" and public.key_size < MIN_RSA_BITS:
        return None
    return SigningKey(kid, algorithms, public)


def _verifies(jwk: dict[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return (
        jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    )
