"""TCP ports on loopback."""

from __future__ import annotations

import errno
import socket

LOOPBACK = "127.0.0.1"


class PortBusy(RuntimeError):
    """Somebody else listens on a port that was asked for."""


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def reserve(port: int, option: str) -> socket.socket:
    """A socket listening on `port` (0: any free one); callers wait in its queue until it is served.

    Raises:
        PortBusy: the port is taken; `option` is what the user changes.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((LOOPBACK, port))
        held.listen(1024)  # two may bind one port, only one may listen
    except OSError as error:
        held.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise PortBusy(f"port {port} is busy: choose another with {option} (0: any free one)") from error
    return held
