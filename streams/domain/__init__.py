"""What is decided, as pure functions over frozen values: no clock, no I/O, no asyncio, no Rx."""
