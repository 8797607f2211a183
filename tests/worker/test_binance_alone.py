"""A worker loads one exchange of ccxt's hundred, and all of them where it has to."""

from __future__ import annotations

import json
import subprocess
import sys

LOADED = "print(json.dumps([name for name in sys.modules if name.startswith('ccxt')]))"
REFUSING = """
def refusing():
    import ccxt.base.errors
    raise AttributeError("built otherwise")
"""


def loaded_by(program: str) -> set[str]:
    """The modules of ccxt in a fresh interpreter after a program."""
    program = f"import json, sys\n{program}\n{LOADED}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def test_a_worker_loads_no_other_exchange() -> None:
    loaded = loaded_by("import worker.app")
    assert {"ccxt.pro.binance", "ccxt.async_support.binance", "ccxt.base.errors"} <= loaded
    assert not loaded & {"ccxt.binance", "ccxt.kraken", "ccxt.async_support.kraken", "ccxt.pro.kraken"}


def test_the_class_is_the_librarys_own() -> None:
    program = "from worker.adapters.ccxt_exchange import Binance\nassert Binance({}).id == 'binance'"
    assert "ccxt.pro.binance" in loaded_by(program)


def test_all_are_loaded_where_the_library_is_built_otherwise() -> None:
    program = f"{REFUSING}\nfrom worker.adapters.ccxt_exchange import binance\n"
    program += "for name in [name for name in sys.modules if name.startswith('ccxt')]: del sys.modules[name]\n"
    program += "assert binance.load(refusing)({}).id == 'binance'"
    assert {"ccxt.pro.binance", "ccxt.pro.kraken"} <= loaded_by(program)
