"""Binance spot through ccxt: market data from one keyless instance, trading from a light instance an account."""

from __future__ import annotations

from worker.adapters.ccxt_exchange.binance import Binance  # first: it says how ccxt is loaded
from worker.adapters.ccxt_exchange.host_guard import Connect, GuardedConnector
from worker.adapters.ccxt_exchange.market import CcxtMarket
from worker.adapters.ccxt_exchange.trading import CcxtExchange

__all__ = ["Binance", "CcxtExchange", "CcxtMarket", "Connect", "GuardedConnector"]
