# SPDX-License-Identifier: Apache-2.0
"""What the encoder node counts, and whether all is well. Times are arguments."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from flad_perception.latency import LatencyWindow

OK, WARN, ERROR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """OK, WARN or ERROR, and one sentence for people."""

    level: int
    message: str


class NodeHealth:
    """Counts of all threads of the node; everything below its lock.

    Args:
        model_hash: of the model that runs.
        now_s: on the caller's steady clock, as all times.
    """

    def __init__(self, model_hash: str, now_s: float) -> None:
        self._lock = threading.Lock()
        self._model_hash = model_hash
        self._latency = LatencyWindow()
        self._inference = LatencyWindow()
        self._bad: Counter[str] = Counter()
        self._last_bad = ""
        self._missing: Counter[str] = Counter()
        self._failed = self._period_failed = 0
        self._last_failure = ""
        self._num_ticks = 0
        self._period_s, self._period_ticks = now_s, 0
        self._period_missing: Counter[str] = Counter()
        self._rate_hz = 0.0
        self._outside: dict[str, float | int | str] = {}
        self._verdict = Verdict(WARN, "no tick yet")

    def ticked(self, latency_s: float, inference_s: float, missing: tuple[str, ...]) -> None:
        """A tick was answered."""
        with self._lock:
            self._num_ticks += 1
            self._latency.add(latency_s)
            self._inference.add(inference_s)
            self._missing.update(missing)
            self._period_missing.update(missing)

    def got_bad(self, topic: str, why: str) -> None:
        """A message was dropped."""
        with self._lock:
            self._bad[topic] += 1
            self._last_bad = f"{topic}: {why}"

    def failed(self, why: str) -> None:
        """A tick could not be answered."""
        with self._lock:
            self._last_failure = why
            self._failed += 1
            self._period_failed += 1

    def close_period(
        self,
        now_s: float,
        *,
        waiting_for: tuple[str, ...],
        late: Mapping[str, int],
        num_dropped: int,
    ) -> None:
        """End a period of diagnostics.

        Args:
            now_s: steady clock.
            waiting_for: what the oldest tick that is not whole lacks.
            late: messages that came after their tick had gone on.
            num_dropped: ticks that gave way to newer ones, in realtime.
        """
        with self._lock:
            ticks = self._num_ticks - self._period_ticks
            self._rate_hz = ticks / max(1e-6, now_s - self._period_s)
            missing, self._period_missing = self._period_missing, Counter()
            self._period_s, self._period_ticks = now_s, self._num_ticks
            self._outside = {"ticks_dropped": num_dropped, "messages_late": sum(late.values())}
            self._verdict = self._judge(ticks, missing, waiting_for)

    def verdict(self) -> Verdict:
        """Of the last period."""
        with self._lock:
            return self._verdict

    def figures(self) -> dict[str, float | int | str]:
        """Names are stable: other people's tools read them."""
        with self._lock:
            whole, model = self._latency.percentiles(), self._inference.percentiles()
            return {
                "model_hash": self._model_hash,
                "rate_hz": self._rate_hz,
                "ticks": self._num_ticks,
                "latency_p50_s": whole.p50_s,
                "latency_p95_s": whole.p95_s,
                "latency_p99_s": whole.p99_s,
                "inference_p95_s": model.p95_s,
                "missing": _counts(self._missing),
                "bad_messages": _counts(self._bad),
                "ticks_failed": self._failed,
                **self._outside,
            }

    def _judge(self, ticks: int, missing: Counter[str], waiting_for: tuple[str, ...]) -> Verdict:
        failed, self._period_failed = self._period_failed, 0
        if failed:
            return Verdict(
                ERROR, f"{failed} ticks could not be encoded, the last one: {self._last_failure}"
            )
        if not ticks:
            lacks = f"; waiting for {', '.join(waiting_for)}" if waiting_for else ""
            return Verdict(WARN, f"no tick in this period{lacks}")
        if missing:
            return Verdict(WARN, f"missing in {ticks} ticks: {_counts(missing)}")
        if self._bad and self._last_bad:
            last, self._last_bad = self._last_bad, ""
            return Verdict(WARN, f"dropped a bad message, {last}")
        return Verdict(OK, f"{self._rate_hz:.1f} ticks a second")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))
