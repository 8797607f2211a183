"""The auth server at /auth/v1: sign up, password and refresh grants, user, sign out, administration."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from sandbox.tokens import TokenError, Tokens
from sandbox.users import Renewal, Row, UserExists, Users

SESSION_SECONDS = 3600
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SHORTEST_PASSWORD = 6
_API_VERSION = "2024-01-01"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """A request that is answered with an error, as the platform words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Auth:
    """Answers auth requests from one store of users; every address is confirmed at once."""

    def __init__(self, users: Users, tokens: Tokens) -> None:
        self._users = users
        self._tokens = tokens
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "health"): self._health,
            ("GET", "settings"): self._settings,
            ("GET", ".well-known/jwks.json"): self._key_set,
            ("POST", "signup"): self._sign_up,
            ("POST", "token"): self._token,
            ("GET", "user"): self._user,
            ("PUT", "user"): self._change_user,
            ("POST", "logout"): self._sign_out,
            ("POST", "admin/users"): self._admin_create,
            ("GET", "admin/users"): self._admin_list,
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; the route's `path` part says what is asked."""
        path = request.match_info["path"].rstrip("/")
        handler = self._routes.get((request.method, path))
        if handler is None and path.startswith("admin/users/"):
            handler = self._admin_one
        try:
            if handler is None:
                raise Refusal(404, "not_found", f"the sandbox has no {request.method} /auth/v1/{path}")
            return await handler(request)
        except Refusal as refusal:
            return _refused(request, refusal)

    async def session(self, renewal: Renewal, seconds: int = SESSION_SECONDS) -> dict[str, Any]:
        """What a client gets at signing in."""
        user = _as_json(renewal.user)
        token, ends_at = self._tokens.access_token(user, renewal.session_id, seconds)
        return {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": seconds,
            "expires_at": ends_at,
            "refresh_token": renewal.refresh_token,
            "user": user,
        }

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"name": "GoTrue", "version": "sandbox", "description": "Sandbox auth"})

    async def _settings(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"external": {"email": True, "phone": False}, "disable_signup": False, "mailer_autoconfirm": True}
        )

    async def _key_set(self, _: web.Request) -> web.Response:
        # A shared secret has no public half.
        return web.json_response({"keys": []})

    async def _sign_up(self, request: web.Request) -> web.Response:
        body = await _body(request)
        email, password = _address(body), _password(body)
        try:
            await self._users.create(email, password, user_metadata=body.get("data") or {})
        except UserExists as error:
            raise Refusal(422, "user_already_exists", "User already registered") from error
        user = await self._users.with_password(email, password)
        assert user is not None
        return web.json_response(await self.session(await self._users.open_session(user)))

    async def _token(self, request: web.Request) -> web.Response:
        body, grant = await _body(request), request.query.get("grant_type")
        if grant == "password":
            user = await self._users.with_password(str(body.get("email", "")), str(body.get("password", "")))
            if user is None:
                raise Refusal(400, "invalid_credentials", "Invalid login credentials")
            return web.json_response(await self.session(await self._users.open_session(user)))
        if grant == "refresh_token":
            renewal = await self._users.renew(str(body.get("refresh_token", "")))
            if renewal is None:
                raise Refusal(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
            return web.json_response(await self.session(renewal))
        raise Refusal(400, "validation_failed", "unsupported_grant_type")

    async def _user(self, request: web.Request) -> web.Response:
        user, _ = await self._signed_in(request)
        return web.json_response(_as_json(user))

    async def _change_user(self, request: web.Request) -> web.Response:
        user, _ = await self._signed_in(request)
        body = await _body(request)
        if "password" in body:
            _password(body)
        if "email" in body:
            _address(body)
        try:
            changed = await self._users.change(
                str(user["id"]),
                email=body.get("email"),
                password=body.get("password"),
                user_metadata=body.get("data"),
            )
        except UserExists as error:
            raise Refusal(422, "email_exists", "A user with this email address exists") from error
        assert changed is not None
        return web.json_response(_as_json(changed))

    async def _sign_out(self, request: web.Request) -> web.Response:
        user, claims = await self._signed_in(request)
        scope = request.query.get("scope", "global")
        await self._users.end_sessions(str(user["id"]), str(claims.get("session_id")), scope)
        return web.Response(status=204)

    async def _admin_create(self, request: web.Request) -> web.Response:
        self._require_service_role(request)
        body = await _body(request)
        try:
            user = await self._users.create(
                _address(body),
                _password(body) if body.get("password") else None,
                user_metadata=body.get("user_metadata"),
                app_metadata=body.get("app_metadata"),
                user_id=body.get("id"),
            )
        except UserExists as error:
            message = "A user with this email address has already been registered"
            raise Refusal(422, "email_exists", message) from error
        return web.json_response(_as_json(user))

    async def _admin_list(self, request: web.Request) -> web.Response:
        self._require_service_role(request)
        try:
            number = max(int(request.query.get("page") or 1), 1)
            size = min(max(int(request.query.get("per_page") or 50), 1), 1000)
        except ValueError as error:
            raise Refusal(400, "validation_failed", "page and per_page are numbers") from error
        users = await self._users.page(number, size)
        return web.json_response({"users": [_as_json(user) for user in users], "aud": "authenticated"})

    async def _admin_one(self, request: web.Request) -> web.Response:
        self._require_service_role(request)
        user_id = request.match_info["path"].rstrip("/").removeprefix("admin/users/")
        if not re.fullmatch(r"[0-9a-fA-F-]{36}", user_id):
            raise Refusal(404, "validation_failed", "user_id must be an UUID")
        user = await self._users.by_id(user_id)
        if user is None:
            raise Refusal(404, "user_not_found", "User not found")
        if request.method == "PUT":
            body = await _body(request)
            known = {k: body.get(k) for k in ("email", "password", "user_metadata", "app_metadata")}
            user = await self._users.change(user_id, **known) or user
        elif request.method == "DELETE":
            await self._users.remove(user_id)
            return web.json_response({})
        elif request.method != "GET":
            raise Refusal(405, "bad_method", "only GET, PUT and DELETE")
        return web.json_response(_as_json(user))

    def _claims(self, request: web.Request) -> dict[str, Any]:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(401, "no_authorization", "This endpoint requires a valid Bearer token")
        try:
            return self._tokens.read(token)
        except TokenError as error:
            message = f"invalid JWT: unable to parse or verify signature, {error}"
            raise Refusal(403, "bad_jwt", message) from error

    async def _signed_in(self, request: web.Request) -> tuple[Row, dict[str, Any]]:
        claims = self._claims(request)
        if "sub" not in claims:
            raise Refusal(403, "bad_jwt", "invalid claim: missing sub claim")
        session_id = str(claims.get("session_id", ""))
        if session_id and not await self._users.has_session(session_id):
            raise Refusal(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        user = await self._users.by_id(str(claims["sub"]))
        if user is None:
            raise Refusal(403, "user_not_found", "User from sub claim in JWT does not exist")
        return user, claims

    def _require_service_role(self, request: web.Request) -> None:
        if self._claims(request).get("role") != "service_role":
            raise Refusal(403, "not_admin", "User not allowed")


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body: Any = json.loads(await request.read() or b"{}")
    except ValueError as error:
        raise Refusal(400, "bad_json", "Could not parse request body as JSON") from error
    if not isinstance(body, dict):
        raise Refusal(400, "bad_json", "Could not parse request body as JSON: an object is wanted")
    return body  # pyright: ignore[reportUnknownVariableType]


def _address(body: dict[str, Any]) -> str:
    email = body.get("email")
    if not email:
        raise Refusal(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
    if not isinstance(email, str) or not _ADDRESS.fullmatch(email):
        raise Refusal(400, "validation_failed", "Unable to validate email address: invalid format")
    return email


def _password(body: dict[str, Any]) -> str:
    password = body.get("password")
    if not password or not isinstance(password, str):
        raise Refusal(400, "validation_failed", "Signup requires a valid password")
    if len(password) < _SHORTEST_PASSWORD:
        message = f"Password should be at least {_SHORTEST_PASSWORD} characters."
        raise Refusal(422, "weak_password", message)
    return password


def _as_json(row: Row) -> dict[str, Any]:
    user = {
        name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in row.items()
    }
    identity = {
        "identity_id": user["id"],
        "id": user["id"],
        "user_id": user["id"],
        "identity_data": {"email": user["email"], "email_verified": True, "sub": user["id"]},
        "provider": "email",
        "last_sign_in_at": user["last_sign_in_at"],
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
        "email": user["email"],
    }
    return {**user, "phone": user["phone"] or "", "identities": [identity]}


def _refused(request: web.Request, refusal: Refusal) -> web.Response:
    if request.headers.get("X-Supabase-Api-Version", "") >= _API_VERSION:
        body: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    else:
        body = {"code": refusal.status, "error_code": refusal.code, "msg": refusal.message}
    if refusal.code == "weak_password":
        body["weak_password"] = {"message": refusal.message, "reasons": ["length"]}
    headers = {"X-Supabase-Api-Version": _API_VERSION, "x-sb-error-code": refusal.code}
    return web.json_response(body, status=refusal.status, headers=headers)
