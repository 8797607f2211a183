"""`python -m sandbox`."""

import signal

# An interrupt while modules load ends the process without a trace; the command itself ends in order.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from sandbox.command import app  # noqa: E402

if __name__ == "__main__":
    app(prog_name="python -m sandbox")
