"""Users who trade on the testnet: an account at the exchange, its key handed over as a user does, and what it shows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.product import Project, User, wait_until

MARGIN_SECONDS = 2
SHORT = {
    "RECV_WINDOW_MS": "1000",
    "UNKNOWN_MARGIN_SECONDS": str(MARGIN_SECONDS),
    "POLL_INTERVAL": "0.2",
    "LEASE_SECONDS": "4",
    "LATE_FILL_SECONDS": "1",
}
ENTRY = """
  select o.*, p.status as position_status, p.failure_code, p.failure_reason, p.entry_order_id, p.entry_quantity,
    p.entry_value, p.entry_price, p.fees_paid
  from orders as o join positions as p on p.id = o.position_id
  where p.signal_id = %s and o.purpose = 'entry'
"""


@dataclass(frozen=True)
class TestnetUser(User):
    """Somebody with an account at the exchange."""

    __test__ = False

    api_key: str = ""
    secret: str = ""


def join_testnet(
    project: Project,
    usdt: str = "100000",
    risk_config: Mapping[str, Any] | None = None,
    mode: str = "testnet",
    **limits: Any,
) -> TestnetUser:
    """Sign a user up, open an account for them at the exchange, hand its key over, and go to its mode."""
    user = project.sign_up(risk_config, daily_loss_limit_usdt="100000", **limits)
    return move(project, user, mode, usdt)


def move(project: Project, user: User, mode: str, usdt: str = "100000") -> TestnetUser:
    """Hand over a key of a user for a mode, and move their trader there."""
    api_key, secret = hand_over(project, user, usdt, mode)
    wanted = {"p_trader_id": user.trader_id, "p_mode": mode}
    project.request("POST", "/rest/v1/rpc/set_trader_mode", user.token, json=wanted).raise_for_status()
    return TestnetUser(user.id, user.token, user.trader_id, user.email, user.password, api_key, secret)


def hand_over(project: Project, user: User, usdt: str = "100000", mode: str = "testnet") -> tuple[str, str]:
    """Open an account at the exchange, and store its key in the place of any other; returns key and secret."""
    api_key, secret = secrets.token_hex(32), secrets.token_hex(32)
    project.venue("POST", "accounts", {"apiKey": api_key, "secret": secret, "balances": {"USDT": usdt}})
    keys = {"exchange": "binance", "mode": mode, "label": "main", "apiKey": api_key, "secret": secret}
    project.request("POST", "/functions/v1/store-api-keys", user.token, json=keys).raise_for_status()
    return api_key, secret


def entry(project: Project, signal: str) -> dict[str, Any]:
    """A signal's entry order, with what its position says."""
    (row,) = project.rows(ENTRY, signal)
    return row


def settled(project: Project, signal: str, *states: str, seconds: float = 25.0) -> dict[str, Any]:
    """The entry order, once its position is in one of these states: opened or failed. Open is monitored soon after."""
    wanted = states or ("open", "failed")
    wanted += ("monitoring",) if "open" in wanted else ()
    wait_until(
        f"the position is {' or '.join(wanted)}",
        lambda: project.rows(f"{ENTRY} and p.status = any (%s)", signal, list(wanted)),
        seconds,
    )
    return entry(project, signal)


def refused(project: Project, signal: str, seconds: float = 20.0) -> dict[str, Any]:
    """A signal's row, once it was refused or has expired."""
    answered = "select * from signals where id = %s and status in ('rejected', 'expired')"
    wait_until("the signal is refused", lambda: project.rows(answered, signal), seconds)
    return project.rows(answered, signal)[0]


def ledger(project: Project) -> dict[str, Any]:
    """All that the exchange keeps."""
    return project.venue("GET", "ledger").json()


def at_venue(project: Project, client_order_id: str) -> list[dict[str, Any]]:
    """What the exchange's ledger has of an order."""
    return [one for one in ledger(project)["orders"] if one["clientOrderId"] == client_order_id]


def asked(project: Project, what: str, user: TestnetUser | None = None) -> int:
    """How often an endpoint was asked, such as `POST /api/v3/order`: by a user's key, or at all."""
    counts: dict[str, int] = project.venue("GET", "requests").json()["requests"].get(what, {})
    return counts.get(user.api_key, 0) if user else sum(counts.values())


HOLDING = ("open", "monitoring")
"""A position that holds coins is open, and monitored a moment later."""
