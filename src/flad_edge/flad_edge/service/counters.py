# SPDX-License-Identifier: Apache-2.0
"""What the service counts. Single-threaded: its owner has the lock."""

from __future__ import annotations

from collections import Counter, deque

from flad_edge.service.requests import Answer, Outcome
from flad_perception.latency import LatencyWindow
from flad_perception.node_health import OK, WARN, Verdict


class ServiceCounters:
    """Counts since the start, and figures of the last period.

    Args:
        now_s: on the service's clock, as all times.
    """

    def __init__(self, now_s: float) -> None:
        self._submitted = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._errors: Counter[str] = Counter()
        self._latency = LatencyWindow()
        self._model = LatencyWindow()
        self._batches: deque[int] = deque(maxlen=100)
        self._frames_ahead = 0
        self._busy_s = self._busy_share = 0.0
        self._period_s, self._period_outcomes = now_s, Counter[Outcome]()
        self._rate_hz = 0.0
        self._verdict = Verdict(WARN, "no request yet")

    def submitted(self) -> None:
        """A request came."""
        self._submitted += 1

    def ended(self, answer: Answer) -> None:
        """A request ended."""
        self._outcomes[answer.outcome] += 1
        self._period_outcomes[answer.outcome] += 1
        if answer.error:
            self._errors[answer.error.name] += 1
        if answer.outcome is Outcome.ANSWERED:
            self._latency.add(answer.latency_s)

    def stepped(self, size: int, duration_s: float) -> None:
        """The model worked on one batch."""
        self._batches.append(size)
        self._model.add(duration_s)
        self._busy_s += duration_s

    def read_ahead(self, num_frames: int) -> None:
        """The model read so many frames while nobody waited."""
        self._frames_ahead += num_frames

    def close_period(self, now_s: float) -> Verdict:
        """End a period of diagnostics and judge it."""
        ended, self._period_outcomes = self._period_outcomes, Counter()
        period_s = max(1e-6, now_s - self._period_s)
        self._rate_hz = ended[Outcome.ANSWERED] / period_s
        self._busy_share, self._busy_s = self._busy_s / period_s, 0.0
        self._period_s = now_s
        bad = {o.name.lower(): n for o, n in sorted(ended.items()) if o is not Outcome.ANSWERED}
        if bad:
            text = ", ".join(f"{count} {name}" for name, count in bad.items())
            self._verdict = Verdict(WARN, f"{text}; {self._rate_hz:.1f} answers a second")
        elif ended:
            self._verdict = Verdict(OK, f"{self._rate_hz:.1f} answers a second")
        else:
            self._verdict = Verdict(WARN, "no request in this period")
        return self._verdict

    @property
    def busy_share(self) -> float:
        """Of the last period, in which the model answered; reading ahead does not count."""
        return self._busy_share

    @property
    def num_submitted(self) -> int:
        """Requests that came."""
        return self._submitted

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """Requests that ended, by how."""
        return {outcome: self._outcomes[outcome] for outcome in Outcome}

    def figures(self) -> dict[str, float | int | str]:
        """Names are stable: other people's tools read them."""
        whole, model = self._latency.percentiles(), self._model.percentiles()
        return {
            "submitted": self._submitted,
            **{o.name.lower(): count for o, count in self.outcomes.items()},
            "errors": ", ".join(f"{name} {n}" for name, n in sorted(self._errors.items())),
            "rate_hz": self._rate_hz,
            "latency_p50_s": whole.p50_s,
            "latency_p95_s": whole.p95_s,
            "latency_p99_s": whole.p99_s,
            "model_p95_s": model.p95_s,
            "batch_mean": sum(self._batches) / max(1, len(self._batches)),
            "busy_share": self._busy_share,
            "frames_ahead": self._frames_ahead,
        }
