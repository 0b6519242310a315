# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between this process and the simulator, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SessionError(RuntimeError):
    """The simulator refused or failed; the message says what, and what to do."""


class ServerUnreachable(SessionError):  # noqa: N818 - says more than an Error suffix
    """Nothing that speaks CARLA's protocol answers at the address."""


class ServerTimeout(SessionError):  # noqa: N818 - says more than an Error suffix
    """The simulator did not answer in time: it hangs, died, or is slower than the limit."""


class TownError(SessionError):
    """The town is unknown or could not be loaded."""


class SpawnError(SessionError):
    """A vehicle or sensor could not be placed."""


class SensorTimeout(SessionError):  # noqa: N818 - says more than an Error suffix
    """A sensor that was due did not deliver; ``missing`` names them as ``role/sensor``."""

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
    except SessionError:
        raise
    except RuntimeError as error:
        if "time-out" in str(error) or "timeout" in str(error).lower():
            raise ServerTimeout(
                f"{what}: the simulator at {address} did not answer in time; it hangs, has ended, "
                f"or needs a longer timeout_s ({error})"
            ) from error
        raise SessionError(f"{what}: the simulator at {address} says: {error}") from error
