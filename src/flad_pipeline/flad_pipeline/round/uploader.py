# SPDX-License-Identifier: Apache-2.0
"""Copies of common cuts go to the edge in the background, one cut after the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from flad_common.error_codes import FladError
from flad_pipeline.round.cuts import Cut
from flad_pipeline.round.edge_link import CutName, EdgeAwayError, EdgeLink, parcels

_log = logging.getLogger(__name__)

_PARCEL_BYTES = 2 * 1024 * 1024  # a word that is not delayed behind more than this
_CLOSE_S = 10.0
_AGAIN_S = 0.3


class Uploader:
    """A thread that sends cuts. The edge may be away: then it tries until it is back.

    Args:
        vehicle: whose cuts.
        edge: takes them.
        on_whole: told the newest cut that the edge has whole, from the thread.
    """

    def __init__(self, vehicle: str, edge: EdgeLink, on_whole: Callable[[Cut, int], None]) -> None:
        self._vehicle, self._edge, self._on_whole = vehicle, edge, on_whole
        self._changed = threading.Condition()
        self._cut: Cut | None = None
        self._epoch = 0
        self._closed = False
        self.num_bytes = 0
        """That were sent since the start."""
        self._thread = threading.Thread(target=self._run, name=f"copies of {vehicle}", daemon=True)
        self._thread.start()

    def begin(self, cut: Cut, epoch: int) -> None:
        """Send a cut; the one before must have been sent, or dropped."""
        with self._changed:
            self._cut, self._epoch = cut, epoch
            self._changed.notify_all()

    def drop(self, client: str, round_number: int, after: int) -> None:
        """Do not send a cut that never happened, or is of another client or round."""
        with self._changed:
            cut = self._cut
            if cut and ((cut.client, cut.round) != (client, round_number) or cut.step > after):
                self._cut = None
                self._changed.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """Whether all was sent before ``timeout_s`` had passed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._cut is None, timeout_s)

    def close(self) -> None:
        """Send nothing any more."""
        with self._changed:
            self._closed, self._cut = True, None
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)  # a daemon: an edge that is silent does not hold the vehicle

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cut is not None or self._closed)
                if self._closed:
                    return
                cut, epoch = self._cut, self._epoch
            assert cut is not None
            try:
                done = self._send(cut, epoch)
            except FladError as error:
                _log.info(
                    "%s: the edge wants no copy of step %d: %s", self._vehicle, cut.step, error
                )
                done = True
            except Exception:
                _log.exception("%s could not copy step %d to the edge", self._vehicle, cut.step)
                done = True
            with self._changed:
                if not done:
                    self._changed.wait_for(lambda: self._closed, _AGAIN_S)
                elif self._cut is cut:
                    self._cut = None
                    self._changed.notify_all()

    def _send(self, cut: Cut, epoch: int) -> bool:
        """Whether all of it has arrived."""
        name = CutName(
            vehicle=self._vehicle, client=cut.client, round=cut.round, epoch=epoch, step=cut.step
        )
        data = [cut.units[unit].to_bytes() for unit in sorted(cut.units)]
        for parcel in parcels([len(piece) for piece in data], _PARCEL_BYTES):
            with self._changed:
                if self._cut is not cut:
                    return True
            try:
                whole = self._edge.store(name, data[parcel])
            except EdgeAwayError as error:
                _log.warning("%s: the edge is away: %s", self._vehicle, error)
                return False
            self.num_bytes += sum(len(piece) for piece in data[parcel])
            self._on_whole(cut, whole)
        return True
