"""What crosses to the database and back: amounts as text, protection as admitted, and no row that hides another."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from streams.domain.account import Account
from streams.domain.order import OrderReport
from streams.domain.risk import Protection
from tests.domain import specimens
from tests.streams.virtual_loop import in_virtual_time
from tests.worker.rest import NOTHING, Project, attempt, registered
from worker.adapters.supabase_store import SupabaseStore

ANNA = Account(specimens.ANNA, "paper")


@in_virtual_time
async def test_an_admission_keeps_the_percentages_that_stop_and_target_follow(project: Project) -> None:
    project.answers["admit_signal"] = {"outcome": "admitted", "signed_at_ms": 7}
    store = await registered()
    await store.admit(attempt())
    await store.admit(attempt(stop_loss="91", take_profit="140"))
    names = ("stop_loss_price", "stop_loss_percent", "take_profit_price", "take_profit_percent")
    plans = [question["p_plan"] for question in project.questions("admit_signal")]
    assert [[plan[name] for name in names] for plan in plans] == [
        ["95", "5", "110", "10"],
        ["91", None, "140", None],
    ]
    await store.close()


@in_virtual_time
async def test_an_admission_tells_when_to_sign_and_with_which_keys_at_least(project: Project) -> None:
    project.answers["admit_signal"] = {"outcome": "admitted", "signed_at_ms": 7, "credential_version": 3}
    store = await registered()
    admission = await store.admit(attempt())
    assert (admission.signed_at_ms, admission.credential_version) == (7, 3)
    await store.close()


def unfinished_row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of `unfinished_orders`; `changes` are of its order."""
    order = specimens.order(id=UUID(int=number)).model_dump(mode="json")
    kept = {"signal_id": str(UUID(int=1)), "stop_loss_percent": "5", "take_profit_percent": None}
    return {"order": order | changes, "position": kept, "age": "3.5", "expired": False}


@in_virtual_time
async def test_an_unfinished_order_comes_with_the_percentages_of_its_admission(project: Project) -> None:
    project.answers["unfinished_orders"] = {"orders": [unfinished_row(1)]}
    store = await registered()
    (found,) = await store.unfinished([ANNA])
    assert found.order == specimens.order(id=UUID(int=1))
    assert (found.signal_id, found.age, found.expired) == (UUID(int=1), 3.5, False)
    assert found.protection == Protection(stop_percent=Decimal(5))
    await store.close()


@in_virtual_time
async def test_a_report_says_which_fills_it_knew(project: Project) -> None:
    position = specimens.position(status="open").model_dump(mode="json")
    project.answers["record_order"] = {"changed": True, "order_status": "filled", "position": position}
    store = await registered()
    report = OrderReport("filled", "venue-1", (specimens.fill("100", "0.6", 3),), known_fills=2)
    await store.record(UUID(int=1), report, Decimal(95), None)
    (question,) = project.questions("record_order")
    told = question["p_report"]
    assert (told["known_fills"], len(told["fills"])) == (2, 1)
    assert (told["stop_loss_price"], told["take_profit_price"]) == ("95", None)
    await store.close()


async def read(store: SupabaseStore, function: str) -> list[UUID]:
    """The ids of what a reading verb gives."""
    if function == "open_positions":
        return [one.id for one in await store.open_positions()]
    return [one.order.id for one in await store.unfinished()]


@pytest.mark.parametrize("function", ["open_positions", "unfinished_orders"])
@in_virtual_time
async def test_a_row_that_cannot_be_read_hides_no_other(
    project: Project, function: str, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [UUID(int=number) for number in (1, 2, 3)]
    positions: list[dict[str, Any]] = [specimens.position(id=one).model_dump(mode="json") for one in ids]
    positions[1]["entry_price"] = "much"
    orders = [unfinished_row(1), unfinished_row(2, quantity="much"), unfinished_row(3)]
    project.answers.update(open_positions={"positions": positions}, unfinished_orders={"orders": orders})
    store = await registered()
    assert await read(store, function) == [ids[0], ids[2]]
    assert str(ids[1]) in caplog.text
    await store.close()


@in_virtual_time
async def test_a_signal_that_cannot_be_read_keeps_no_other_waiting_and_counts_as_a_try(project: Project) -> None:
    rows: list[dict[str, Any]] = [specimens.brief(number).model_dump(mode="json") for number in (1, 2, 3)]
    rows[1]["user_id"] = "nobody"
    project.answers.update(claim_signals=NOTHING | {"signals": rows}, record_failed_try={"outcome": "ready"})
    store = await registered()
    assert [brief.seq for brief in (await store.claim(None)).briefs] == [1, 3]
    assert [one["p_signal_id"] for one in project.questions("record_failed_try")] == [str(UUID(int=2))]
    await store.close()
