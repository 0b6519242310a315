# SPDX-License-Identifier: Apache-2.0
"""LMDrive's PID controller: mean of a window, last difference, no time step."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from flad_common.config import knob


@dataclass(frozen=True, kw_only=True)
class WindowPidConfig:
    """Gains; the window counts calls, so they belong to one rate of calling."""

    kp: float = knob(unit="1", doc="Output per unit of error.")
    ki: float = knob(unit="1", doc="Output per unit of the mean error of the window.")
    kd: float = knob(unit="1", doc="Output per unit of error that was gained since the last call.")
    window: int = knob(40, unit="calls", doc="Length of the window of the mean.")

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ValueError(f"window must be at least 2 calls, got {self.window}")


class WindowPid:
    """The control law and its memory.

    The integral is the mean over a window that starts filled with zeros, and the derivative the
    difference of the last two errors (LMDrive, ``pid_controller.py``; first in LBC, Chen et al.,
    2019, arXiv:1912.12294).

    Example:
        >>> pid = WindowPid(WindowPidConfig(kp=2.0, ki=1.0, kd=0.5, window=4))
        >>> pid.step(1.0)  # 2 * 1 + 1 * 1/4 + 0.5 * (1 - 0)
        2.75
    """

    def __init__(self, config: WindowPidConfig) -> None:
        self._config = config
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._errors: deque[float] = deque([0.0] * self._config.window, maxlen=self._config.window)

    def step(self, error: float) -> float:
        """Return the correction for ``error``."""
        self._errors.append(error)
        mean = sum(self._errors) / len(self._errors)
        slope = self._errors[-1] - self._errors[-2]
        return self._config.kp * error + self._config.ki * mean + self._config.kd * slope
