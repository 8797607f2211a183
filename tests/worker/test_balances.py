"""What an account has to spend is known for as long as a stream tells of every change, and not a moment longer."""

from __future__ import annotations

from decimal import Decimal

from streams.domain.sizing import Funds
from tests.domain import specimens
from tests.streams.fakes import FakeClock
from tests.streams.virtual_loop import in_virtual_time
from tests.streams.world import passed
from worker.adapters.ccxt_exchange.balances import LONGEST_SECONDS, QUIET_SECONDS, Balances

ANNA = specimens.account(mode="testnet")
STREAM, ANOTHER = 7.0, 8.0
FUNDS = Funds(Decimal(1000), Decimal("0.001"), at_venue=True)


def known() -> Balances:
    """An answer of 1,000 USDT, asked for at 50 ms of the venue's clock while a stream stood."""
    balances = Balances(FakeClock())
    balances.answered(ANNA, STREAM, FUNDS, 50)
    return balances


@in_virtual_time
async def test_an_answer_counts_while_the_stream_stands_that_stood_before_it() -> None:
    balances = known()
    assert balances.funds(ANNA, STREAM) == FUNDS
    assert balances.funds(ANNA, ANOTHER) is None
    assert balances.funds(ANNA, None) is None
    balances.answered(ANNA, None, FUNDS, 60)
    assert balances.funds(ANNA, STREAM) is None


@in_virtual_time
async def test_what_the_stream_tells_takes_its_place_and_older_news_do_not() -> None:
    balances = known()
    balances.told(ANNA, Decimal(900), 60)
    balances.told(ANNA, Decimal(950), 55)
    told = balances.funds(ANNA, STREAM)
    assert told is not None
    assert (told.balance, told.fee_rate, told.at_venue) == (900, FUNDS.fee_rate, True)


@in_virtual_time
async def test_after_an_order_nothing_is_known_until_the_stream_has_told_of_it() -> None:
    balances = known()
    balances.moved(ANNA, 70)
    assert balances.funds(ANNA, STREAM) is None
    balances.told(ANNA, Decimal(990), 65)
    assert balances.funds(ANNA, STREAM) is None
    balances.told(ANNA, Decimal(900), 70)
    told = balances.funds(ANNA, STREAM)
    assert told is not None
    assert told.balance == 900


@in_virtual_time
async def test_the_news_of_an_order_may_come_before_its_answer() -> None:
    balances = known()
    balances.told(ANNA, Decimal(900), 70)
    balances.moved(ANNA, 70)
    told = balances.funds(ANNA, STREAM)
    assert told is not None
    assert told.balance == 900


@in_virtual_time
async def test_it_is_asked_anew_after_a_while_and_on_a_doubt() -> None:
    balances = known()
    for second in range(int(LONGEST_SECONDS)):
        assert balances.funds(ANNA, STREAM) == FUNDS
        await passed(1.0)
        balances.told(ANNA, FUNDS.balance, 60 + second)
    await passed(1.0)
    assert balances.funds(ANNA, STREAM) is None
    balances = known()
    await passed(QUIET_SECONDS + 1)
    assert balances.funds(ANNA, STREAM) is None
    balances = known()
    balances.forget(ANNA)
    assert balances.funds(ANNA, STREAM) is None
