# SPDX-License-Identifier: Apache-2.0
"""What lies at the edge while a round runs: copies of cuts, first units, signed updates.

Only who is a member now, by the newest order, gets or gives anything.
"""

from __future__ import annotations

from pathlib import Path

from flad_common.error_codes import ORDER_REFUSED, FladError
from flad_edge.federate.client_run import ClientRun
from flad_pipeline.aggregation.layout import State
from flad_pipeline.graph.units import UnitGraph
from flad_pipeline.round.copies import CutCopies, first_unit
from flad_pipeline.round.edge_link import CutName
from flad_pipeline.stages.unit_state import unit_state_from_bytes


class Depot:
    """Files of one federation. Single-threaded.

    Args:
        folder: is made; what lies there is taken over.
        graph: of the model.
    """

    def __init__(self, folder: Path, graph: UnitGraph) -> None:
        self._graph = graph
        self.copies = CutCopies(folder / "copies", len(graph.units))
        self.updates = folder / "updates"
        self.updates.mkdir(exist_ok=True)
        self._model: State = {}
        self._first: dict[int, bytes] = {}

    def begin(self, model: State) -> None:
        """A round begins, from this model: nothing of the one before is left."""
        self.copies.clear()
        for path in self.updates.glob("*"):
            path.unlink()
        self.go_on(model)

    def go_on(self, model: State) -> None:
        """First units are of this model."""
        self._model, self._first = model, {}

    def fetch(self, run: ClientRun | None, cut: CutName, units: list[int]) -> list[bytes]:
        """Units of a cut, for a member of ``run``.

        Raises:
            FladError: (ORDER_REFUSED) if this vehicle may not have them, or they are not there.
        """
        run = fenced(run, cut)
        if cut.step == 0:
            return [self._first_unit(unit) for unit in units]
        try:
            return [self.copies.get(run.client, cut.step, unit) for unit in units]
        except KeyError as error:
            there = sorted(self.copies.units(run.client).get(cut.step, ()))
            raise FladError(
                ORDER_REFUSED,
                f"{cut.vehicle} asks for unit {error} of cut {cut.step}; there are {there}",
            ) from error

    def store(self, run: ClientRun | None, cut: CutName, units: list[bytes]) -> int:
        """Take copies of a cut; returns the newest one that is whole.

        Raises:
            FladError: (ORDER_REFUSED) if this vehicle may not give them.
        """
        run = fenced(run, cut, stale_up_to=True)
        for data in units:
            state = unit_state_from_bytes(data)
            if (state.step, state.digest) != (cut.step, self._graph.digest):
                raise FladError(
                    ORDER_REFUSED, f"{cut.vehicle} sent step {state.step} as step {cut.step}"
                )
            self.copies.put(run.client, cut.step, state.unit, data)
            run.copied_bytes += len(data)
        whole = self.copies.whole_step(run.client)
        self.copies.forget(run.client, before=whole)
        return whole

    def keep_update(self, vehicle: str, data: bytes) -> None:
        """A reader never sees half of it."""
        path = self.updates / f"{vehicle}.update"
        beside = path.with_suffix(".new")
        beside.write_bytes(data)
        beside.replace(path)

    def has_update(self, vehicle: str) -> bool:
        """Whether a vehicle's update is here."""
        return (self.updates / f"{vehicle}.update").is_file()

    def _first_unit(self, unit: int) -> bytes:
        """Made when it is asked for: a round's first orders do not wait for all of them."""
        if unit not in self._first:
            self._first[unit] = first_unit(self._graph, self._model, unit).to_bytes()
        return self._first[unit]


def fenced(run: ClientRun | None, cut: CutName, *, stale_up_to: bool = False) -> ClientRun:
    """``run``, if it is the one that ``cut`` is of, and its vehicle follows its order.

    Args:
        run: of which the vehicle is a member now.
        cut: that it names.
        stale_up_to: whether an old epoch's cut will do that the new one began from.

    Raises:
        FladError: (ORDER_REFUSED) otherwise.
    """
    if run is None or (run.client, run.order.round) != (cut.client, cut.round):
        raise FladError(
            ORDER_REFUSED, f"{cut.vehicle} is not in {cut.client} of round {cut.round} now"
        )
    old = cut.epoch != run.order.epoch
    if old and not (stale_up_to and cut.step <= run.order.from_step):
        raise FladError(
            ORDER_REFUSED,
            f"{cut.vehicle} is in epoch {cut.epoch}, {run.client} in {run.order.epoch}",
        )
    return run
