"""The project's JSON Web Tokens: API keys and users' access tokens, HS256."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jwt

_KEY_SECONDS = 10 * 365 * 86_400


class TokenError(ValueError):
    """A token that is not ours, is broken or is over."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Signs and reads tokens with one project's secret; `issuer` is the auth server's address."""

    secret: str
    issuer: str = "supabase"

    def api_key(self, role: str, issued_at: int) -> str:
        """The key of a role, good for ten years: the same arguments give the same key."""
        claims = {"iss": "supabase", "role": role, "iat": issued_at, "exp": issued_at + _KEY_SECONDS}
        return self._sign(claims)

    def access_token(self, user: dict[str, Any], session_id: str, seconds: int) -> tuple[str, int]:
        """A user's token and the Unix second it ends at."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": user["id"],
            "aud": user["aud"],
            "exp": now + seconds,
            "iat": now,
            "email": user["email"],
            "phone": user["phone"] or "",
            "app_metadata": user["app_metadata"],
            "user_metadata": user["user_metadata"],
            "role": user["role"],
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": session_id,
            "is_anonymous": False,
        }
        return self._sign(claims), now + seconds

    def read(self, token: str) -> dict[str, Any]:
        """The claims of a token that is ours and not over.

        Raises:
            TokenError: it is neither.
        """
        try:
            return jwt.decode(token, self.secret, algorithms=["HS256"], options={"verify_aud": False})
        except jwt.PyJWTError as error:
            raise TokenError(str(error)) from error

    def _sign(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.secret, algorithm="HS256")
