"""ccxt's class of Binance alone.

The library's packages load the classes of a hundred exchanges, three times over: 58 MB and 0.3 s of CPU at each start
(measured with 4.5.90). Here those packages are put in place empty, with what this one class looks for in them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)


def load_alone() -> Any:
    """The class without the others. Raises ImportError or AttributeError where ccxt is built otherwise by now."""
    ccxt = _emptied("ccxt")
    errors = import_module("ccxt.base.errors")
    vars(ccxt).update({name: getattr(errors, name) for name in errors.__all__})
    vars(ccxt)["Exchange"] = import_module("ccxt.base.exchange").Exchange
    for package in ("ccxt.async_support", "ccxt.pro"):
        emptied = _emptied(package)
        vars(emptied)["binance"] = import_module(f"{package}.binance").binance
    return import_module("ccxt.pro").binance


def load(alone: Callable[[], Any] = load_alone) -> Any:
    """The class, alone where that can be had; where somebody loaded all of ccxt already, from there."""
    if "ccxt" not in sys.modules:
        try:
            return alone()
        except (ImportError, AttributeError) as error:
            log.debug("all of ccxt is loaded: %r", error)
            for name in [name for name in sys.modules if name.partition(".")[0] == "ccxt"]:
                del sys.modules[name]
    return import_module("ccxt.pro").binance


def _emptied(name: str) -> ModuleType:
    spec = find_spec(name)
    if spec is None:
        raise ImportError(f"there is no {name}")
    module = sys.modules[name] = module_from_spec(spec)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


Binance: Any = load()
