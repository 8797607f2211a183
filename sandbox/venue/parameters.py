"""Reads the parameters of a request as strictly as Binance does, refusing with its codes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import cast

from multidict import MultiMapping

from sandbox.venue import refusal
from sandbox.venue.fixed_point import E8, exact
from sandbox.venue.market import Market

__all__ = ["Parameters"]

_SYMBOL = "^[A-Z0-9-_.]{1,20}$"
_SYMBOLS = '^\\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\\]$'
_INTEGER = "^[0-9]{1,20}$"
_AMOUNT = "^([0-9]{1,20})(\\.[0-9]{1,20})?$"
_CLIENT_ID = "^[a-zA-Z0-9-_]{1,36}$"
_DECIMALS = 8
_STATUSES = frozenset({"TRADING", "HALT", "BREAK"})


class Parameters:
    """The parameters of one request, each a single text. Every reader raises VenueError.

    Made with the names the endpoint knows; any other is refused with -1101 (of a signed request, with -1104), a
    repeated or empty one with -1101 or -1105.
    """

    def __init__(
        self,
        sent: MultiMapping[str],
        known: Collection[str],
        markets: Mapping[str, Market],
        *,
        signed: bool = False,
    ) -> None:
        self._values: dict[str, str] = {}
        self._markets = markets
        unknown = [name for name in sent if name not in known]
        if unknown and signed:
            raise refusal.unread_parameters(len(sent) - len(unknown), len(sent))
        if unknown:
            raise refusal.too_many_parameters(len(set(sent) - set(unknown)), len(sent))
        for name, value in sent.items():
            if name in self._values:
                raise refusal.VenueError(-1101, "Duplicate values for a parameter detected.")
            if value == "":
                raise refusal.empty_parameter(name)
            self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        return self._values.get(name)

    def integer(self, name: str) -> int | None:
        """A whole number at or above zero."""
        value = self._values.get(name)
        if value is None:
            return None
        if not re.fullmatch(_INTEGER, value):
            raise refusal.illegal_characters(name, _INTEGER)
        return int(value)

    def amount(self, name: str) -> E8 | None:
        """An amount above zero."""
        value = self._values.get(name)
        if value is None:
            return None
        if not re.fullmatch(_AMOUNT, value):
            raise refusal.illegal_characters(name, _AMOUNT)
        if len(value.partition(".")[2].rstrip("0")) > _DECIMALS:
            raise refusal.too_much_precision(name)
        amount = exact(value)
        if not amount:
            raise refusal.invalid_value(name)
        return amount

    def client_id(self, name: str) -> str | None:
        """An id that a client chose."""
        value = self._values.get(name)
        if value is not None and not re.fullmatch(_CLIENT_ID, value):
            raise refusal.illegal_characters(name, _CLIENT_ID)
        return value

    def required(self, name: str) -> str:
        if name not in self._values:
            raise refusal.missing_parameter(name)
        return self._values[name]

    def choice(self, name: str, known: Collection[str], wrong: refusal.VenueError) -> str | None:
        """One of the values known; raises `wrong` for any other."""
        value = self._values.get(name)
        if value is not None and value not in known:
            raise wrong
        return value

    def limit(self, default: int, largest: int) -> int:
        """How many to answer; more than the largest is taken for the largest."""
        value = self.integer("limit")
        if value == 0:
            raise refusal.invalid_parameter("limit")
        return default if value is None else min(value, largest)

    def moment(self, name: str) -> int | None:
        """A time in milliseconds; 16 digits and more are read as microseconds."""
        value = self.integer(name)
        return value // 1000 if value is not None and value >= 10**15 else value

    def flag(self, name: str, default: bool) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if value.lower() not in {"true", "false"}:
            raise refusal.invalid_parameter(name)
        return value.lower() == "true"

    def market(self) -> Market:
        """The market of the mandatory parameter `symbol`."""
        if "symbol" not in self._values:
            raise refusal.missing_parameter("symbol")
        market = self._named(self._values["symbol"])
        wanted = self.status()
        if wanted is not None and market.instrument.status != wanted:
            raise refusal.status_mismatch()
        return market

    def chosen(self) -> list[Market] | None:
        """The markets of `symbol` or `symbols`; None where neither was sent."""
        if "symbol" in self._values and "symbols" in self._values:
            raise refusal.bad_combination()
        if "symbol" in self._values:
            return [self.market()]
        if "symbols" not in self._values:
            return None
        listed = self._values["symbols"].replace(" ", "")
        if not re.fullmatch(_SYMBOLS, listed):
            raise refusal.illegal_characters("symbols", _SYMBOLS)
        names = cast("list[str]", json.loads(listed))
        if not names:
            raise refusal.empty_parameter("symbols")
        if len(set(names)) < len(names):
            raise refusal.duplicate_symbols()
        return [self._named(name) for name in names]

    def status(self) -> str | None:
        value = self._values.get("symbolStatus")
        if value is not None and value not in _STATUSES:
            raise refusal.VenueError(-1122, "Invalid symbolStatus.")
        return value

    def zone_ms(self) -> int:
        """The offset of `timeZone` from UTC, such as `8` or `-1:30`."""
        value = self._values.get("timeZone", "0")
        found = re.fullmatch(r"([+-]?)(\d{1,2})(?::(\d{2}))?", value)
        if not found:
            raise refusal.invalid_parameter("timeZone")
        minutes = int(found[2]) * 60 + int(found[3] or 0)
        minutes = -minutes if found[1] == "-" else minutes
        if not -12 * 60 <= minutes <= 14 * 60:
            raise refusal.invalid_parameter("timeZone")
        return minutes * 60_000

    def _named(self, symbol: str) -> Market:
        if not re.fullmatch(_SYMBOL, symbol):
            raise refusal.illegal_characters("symbol", _SYMBOL)
        market = self._markets.get(symbol)
        if market is None:
            raise refusal.bad_symbol()
        return market
