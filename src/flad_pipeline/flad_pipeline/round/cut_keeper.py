# SPDX-License-Identifier: Apache-2.0
"""A vehicle's common cuts: kept here, copied to the edge, gone back to.

Only for the thread that trains, but for :attr:`CutKeeper.steps`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from flad_pipeline.round.cuts import Cut, LocalCuts
from flad_pipeline.round.edge_link import CutName, EdgeAwayError, EdgeLink, parcels
from flad_pipeline.round.order import Order
from flad_pipeline.round.order_box import OrderBox
from flad_pipeline.round.uploader import Uploader
from flad_pipeline.stages.unit_state import UnitState, unit_state_from_bytes
from flad_pipeline.stages.unit_store import UnitStore

_log = logging.getLogger(__name__)

_LOOK_S = 0.05
_UNITS_AT_ONCE = 16  # the edge answers others between two parcels


class CutKeeper:
    """Cuts of the units in a store.

    Args:
        vehicle: whose.
        store: its units.
        edge: where other units come from and copies go to.
        orders: by which cuts are made; a newer one ends every wait.
        edge_away_s: pause before an absent edge is asked again.
    """

    def __init__(
        self,
        vehicle: str,
        store: UnitStore,
        edge: EdgeLink,
        orders: OrderBox,
        *,
        edge_away_s: float,
    ) -> None:
        self._vehicle, self._store, self._edge, self._orders = vehicle, store, edge, orders
        self._edge_away_s = edge_away_s
        self._lock = threading.Lock()
        self._cuts = LocalCuts()
        self.cursor = 0
        """Own steps so far: which data come next."""
        self._uploader = Uploader(vehicle, edge, self._on_whole)

    @property
    def steps(self) -> tuple[int, ...]:
        """Of the cuts that are kept. Any thread may ask."""
        with self._lock:
            return self._cuts.steps

    @property
    def copied_bytes(self) -> int:
        """Sent to the edge."""
        return self._uploader.num_bytes

    def close(self) -> None:
        """Send nothing any more."""
        self._uploader.close()

    def go_back(self, order: Order) -> None:
        """Hold the units of the order's cut: from the own one, else from the edge's copy.

        Raises:
            OvertakenError: if a newer order comes while the edge is away.
        """
        step = order.from_step
        self._uploader.drop(order.client, order.round, step)
        with self._lock:
            self._cuts.forget_after(step)
            own = self._cuts.at(order.client, order.round, step)
        units = dict(own.units) if own else {}
        self.cursor = own.cursor if own else 0
        wanted = order.pipeline(step).units_of(self._vehicle)
        units |= self._fetched(order, [unit for unit in wanted if unit not in units])
        for unit in set(self._store.held) - set(wanted):
            self._store.drop_unit(unit)
        for unit in wanted:
            self._store.give_unit(units[unit])
        self._keep(order, step, units)

    def cut(
        self,
        order: Order,
        step: int,
        *,
        on_wait: Callable[[], None],
        on_kept: Callable[[], None],
    ) -> None:
        """A common cut: kept here, and copied to the edge when the one before it has been.

        Args:
            order: that is followed.
            step: the next to be taken.
            on_wait: called while the copy of the cut before is under way.
            on_kept: before the copy begins: the edge shall know who has what.

        Raises:
            OvertakenError: if a newer order comes meanwhile.
        """
        while not self._uploader.wait_idle(_LOOK_S):
            self._orders.check(order)
            on_wait()
        units = {unit: self._store.state_of(unit, step) for unit in self._store.held}
        cut = self._keep(order, step, units)
        on_kept()
        self._uploader.begin(cut, order.epoch)

    def _fetched(self, order: Order, units: list[int]) -> dict[int, UnitState]:
        name = CutName(
            vehicle=self._vehicle,
            client=order.client,
            round=order.round,
            epoch=order.epoch,
            step=order.from_step,
        )
        found: dict[int, UnitState] = {}
        for parcel in parcels([1] * len(units), _UNITS_AT_ONCE):
            for data in self._asked(order, name, units[parcel]):
                state = unit_state_from_bytes(data)
                found[state.unit] = state
        return found

    def _asked(self, order: Order, name: CutName, units: list[int]) -> list[bytes]:
        """The edge's answer, however long it is away."""
        while True:
            self._orders.check(order)
            try:
                return self._edge.fetch(name, units)
            except EdgeAwayError as error:
                _log.warning("%s: the edge is away: %s", self._vehicle, error)
                self._orders.wait(self._edge_away_s)

    def _keep(self, order: Order, step: int, units: dict[int, UnitState]) -> Cut:
        cut = Cut(
            client=order.client, round=order.round, step=step, cursor=self.cursor, units=units
        )
        with self._lock:
            self._cuts.add(cut)
        return cut

    def _on_whole(self, cut: Cut, step: int) -> None:
        with self._lock:
            if self._cuts.at(cut.client, cut.round, cut.step):
                self._cuts.forget_before(step)
