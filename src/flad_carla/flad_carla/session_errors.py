# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between this process and the simulator, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from flad_common import error_codes
from flad_common.error_codes import ErrorCode, FladError


class SessionError(FladError):
    """The simulator refused or failed; the message says what, and what to do."""

    CODE: ClassVar[ErrorCode] = error_codes.WORLD_REFUSED

    def __init__(self, detail: str) -> None:
        super().__init__(self.CODE, detail)


class ServerUnreachable(SessionError):  # noqa: N818 - says more than an Error suffix
    """Nothing that speaks CARLA's protocol answers at the address."""

    CODE = error_codes.WORLD_UNREACHABLE


class ServerTimeout(SessionError):  # noqa: N818 - says more than an Error suffix
    """The simulator did not answer in time: it hangs, died, or is slower than the limit."""

    CODE = error_codes.WORLD_SILENT


class TownError(SessionError):
    """The town is unknown or could not be loaded."""

    CODE = error_codes.MAP_UNUSABLE


class SpawnError(SessionError):
    """A vehicle or sensor could not be placed."""

    CODE = error_codes.SPAWN_FAILED


class SensorTimeout(SessionError):  # noqa: N818 - says more than an Error suffix
    """A sensor that was due did not deliver; ``missing`` names them as ``role/sensor``."""

    CODE = error_codes.SENSOR_TIMEOUT

    def __init__(self, frame: int, deadline_s: float, missing: tuple[str, ...]) -> None:
        super().__init__(
            f"frame {frame}: after {deadline_s:g} s still no data from {', '.join(missing)}; "
            "the simulator dropped them, or needs a longer sensor_deadline_s"
        )
        self.frame = frame
        self.missing = missing


@contextmanager
def carla_errors(what: str, address: str) -> Iterator[None]:
    """Turn the client's nameless ``RuntimeError`` into one of the above."""
    try:
        yield
    except RuntimeError as error:
        if "time-out" in str(error) or "timeout" in str(error).lower():
            raise ServerTimeout(
                f"{what}: the simulator at {address} did not answer in time; it hangs, has ended, "
                f"or needs a longer timeout_s ({error})"
            ) from error
        raise SessionError(f"{what}: the simulator at {address} says: {error}") from error
