"""Addresses that the gateway listens on."""

import errno
import socket

from service.errors import UserError

BACKLOG = 2048
"""Connections that may wait to be accepted."""


def bind(host: str, port: int, setting: str, *, shared: bool = False) -> socket.socket:
    """A listening address, or one line that says why not. `setting` names what to change.

    A `shared` port may be listened on by several processes of this user, which all say so.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        # At once: until it listens, another process could bind the same port.
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
        raise UserError(
            f"{host}:{port} {reason}: stop what listens there, or set {setting} to another port"
        ) from None
    return listener
