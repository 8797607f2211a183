"""Reading Binance through ccxt: filters as the venue states them, every address on another origin."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from worker.adapters.ccxt_exchange import Binance
from worker.adapters.ccxt_exchange.answers import rules_of
from worker.adapters.ccxt_exchange.market import repointed

INFO: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "status": "TRADING",
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "71.04000000", "stepSize": "0.00000000"},
        {"filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": "5", "bidMultiplierDown": "0.2"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
        {"filterType": "OF_THE_FUTURE", "whatever": "1"},
    ],
}


def test_the_filters_are_read_to_the_digit() -> None:
    rules = rules_of(INFO)
    assert (rules.symbol, rules.base, rules.quote, rules.trading) == ("BTC/USDT", "BTC", "USDT", True)
    assert (rules.tick, rules.step) == (Decimal("0.01"), Decimal("0.00001"))
    assert (rules.min_quantity, rules.max_quantity) == (Decimal("0.00001"), Decimal(9000))
    assert (rules.market_max_quantity, rules.min_notional) == (Decimal("71.04"), Decimal(5))
    assert (rules.bid_multiplier_up, rules.bid_multiplier_down) == (Decimal(5), Decimal("0.2"))


def test_the_older_notional_filter_is_read_too() -> None:
    older = INFO | {"filters": [{"filterType": "MIN_NOTIONAL", "minNotional": "10.00"}]}
    assert rules_of(older).min_notional == 10


def test_a_filter_that_is_not_there_forbids_nothing() -> None:
    rules = rules_of(INFO | {"filters": []})
    nothing = Decimal(0)
    assert rules == replace(
        rules,
        tick=nothing,
        step=nothing,
        min_quantity=nothing,
        max_quantity=nothing,
        market_max_quantity=nothing,
        min_notional=nothing,
        bid_multiplier_up=nothing,
        bid_multiplier_down=nothing,
    )


@pytest.mark.parametrize("status", ["BREAK", "HALT", "", None])
def test_only_a_market_that_trades_is_trading(status: str | None) -> None:
    assert not rules_of(INFO | {"status": status}).trading


@pytest.mark.parametrize(
    ("url", "elsewhere"),
    [
        ("https://api.binance.com/api/v3", "http://127.0.0.1:54400/api/v3"),
        ("https://api.binance.com/sapi/v1", "http://127.0.0.1:54400/sapi/v1"),
        ("wss://stream.binance.com:9443/ws", "ws://127.0.0.1:54400/stream/ws"),
        ("wss://demo-stream.binance.com/ws", "ws://127.0.0.1:54400/stream/ws"),
        ("wss://ws-api.binance.com:443/ws-api/v3", "ws://127.0.0.1:54400/ws-api/v3"),
    ],
)
def test_an_address_keeps_its_path_on_another_origin(url: str, elsewhere: str) -> None:
    assert repointed(url, "http://127.0.0.1:54400") == elsewhere


def test_a_secure_origin_keeps_its_streams_secure() -> None:
    assert repointed("wss://stream.binance.com/ws", "https://venue.test") == "wss://venue.test/stream/ws"


def test_every_address_of_a_tree_is_moved() -> None:
    tree = {"rest": {"public": "https://api.binance.com/api/v3"}, "ws": {"spot": "wss://stream.binance.com:9443/ws"}}
    assert repointed(tree, "http://127.0.0.1:1") == {
        "rest": {"public": "http://127.0.0.1:1/api/v3"},
        "ws": {"spot": "ws://127.0.0.1:1/stream/ws"},
    }


def test_no_address_of_the_real_exchange_is_left() -> None:
    moved = repointed(Binance().urls["api"], "http://127.0.0.1:1")
    assert all(url.startswith(("http://127.0.0.1:1", "ws://127.0.0.1:1")) for url in leaves(moved))


def leaves(tree: dict[str, Any] | str) -> list[str]:
    """Every address of a tree."""
    if isinstance(tree, str):
        return [tree]
    return [url for branch in tree.values() for url in leaves(branch)]
