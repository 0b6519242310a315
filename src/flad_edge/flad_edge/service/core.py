# SPDX-License-Identifier: Apache-2.0
"""The edge's driving service: requests of many vehicles in, waypoints out. No ROS, no threads.

Requests that wait are answered in batches (:mod:`.fair_queue`), after they were found good
(:mod:`.admission`), each in the light of its vehicle's history (:mod:`.histories`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from flad_common.config import knob, section
from flad_common.error_codes import (
    ANSWER_LATE,
    DRIVING_MODEL_FAILED,
    EDGE_STOPPED,
    REQUEST_MALFORMED,
    REQUEST_SHED,
    ErrorCode,
    FladError,
)
from flad_edge.service.admission import AdmissionConfig, Admitted, Vehicles, read
from flad_edge.service.counters import ServiceCounters
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.fair_queue import FairQueue
from flad_edge.service.histories import Dropped, Histories
from flad_edge.service.releases import Release
from flad_edge.service.requests import Answer, DriveRequest, Outcome, RequestHead
from flad_perception.node_health import Verdict

_MAX_TEXT = 500  # characters of a reason that travels back
_MAX_NAME = 64

_ENDS = {
    Outcome.SHED: (REQUEST_SHED, "a newer request of the same vehicle took its place"),
    Outcome.LATE: (ANSWER_LATE, "the time that the request allows had passed"),
}


@dataclass(frozen=True, kw_only=True)
class EdgeServiceConfig:
    """How the service works in time."""

    max_batch: int = knob(16, unit="1", doc="Most vehicles that the model drives at once.")
    max_waiting: int = knob(
        2, unit="1", doc="Requests of one vehicle that may wait; the oldest gives way."
    )
    completed_threshold: float = knob(
        0.5, unit="1", doc="Probability of completion above which a vehicle's history ends."
    )
    max_gap_s: float = knob(
        1.0, unit="s", doc="Time between two frames after which a history begins anew."
    )
    ahead_frames: int = knob(
        16,
        unit="1",
        doc="Read ahead at once, when nobody waits, of histories that will drop frames; 0: never.",
    )
    admission: AdmissionConfig = section(AdmissionConfig, doc="What may be asked, and by whom.")

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.ahead_frames < 0:
            raise ValueError(f"ahead_frames must not be negative, got {self.ahead_frames}")
        if not 0.0 < self.completed_threshold < 1.0:
            raise ValueError(
                f"completed_threshold must be between 0 and 1, got {self.completed_threshold}"
            )
        if not self.max_gap_s > 0.0:
            raise ValueError(f"max_gap_s must be positive, got {self.max_gap_s}")


class EdgeService:
    """Every request ends in exactly one answer: from :meth:`submit` or from :meth:`run_batch`.

    One thread calls :meth:`run_batch` and :meth:`read_ahead`; any may call the others meanwhile. No
    lock is held while the model works.

    Args:
        served: the model that drives first.
        clock: seconds that never go back; read when the model is done.
        config: limits.
        on_failure: told what the model raised, from the thread that runs batches.
    """

    def __init__(
        self,
        served: ServedModel,
        clock: Callable[[], float],
        config: EdgeServiceConfig,
        on_failure: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._config = config
        self._on_failure = on_failure
        self._clock = clock
        self._lock = threading.Lock()
        # Below the lock:
        self._served = served
        self._next: ServedModel | None = None
        self._queue: FairQueue[Admitted] = FairQueue(config.max_waiting)
        self._in_batch: frozenset[str] = frozenset()
        self._vehicles = Vehicles(config.admission, self._is_busy)
        self._counters = ServiceCounters(clock())
        # Of the thread that runs batches:
        self._histories = Histories(config.max_gap_s)
        # What it last said of itself, below the lock.
        self._history_figures: dict[str, int] = {"histories": 0}

    def submit(self, request: DriveRequest) -> list[Answer]:
        """Take a request in, or refuse it.

        Returns:
            What is known at once: the refusal, or the answer to the request that gave way.
        """
        with self._lock:
            self._counters.submitted()
            try:
                admitted = read(request, self._served, self._config.admission)
                self._vehicles.claim(request.head)
            except FladError as error:
                return [self._refused(request.head, error.code, error.detail)]
            shed = self._queue.put(request.head.vehicle, admitted)
            return [self._ended(shed, Outcome.SHED, request.head.arrived_s)] if shed else []

    def refuse_unreadable(self, head: RequestHead, why: str) -> Answer:
        """Answer a request that could not even be read as one."""
        with self._lock:
            self._counters.submitted()
            return self._refused(head, REQUEST_MALFORMED, why)

    def swap(self, served: ServedModel) -> None:
        """Another model drives from the next batch on; all histories begin anew."""
        with self._lock:
            self._next = served

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        with self._lock:
            return len(self._queue)

    def run_batch(self, now_s: float) -> list[Answer]:
        """Answer the requests whose turn it is; also those whose time has run out.

        Args:
            now_s: the service's clock.
        """
        with self._lock:
            answers = self._swap_now(now_s)
            self._vehicles.sweep(now_s)
            self._histories.keep_only(self._vehicles.names)
            taken = self._queue.take(self._config.max_batch, lambda a: a.request.expired(now_s))
            answers += [self._ended(a, Outcome.LATE, now_s) for a in taken.expired]
            self._in_batch = frozenset(a.request.head.vehicle for a in taken.batch)
            served = self._served
        drafts = self._step(served, taken.batch) if taken.batch else []
        done_s = self._clock()
        with self._lock:
            if taken.batch:
                self._counters.stepped(len(taken.batch), done_s - now_s)
            for admitted, draft in zip(taken.batch, drafts, strict=True):
                answers.append(self._finished(admitted, draft, served, done_s))
            self._in_batch = frozenset()
            self._history_figures = {
                "histories": len(self._histories),
                **{f"dropped_{w.value}": self._histories.dropped[w] for w in Dropped},
            }
        return answers

    def close(self, now_s: float) -> list[Answer]:
        """Nobody is served any more: refuse those that wait, so that none ends without a word."""
        with self._lock:
            return [
                self._refused(a.request.head, EDGE_STOPPED, "the edge was stopped", now_s)
                for a in self._queue.remove(lambda a: True)
            ]

    def read_ahead(self) -> bool:
        """Use a moment in which nobody waits; whether there may be more to do.

        It spreads out what a history that drops its oldest frames would make its vehicle wait for.
        """
        with self._lock:
            if self._next is not None or len(self._queue) or not self._config.ahead_frames:
                return False
            model = self._served.model
        try:
            num_frames = model.read_ahead(self._histories.all(), self._config.ahead_frames)
        except Exception as error:  # the model's boundary; no history has changed
            self._on_failure(error)
            return False
        with self._lock:
            self._counters.read_ahead(num_frames)
        return num_frames > 0

    def close_period(self, now_s: float) -> Verdict:
        """End a period of diagnostics and judge it."""
        with self._lock:
            return self._counters.close_period(now_s)

    @property
    def busy_share(self) -> float:
        """Of the last period of diagnostics, in which the model answered."""
        with self._lock:
            return self._counters.busy_share

    def outcomes(self) -> dict[Outcome, int]:
        """Requests that ended, by how."""
        with self._lock:
            return self._counters.outcomes

    @property
    def release(self) -> Release:
        """Whose model drives, or will from the next batch on."""
        with self._lock:
            return (self._next or self._served).release

    def figures(self) -> dict[str, float | int | str]:
        """Counts since the start and figures of the last period; names are stable."""
        with self._lock:
            return {
                "release": self._served.release.name,
                "adllm_hash": self._served.release.adllm_hash,
                "vehicles": len(self._vehicles.names),
                "waiting": len(self._queue),
                "in_batch": len(self._in_batch),
                **self._counters.figures(),
                "vehicles_evicted": self._vehicles.dropped["evicted"],
                "vehicles_silent": self._vehicles.dropped["silent"],
                **self._history_figures,
            }

    # --- of the thread that runs batches, without the lock ---------------------------------------

    def _step(self, served: ServedModel, batch: Sequence[Admitted]) -> list[_Draft | FladError]:
        """What the model says of each request; of a broken one only itself is told so."""
        requests = [a.request for a in batch]
        vehicles = [r.head.vehicle for r in requests]
        try:
            with torch.no_grad():
                histories = self._histories.of(requests, served.model)
                result = served.model.step(
                    histories,
                    torch.from_numpy(np.stack([a.tokens for a in batch])),
                    [r.notice for r in requests],
                )
                waypoints_m = result.waypoints_m.float().cpu().tolist()
                completed = result.completed.float().cpu().tolist()
            drafts = [_draft(w, c) for w, c in zip(waypoints_m, completed, strict=True)]
            if len(drafts) != len(batch):
                raise ValueError(f"{len(batch)} requests, but {len(drafts)} answers")
        except Exception as error:  # the model's boundary: a batch it cannot do must not end us
            for vehicle in vehicles:
                self._histories.drop(vehicle, Dropped.FAILED)
            self._on_failure(error)
            failure = FladError(DRIVING_MODEL_FAILED, f"{type(error).__name__}: {error}")
            return [failure] * len(batch)
        for vehicle, draft in zip(vehicles, drafts, strict=True):
            if isinstance(draft, FladError):
                self._histories.drop(vehicle, Dropped.FAILED)
            elif draft.completed > self._config.completed_threshold:
                self._histories.drop(vehicle, Dropped.COMPLETED)
        return drafts

    # --- below the lock --------------------------------------------------------------------------

    def _is_busy(self, vehicle: str) -> bool:
        return vehicle in self._queue or vehicle in self._in_batch

    def _swap_now(self, now_s: float) -> list[Answer]:
        if self._next is None:
            return []
        self._served, self._next = self._next, None
        self._histories.drop_all(Dropped.SWAP)
        complaints = {id(a): self._complaint(a) for a in self._queue.waiting()}
        return [
            self._refused(a.request.head, error.code, error.detail, now_s)
            for a in self._queue.remove(lambda a: complaints[id(a)] is not None)
            if (error := complaints[id(a)])
        ]

    def _complaint(self, admitted: Admitted) -> FladError | None:
        """What the model that drives now has against a request that waits."""
        try:
            read(admitted.request, self._served, self._config.admission)
        except FladError as error:
            return error
        return None

    def _finished(
        self, admitted: Admitted, draft: _Draft | FladError, served: ServedModel, now_s: float
    ) -> Answer:
        request = admitted.request
        if isinstance(draft, FladError):
            return self._refused(request.head, draft.code, draft.detail, now_s)
        if request.expired(now_s):
            return self._ended(admitted, Outcome.LATE, now_s)
        return self._counted(
            Answer(
                head=request.head,
                outcome=Outcome.ANSWERED,
                latency_s=now_s - request.head.arrived_s,
                waypoints_m=draft.waypoints_m,
                step_s=served.release.waypoint_step_s,
                completed=draft.completed,
                release=served.release.name,
            )
        )

    def _ended(self, admitted: Admitted, outcome: Outcome, now_s: float) -> Answer:
        code, text = _ENDS[outcome]
        head = admitted.request.head
        return self._counted(
            Answer(
                head=head, outcome=outcome, latency_s=now_s - head.arrived_s, error=code, text=text
            )
        )

    def _refused(
        self, head: RequestHead, code: ErrorCode, text: str, now_s: float | None = None
    ) -> Answer:
        short = RequestHead(
            vehicle=head.vehicle[:_MAX_NAME],
            session=head.session[:_MAX_NAME],
            stamp_ns=head.stamp_ns,
            arrived_s=head.arrived_s,
        )
        return self._counted(
            Answer(
                head=short,
                outcome=Outcome.REFUSED,
                latency_s=0.0 if now_s is None else now_s - head.arrived_s,
                error=code,
                text=text[:_MAX_TEXT],
            )
        )

    def _counted(self, answer: Answer) -> Answer:
        self._counters.ended(answer)
        return answer


@dataclass(frozen=True, slots=True)
class _Draft:
    waypoints_m: tuple[tuple[float, float], ...]
    completed: float


def _draft(waypoints_m: list[list[float]], completed: float) -> _Draft | FladError:
    if not all(math.isfinite(n) for n in (completed, *(n for p in waypoints_m for n in p))):
        return FladError(DRIVING_MODEL_FAILED, "the model's answer is not finite")
    return _Draft(tuple((x, y) for x, y in waypoints_m), completed)
