"""Broadcasts over HTTP; what the policies forbid is accepted and dropped, as on the platform."""

from __future__ import annotations

import json
import logging
import time
from typing import cast

import psycopg
from aiohttp import web

from sandbox.realtime_channel import Services
from sandbox.realtime_frames import Broadcast, compact
from sandbox.realtime_token import Identity, TokenRefused, verify
from sandbox.row_security import may_write_topic

_log = logging.getLogger(__name__)


async def answer(services: Services, request: web.Request) -> web.Response:
    """Send what the request says: 202, or why it cannot be read."""
    identity = _bearer(services, request)
    if identity is None:
        return web.json_response({"message": "Unauthorized"}, status=401)
    if services.faults.broadcast.off and services.faults.postgres_changes.off:
        return web.json_response({"error": "Realtime was disabled for this tenant"}, status=403)
    if "topic" in request.match_info:
        return await _one(services, request, identity)
    return await _many(services, request, identity)


async def _many(services: Services, request: web.Request, identity: Identity) -> web.Response:
    body = _json(await request.read())
    messages = cast("dict[str, object]", body).get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages:
        return web.json_response({"errors": {"messages": ["can't be blank"]}}, status=422)
    checked = [_checked(message) for message in cast("list[object]", messages)]
    if any(errors for _message, errors in checked):
        return web.json_response({"errors": {"messages": [errors for _message, errors in checked]}}, status=422)
    allowed: dict[str, bool] = {}
    for message, _errors in checked:
        topic, event, private = str(message["topic"]), str(message["event"]), message.get("private") is True
        if private and topic not in allowed:
            allowed[topic] = await _may_write(services, topic, identity)
        if not private or allowed[topic]:
            services.broadcasts.send(topic, private, _told(event, message["payload"]))
    return web.Response(status=202)


async def _one(services: Services, request: web.Request, identity: Identity) -> web.Response:
    topic, event = request.match_info["topic"], request.match_info["event"]
    body = await request.read()
    if request.content_type == "application/octet-stream" and "Content-Type" in request.headers:
        told = Broadcast(event, body, binary=True)
    elif request.content_type in ("application/json", "application/octet-stream"):
        payload = _json(body)
        if payload is None:
            return web.json_response({"errors": {"payload": ["can't be blank"]}}, status=422)
        told = _told(event, payload)
    else:
        error = "Unsupported Media Type. Use application/json or application/octet-stream"
        return web.json_response({"error": error}, status=415)
    private = request.query.get("private") == "true"
    if not private or await _may_write(services, topic, identity):
        services.broadcasts.send(topic, private, told)
    return web.Response(status=202)


async def _may_write(services: Services, topic: str, identity: Identity) -> bool:
    try:
        async with services.pool.connection() as connection:
            return await may_write_topic(connection, topic, identity)
    except psycopg.OperationalError as error:
        _log.warning("a broadcast was dropped: %s", error)
        return False


def _bearer(services: Services, request: web.Request) -> Identity | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        token = request.headers.get("apikey", "")
    try:
        return verify(token.strip(), services.jwt_secret, time.time())
    except TokenRefused:
        return None


def _told(event: str, payload: object) -> Broadcast:
    return Broadcast(event, b"", whole=compact({"event": event, "payload": payload, "type": "broadcast"}))


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _checked(message: object) -> tuple[dict[str, object], dict[str, list[str]]]:
    fields = cast("dict[str, object]", message) if isinstance(message, dict) else {}
    errors: dict[str, list[str]] = {}
    for name in ("payload", "topic", "event"):
        value = fields.get(name)
        if value is None or value == "":
            errors[name] = ["can't be blank"]
        elif not isinstance(value, dict if name == "payload" else str):
            errors[name] = ["is invalid"]
    return fields, errors
