"""Who a Realtime client is: the claims of its HS256 token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast

import jwt


@dataclass(frozen=True, slots=True)
class Identity:
    """A role of the database and the claims its policies read."""

    role: str
    subject: str
    claims: str
    """The token's claims as JSON text, as `request.jwt.claims` carries them."""
    expires_at: float
    """Unix seconds."""


class TokenRefused(Exception):
    """A token that opens nothing: `code` is the server's name for the reason, the text is for people."""

    def __init__(self, code: str, text: str, brief: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.brief = brief or text
        """The text in an HTTP answer, which tells no times."""


def verify(token: str, secret: str, now: float) -> Identity:
    """Return whom the token speaks for at `now` (Unix seconds).

    Raises:
        TokenRefused: malformed, wrongly signed, expired, or without `role` or `exp`.
    """
    try:
        jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        raise _malformed() from None
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            options={
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        raise TokenRefused("JwtSignatureError", "Failed to validate JWT signature") from None
    except jwt.InvalidTokenError:
        raise _malformed() from None
    claims = cast("dict[str, object]", claims)
    role, expires = claims.get("role"), claims.get("exp")
    if not isinstance(role, str) or not role or isinstance(expires, bool) or not isinstance(expires, int | float):
        raise TokenRefused("InvalidJWTToken", "Fields `role` and `exp` are required in JWT")
    if expires <= now:
        raise expired(now - expires)
    subject = claims.get("sub")
    return Identity(role, subject if isinstance(subject, str) else "", json.dumps(claims), float(expires))


def expired(seconds_ago: float) -> TokenRefused:
    """Return the refusal of a token that expired so long ago."""
    text = f"Token has expired {int(seconds_ago)} seconds ago"
    return TokenRefused("InvalidJWTToken", text, "Token has expired")


def _malformed() -> TokenRefused:
    return TokenRefused("MalformedJWT", "The token provided is not a valid JWT")
