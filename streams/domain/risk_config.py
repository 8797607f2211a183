"""A trader's `risk_config`: how large, how far the stop, how much slippage."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from streams.domain.errors import Refused


def _number(value: object) -> object:
    """Let JSON numbers and digits in text be, and nothing else: `true` is no amount."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise ValueError("must be a number")
    return value


Number = Annotated[Decimal, BeforeValidator(_number), Field(max_digits=33, decimal_places=18)]
Percentage = Annotated[Number, Field(gt=0, lt=100)]


class PositionSize(BaseModel):
    """`fixed`: USDT; `percent`: of the free balance; `risk`: percent of the balance lost at the stop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["percent", "fixed", "risk"]
    value: Annotated[Number, Field(gt=0)]


class RiskConfig(BaseModel):
    """The trader's own settings; percentages are of prices, a slippage bound of 0 means none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    position_size: PositionSize
    stop_loss_percent: Percentage | None = None
    take_profit_percent: Annotated[Number, Field(gt=0, le=10000)] | None = None
    trailing_stop_percent: Percentage | None = None
    max_slippage_percent: Annotated[Number, Field(ge=0, lt=100)] | None = None
    max_spread_percent: Annotated[Number, Field(gt=0, le=100)] | None = None
    max_hold_minutes: Annotated[Number, Field(gt=0)] | None = None

    @classmethod
    def read(cls, written: str | None) -> RiskConfig:
        """Read the JSON text of the column. Raises Refused with `invalid_risk_config`."""
        try:
            document: Any = json.loads(written or "null", parse_float=Decimal, parse_int=Decimal)
        except (json.JSONDecodeError, RecursionError):
            raise Refused("invalid_risk_config", "The trader's risk_config is not JSON.") from None
        if not isinstance(document, dict):
            raise Refused("invalid_risk_config", "The trader's risk_config must be an object with a position_size.")
        try:
            config = cls.model_validate(document)
        except ValidationError as error:
            raise Refused("invalid_risk_config", _sentence(error)) from None
        size = config.position_size
        if size.type in ("percent", "risk") and size.value > 100:
            raise Refused(
                "invalid_risk_config",
                f"The trader's risk_config: position_size.value is {size.value} %, more than the whole balance.",
                size.value,
                100,
            )
        return config


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"The trader's risk_config: {where}: {first['msg'].removeprefix('Value error, ')}."
