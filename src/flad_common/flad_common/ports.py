# SPDX-License-Identifier: Apache-2.0
"""Free TCP ports on this machine."""

from __future__ import annotations

import socket

_TRIES = 50


def free_ports(count: int = 1, host: str = "127.0.0.1") -> range:
    """Find ``count`` ports in a row that are free now; a CARLA server takes three.

    Another program may take one before you do: whoever starts a server on them must notice.

    Raises:
        OSError: if none were found.
    """
    for _ in range(_TRIES):
        with socket.socket() as probe:
            probe.bind((host, 0))
            first = int(probe.getsockname()[1])
        ports = range(first, first + count)
        if ports.stop <= 65536 and all(is_free(port, host) for port in ports):
            return ports
    raise OSError(f"no {count} free TCP ports in a row on {host} in {_TRIES} tries")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
