# SPDX-License-Identifier: Apache-2.0
"""Gathers the sensors of one moment, and says which of them were missing.

Knows no ROS and reads no clock: messages and the time of their arrival are arguments. What becomes
of a gathered tick is in :mod:`flad_perception.live_input`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flad_common.config import knob
from flad_common.periods import is_due

LIDAR = "lidar"
ODOMETRY = "odometry"
TARGET = "target_point"
STREAMS = (LIDAR, ODOMETRY, TARGET)
"""Inputs that are not cameras; a camera must not have such a name."""

_KEPT = 32  # newest messages of each stream
_MAX_OPEN = 64  # ticks waiting for a sensor


@dataclass(frozen=True, kw_only=True)
class TickSyncConfig:
    """Which messages belong together, and how long they wait for each other."""

    period_s: float = knob(0.1, unit="s", doc="Between two ticks that are answered.")
    tolerance_s: float = knob(
        0.004, unit="s", doc="Sensors whose stamps differ by no more belong to one tick."
    )
    realtime_deadline_s: float = knob(
        0.1, unit="s", doc="In realtime, wait (wall time) from a tick's first picture to its last."
    )
    lockstep_deadline_s: float = knob(
        10.0, unit="s", doc="In lockstep, the same; then the tick goes on without what is missing."
    )
    sweep_age_s: float = knob(
        0.075, unit="s", doc="The half sweep before a tick's is merged with it if not older."
    )
    state_age_s: float = knob(
        0.5, unit="s", doc="Odometry that is older than this is missing rather than used."
    )

    def __post_init__(self) -> None:
        for name in ("period_s", "realtime_deadline_s", "lockstep_deadline_s", "state_age_s"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.tolerance_s < self.period_s / 2.0:
            raise ValueError(
                f"tolerance_s must be in [0, period_s / 2), got {self.tolerance_s} with period_s "
                f"{self.period_s}: a sensor would belong to two ticks"
            )
        if self.sweep_age_s < 0.0:
            raise ValueError(f"sweep_age_s must not be negative, got {self.sweep_age_s}")


@dataclass(frozen=True, kw_only=True)
class GatheredTick:
    """What was there of one moment. Values are whatever was put in."""

    stamp_ns: int
    pictures: Mapping[str, Any]
    """By camera; those that came."""
    sweep: Any | None
    previous_sweep: Any | None
    """The half sweep before; None where there was none young enough."""
    odometry: Any | None
    target: Any | None
    missing: tuple[str, ...]
    """What was expected and had not come when the tick went on, cameras first."""
    first_s: float
    last_s: float
    """Arrival of the tick's first and last sensor, on the caller's clock."""


@dataclass
class _Open:
    first_s: float
    last_s: float
    pictures: dict[str, Any] = field(default_factory=dict)


class TickSync:
    """Collects messages by stamp; :meth:`take` hands out whole ticks in order. Single-threaded.

    In ``lockstep`` the ticks are the multiples of the period, and each waits for everything that is
    expected. In ``realtime`` a picture opens a tick once a period has passed since the last one;
    the target point is not waited for, and odometry only until there is any that is young enough.

    Args:
        config: which messages belong together.
        expected: cameras and streams of this vehicle that are waited for, and missed when absent.
        mode: see above.
    """

    def __init__(
        self,
        config: TickSyncConfig,
        expected: Sequence[str],
        mode: Literal["lockstep", "realtime"],
    ) -> None:
        self._config = config
        self._lockstep = mode == "lockstep"
        self._cameras = tuple(name for name in expected if name not in STREAMS)
        self._expected = (*self._cameras, *(name for name in STREAMS if name in expected))
        self._tolerance_ns = round(config.tolerance_s * 1e9)
        self._period_ns = round(config.period_s * 1e9)
        # A camera's driver may swap two stamps; a simulator never does.
        self._restart_ns = self._tolerance_ns if self._lockstep else 1_000_000_000
        self._last_ns: dict[str, int] = {}
        self._open: dict[int, _Open] = {}
        self._streams: dict[str, deque[tuple[int, Any, float]]] = {
            name: deque(maxlen=_KEPT) for name in STREAMS
        }
        self._done_ns: int | None = None  # stamp of the newest tick that was handed out
        self.num_missing: Counter[str] = Counter()
        """How often each input was missing from a tick."""
        self.num_late: Counter[str] = Counter()
        """How many messages of each input came after their tick had gone on."""

    def put(self, name: str, stamp_ns: int, value: Any, now_s: float) -> None:
        """Take one message in: a camera's picture, or one of the :data:`STREAMS`."""
        if self._begins_anew(stamp_ns, self._last_ns.get(name)):
            self.reset()
        self._last_ns[name] = stamp_ns
        if name in STREAMS:
            self._streams[name].append((stamp_ns, value, now_s))
        tick_ns = self._tick_of(stamp_ns, name)
        if tick_ns is None:
            return
        entry = self._open.setdefault(tick_ns, _Open(now_s, now_s))
        entry.last_s = now_s
        if name not in STREAMS:
            entry.pictures[name] = value
        if len(self._open) > _MAX_OPEN:
            self._open.pop(min(self._open))

    def take(self, now_s: float) -> list[GatheredTick]:
        """The ticks that are whole, or have waited long enough; oldest first."""
        ready: list[GatheredTick] = []
        for stamp_ns in sorted(self._open):
            missing = self._missing(stamp_ns)
            waits = missing and now_s - self._open[stamp_ns].first_s < self._deadline_s
            if waits and not self._is_overtaken(stamp_ns):
                break
            ready.append(self._gather(stamp_ns, missing))
        return ready

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What the oldest open tick lacks; empty where nothing waits."""
        return self._missing(min(self._open)) if self._open else ()

    def reset(self) -> None:
        """Forget everything that came so far; the counts stay."""
        self._open.clear()
        self._last_ns.clear()
        self._done_ns = None
        for stream in self._streams.values():
            stream.clear()

    @property
    def _deadline_s(self) -> float:
        c = self._config
        return c.lockstep_deadline_s if self._lockstep else c.realtime_deadline_s

    def _begins_anew(self, stamp_ns: int, last_ns: int | None) -> bool:
        """Whether an input's stamp, which only rises, says that the world is another one.

        In lockstep the same stamp says so, too: a world that was left at its first tick.
        """
        if last_ns is None:
            return False
        return stamp_ns < last_ns - self._restart_ns or (self._lockstep and stamp_ns == last_ns)

    def _tick_of(self, stamp_ns: int, name: str) -> int | None:
        """The stamp of the tick that a message belongs to or opens; None for no tick."""
        for open_ns in self._open:
            if abs(open_ns - stamp_ns) <= self._tolerance_ns:
                return open_ns
        if self._done_ns is not None and stamp_ns <= self._done_ns + self._tolerance_ns:
            if stamp_ns >= self._done_ns - self._tolerance_ns:
                self.num_late[name] += name in self._expected
            return None
        if name in (ODOMETRY, TARGET):
            return None
        if self._lockstep:
            return stamp_ns if is_due(stamp_ns, self._config.period_s) else None
        # Only where the cameras have fallen silent does the LiDAR open a tick.
        periods = 1.5 if name == LIDAR and self._cameras else 1.0
        last = max([*self._open, *([] if self._done_ns is None else [self._done_ns])], default=None)
        if last is None and name == LIDAR and self._cameras:
            last = self._streams[LIDAR][0][0]
        early_ns = max(self._tolerance_ns, 1_000_000)
        if last is not None and stamp_ns < last + round(periods * self._period_ns) - early_ns:
            return None
        return stamp_ns

    def _missing(self, stamp_ns: int) -> tuple[str, ...]:
        pictures = self._open[stamp_ns].pictures
        return tuple(
            name
            for name in self._expected
            if (
                self._stream_value(name, stamp_ns) is None
                if name in STREAMS
                else name not in pictures
            )
        )

    def _is_overtaken(self, stamp_ns: int) -> bool:
        """In realtime a later tick that is whole does not wait for an earlier one."""
        return not self._lockstep and any(
            other > stamp_ns and not self._missing(other) for other in self._open
        )

    def _gather(self, stamp_ns: int, missing: tuple[str, ...]) -> GatheredTick:
        entry = self._open.pop(stamp_ns)
        self._done_ns = stamp_ns
        self.num_missing.update(missing)
        arrivals = [
            at_s
            for stream in self._streams.values()
            for other_ns, _, at_s in stream
            if abs(other_ns - stamp_ns) <= self._tolerance_ns
        ]
        return GatheredTick(
            stamp_ns=stamp_ns,
            pictures=entry.pictures,
            sweep=self._stream_value(LIDAR, stamp_ns),
            previous_sweep=self._previous_sweep(stamp_ns),
            odometry=self._stream_value(ODOMETRY, stamp_ns),
            target=self._stream_value(TARGET, stamp_ns),
            missing=missing,
            first_s=min([entry.first_s, *arrivals]),
            last_s=max([entry.last_s, *arrivals]),
        )

    def _stream_value(self, name: str, stamp_ns: int) -> Any | None:
        """The tick's own message, or the newest before it where an older one will do."""
        stream = self._streams[name]
        near = [m for m in stream if abs(m[0] - stamp_ns) <= self._tolerance_ns]
        if near:
            return min(near, key=lambda m: abs(m[0] - stamp_ns))[1]
        if name == LIDAR or (self._lockstep and name in self._expected):
            return None
        before = [m for m in stream if m[0] < stamp_ns]
        if not before:
            return None
        newest_ns, value, _ = max(before, key=lambda m: m[0])
        is_young = stamp_ns - newest_ns <= round(self._config.state_age_s * 1e9)
        return value if is_young or name == TARGET else None

    def _previous_sweep(self, stamp_ns: int) -> Any | None:
        oldest_ns = stamp_ns - round(self._config.sweep_age_s * 1e9)
        before = [
            m for m in self._streams[LIDAR] if oldest_ns <= m[0] < stamp_ns - self._tolerance_ns
        ]
        return max(before, key=lambda m: m[0])[1] if before else None
