# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, in one place: exceptions that cross modules and the process's exit codes."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells the shell; each has a line in the README."""

    OK = 0
    USAGE = 2
    PORT_IN_USE = 3
    BAD_TOWN = 4


class SimError(Exception):
    """Something a user can put right: the text says what, where and what to do."""


class RequestRefused(SimError):  # noqa: N818  (a refusal is the normal answer to a bad request)
    """A client's request is impossible or malformed; the text goes back to the client."""


class PlaceTaken(RequestRefused):
    """Something stands where a client wants to spawn: routine, clients try until it works."""


class PortInUseError(SimError):
    """Another process listens where this one wants to."""
