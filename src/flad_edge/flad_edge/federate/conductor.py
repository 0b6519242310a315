# SPDX-License-Identifier: Apache-2.0
"""The edge of a federation: rounds from selecting to publishing, and what happens when one breaks.

A state machine without threads, clocks or ROS: it is told statuses, deaths and the time, and says
orders. Here a round begins and ends, and what is heard finds its client; who trains on with whom
is decided in :mod:`.membership`, files are in :mod:`.depot`, the journal in :mod:`.chronicle`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flad_common.error_codes import NOBODY_TRAINS, ORDER_REFUSED, FladError
from flad_edge.federate.chronicle import Chronicle
from flad_edge.federate.client_run import ClientRun
from flad_edge.federate.collect import collect
from flad_edge.federate.depot import Depot
from flad_edge.federate.membership import Membership
from flad_edge.federate.planning import ClientPlan, RoundPlan, RoundPlanner
from flad_edge.federate.roster import Roster
from flad_edge.federate.round_run import RoundRun
from flad_edge.federate.rounds import ConductorConfig, RoundGoal, RoundOutcome
from flad_edge.federate.whereabouts import Whereabouts
from flad_edge.swift.fleet import Member
from flad_pipeline.aggregation.keys import KeyRing
from flad_pipeline.aggregation.layout import State
from flad_pipeline.aggregation.ticket import RoundTicket
from flad_pipeline.aggregation.update import SignedUpdate, read_header, signed_bytes
from flad_pipeline.round.edge_link import CutName
from flad_pipeline.round.order import Order, OrderKind, Stand, Status
from flad_pipeline.round.task import TrainingTask


class Conductor:
    """One federation. Single-threaded.

    Args:
        task: the model; data are the vehicles'.
        planner: makes clients and pipelines.
        config: how rounds go.
        folder: the journal's.
        ring: whose signatures count.
        say: gives an order to the vehicles that it names.
        tell: an event in words, for people.
    """

    def __init__(
        self,
        task: TrainingTask,
        planner: RoundPlanner,
        config: ConductorConfig,
        folder: Path,
        ring: KeyRing,
        *,
        say: Callable[[Order], None],
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config = config
        self._task, self._planner, self._ring = task, planner, ring
        self._say, self._tell = say, tell
        self._chronicle = Chronicle(task, config, folder)
        self._depot = Depot(folder, task.graph)
        self._roster = Roster(say, repeat_s=config.repeat_s, silent_after_s=config.silent_after_s)
        self._whereabouts = Whereabouts(planner.config.places)
        self._membership = Membership(
            task,
            planner,
            config,
            chronicle=self._chronicle,
            roster=self._roster,
            depot=self._depot,
            whereabouts=self._whereabouts,
            tell=tell,
        )
        self._go_on()

    # --- what is there --------------------------------------------------------------------------

    @property
    def round_number(self) -> int:
        """Of the round that is under way or was the last; 0 before the first."""
        return self._chronicle.number

    @property
    def is_training(self) -> bool:
        """Whether a round is under way."""
        return self._chronicle.round is not None

    @property
    def round(self) -> RoundRun | None:
        """The one that is under way; only to look at."""
        return self._chronicle.round

    @property
    def last(self) -> RoundOutcome | None:
        """How the last round ended."""
        return self._chronicle.last

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The newest of every vehicle that is there."""
        return self._roster.statuses

    @property
    def model(self) -> State:
        """The model now."""
        return self._chronicle.model

    # --- a round --------------------------------------------------------------------------------

    def begin(self, goal: RoundGoal, now_s: float) -> None:
        """Begin a round, or go on with the one that is under way.

        Raises:
            FladError: (NOBODY_TRAINS) if nobody can; (ORDER_REFUSED) if another round is under way.
        """
        round_, book = self._chronicle.round, self._chronicle
        if round_ is not None:
            if goal.round not in (0, round_.number):
                raise FladError(
                    ORDER_REFUSED,
                    f"round {round_.number} is under way, asked for was {goal.round}",
                )
            return
        if goal.round not in (0, book.number + 1):
            raise FladError(
                ORDER_REFUSED, f"the next round is {book.number + 1}, asked for was {goal.round}"
            )
        facts = {
            status.vehicle: status.facts
            for status in self._roster.statuses
            if not goal.vehicles or status.vehicle in goal.vehicles
        }
        places = self._whereabouts.places(now_s)
        plan = self._planner.plan(facts, places=places, steps=goal.steps)
        if not plan.clients:
            why = "; ".join(f"{v}: {text}" for v, text in plan.left_out.items())
            raise FladError(NOBODY_TRAINS, why or "no vehicle is there")
        self._depot.begin(book.model)
        ticket = RoundTicket(round=book.number + 1, start_hash=book.model_hash, clients=())
        book.number += 1
        book.round = RoundRun(
            number=book.number,
            round_id=ticket.round_id,
            start_hash=book.model_hash,
            began_s=now_s,
            deadline_s=now_s + (goal.deadline_s or self.config.deadline_s),
            clients={},
            left_out=dict(plan.left_out),
        )
        for client in plan.clients:
            book.round.clients[client.client] = self._first_run(book.round, client)
        book.write()
        self._tell_plan(plan)
        for run in book.round.clients.values():
            self._roster.give(run.order, now_s)

    def on_status(self, status: Status, now_s: float) -> None:
        """A vehicle has spoken."""
        name = status.vehicle
        before = self._roster.hear(status, now_s)
        if before is None:
            self._tell(f"{name} is there ({status.facts.device})")
        run = self._run_of(name)
        if run is None:
            trains = status.state in (Stand.LOADING, Stand.TRAINING, Stand.PAUSED)
            is_taken = not trains and self.is_training and self._membership.welcome(name, now_s)
            # Whoever broke and is in no client any more shall not keep what it held for it.
            if trains or (status.state is Stand.BROKEN and not is_taken):
                self._stop(name, now_s)
            return
        run.note(status)
        if before is not None and before.session != status.session:
            self._membership.lose(run, {name}, "its process began anew", now_s)
        elif status.order < run.order.order:
            self._roster.repeat(run.order, name, now_s)
        elif status.order == run.order.order:
            self._membership.react(run, status, now_s)

    def on_place(self, member: Member, now_s: float) -> None:
        """A vehicle has said where it is, and how long it will stay."""
        self._whereabouts.hear(member, now_s)

    def on_lost(self, vehicle: str, how: str, now_s: float) -> None:
        """A vehicle's process is gone, or cut off."""
        if self._roster.lose(vehicle):
            self._tell(f"{vehicle} is gone: {how}")
        run = self._run_of(vehicle)
        if run is not None:
            self._membership.lose(run, {vehicle}, how, now_s)

    def on_tick(self, now_s: float) -> None:
        """Look at the time: who is silent, who hangs, whether the round is over."""
        self._roster.look(now_s)
        round_ = self._chronicle.round
        if round_ is None:
            return
        for run in [run for run in round_.clients.values() if not run.is_over]:
            self._look_at(run, now_s)
        if now_s > round_.deadline_s:
            for run in round_.clients.values():
                if not run.is_over:
                    self._membership.drop(run, "late")
        if all(run.is_over for run in round_.clients.values()):
            self._finish(round_, now_s)

    def resume_clock(self, now_s: float) -> None:
        """A resumed round's time begins anew: nobody was heard while the edge was away."""
        round_ = self._chronicle.round
        if round_ is not None and round_.deadline_s == float("inf"):
            round_.began_s = now_s
            round_.deadline_s = now_s + self.config.deadline_s
            for run in round_.clients.values():
                self._roster.expect(run.order.vehicles, now_s)

    # --- what vehicles ask for ------------------------------------------------------------------

    def fetch(self, cut: CutName, units: list[int]) -> list[bytes]:
        """Units of a cut.

        Raises:
            FladError: (ORDER_REFUSED) if this vehicle may not have them, or they are not there.
        """
        return self._depot.fetch(self._run_of(cut.vehicle), cut, units)

    def store(self, cut: CutName, units: list[bytes]) -> int:
        """Take copies of a cut; returns the newest one that is whole.

        Raises:
            FladError: (ORDER_REFUSED) if this vehicle may not give them.
        """
        return self._depot.store(self._run_of(cut.vehicle), cut, units)

    def submit(self, vehicle: str, data: bytes) -> None:
        """Take a signed update; the gate looks at it when the round ends.

        Raises:
            FladError: (ORDER_REFUSED) if it was not asked for; (UPDATE_...) if it is not signed.
        """
        update = SignedUpdate.from_bytes(data)
        header = read_header(update)
        self._ring.verify(header.vehicle, signed_bytes(update.header), update.signature)
        run = self._run_of(vehicle)
        round_ = self._chronicle.round
        # By the members' epoch, not by what the vehicle has said: its word may be on its way yet.
        asked = (
            round_ is not None
            and run is not None
            and (header.vehicle, header.round_id, header.client, header.epoch)
            == (vehicle, round_.round_id, run.client, run.order.epoch)
        )
        if run is None or not asked:
            raise FladError(
                ORDER_REFUSED, f"{vehicle} sent an update for {header.client} that is not asked for"
            )
        self._depot.keep_update(vehicle, data)
        run.submitted.add(vehicle)
        if run.is_over:
            self._chronicle.write()
            self._tell(f"{run.client} is done")

    # --- while it runs --------------------------------------------------------------------------

    def _look_at(self, run: ClientRun, now_s: float) -> None:
        c, members = self.config, self._membership
        if run.waiting_s is not None:
            if now_s - run.waiting_s > c.patience_s:
                left = ", ".join(sorted(run.members)) or "nobody"
                members.drop(run, f"only {left} was left, too little memory; {run.waiting_why}")
            return
        if (silent := self._roster.silent(run, now_s)) is not None:
            vehicle, silent_s = silent
            self.on_lost(vehicle, f"silent for {silent_s:.1f} s", now_s)
        elif (stands_s := self._roster.stands_s(run, now_s)) > c.hang_after_s:
            members.drop(run, f"nobody of it got anywhere for {stands_s:.0f} s")
        else:
            members.let_go(run, now_s)
            members.prepare(run)

    def _stop(self, vehicle: str, now_s: float) -> None:
        """It follows an order that is over, as after a freeze: it shall forget it."""
        if self._roster.may_say(vehicle, now_s):
            number = self._chronicle.new_order()
            self._chronicle.write()
            order = Order(kind=OrderKind.STOP, order=number, vehicles=(vehicle,))
            self._roster.give(order, now_s)

    def _run_of(self, vehicle: str) -> ClientRun | None:
        round_ = self._chronicle.round
        return round_.run_of(vehicle) if round_ is not None else None

    # --- beginning and ending -------------------------------------------------------------------

    def _first_run(self, round_: RoundRun, client: ClientPlan) -> ClientRun:
        c, book = self.config, self._chronicle
        order = Order(
            kind=OrderKind.TRAIN,
            order=book.new_order(),
            vehicles=client.vehicles,
            epoch=book.new_epoch(),
            client=client.client,
            round=round_.number,
            round_id=round_.round_id,
            start_hash=round_.start_hash,
            pipelines=client.pipelines,
            rotation_period=c.rotation_period,
            from_step=0,
            end_step=client.steps,
            cut_every=c.cut_every,
        )
        facts = {s.vehicle: s.facts for s in self._roster.statuses if s.vehicle in client.vehicles}
        return ClientRun(
            client=client.client,
            num_units=len(self._task.graph.units),
            order=order,
            templates=client.templates,
            facts=facts,
            step_s=self._planner.step_s(client.pipelines, facts),
        )

    def _finish(self, round_: RoundRun, now_s: float) -> None:
        book = self._chronicle
        found = collect(
            self._task,
            book.model,
            RoundTicket(
                round=round_.number,
                round_id=round_.round_id,
                start_hash=round_.start_hash,
                clients=(),
            ),
            [run for run in round_.clients.values() if not run.dropped],
            self._depot.updates,
            self._ring,
            book.norms,
        )
        text, counted = "", found.counted
        try:
            book.aggregate(found.clients())
        except ValueError as error:  # the rule needs more updates
            text = f"no new model: {error}. "
        missing = {r.client: r.dropped for r in round_.clients.values() if r.dropped}
        missing |= found.refused
        text += "; ".join(f"without {name}: {why}" for name, why in missing.items())
        path = book.save_model()
        report = self._report(round_, counted, missing, book.model_hash, text, now_s)
        book.end_round(RoundOutcome.of(report, path))
        stop = Order(
            kind=OrderKind.STOP,
            order=book.new_order(),
            vehicles=tuple(s.vehicle for s in self._roster.statuses),
            round=round_.number,
        )
        book.write()
        self._say(stop)
        self._tell(f"round {round_.number} is over: model {book.model_hash}. {text}".strip())

    def _report(
        self,
        round_: RoundRun,
        counted: Mapping[str, int],
        missing: Mapping[str, str],
        model_hash: str,
        text: str,
        now_s: float,
    ) -> dict[str, Any]:
        return {
            "schema": "flad.round",
            "round": round_.number,
            "seconds": round(now_s - round_.began_s, 3),
            "start_hash": round_.start_hash,
            "model_hash": model_hash,
            "counted": dict(counted),
            "missing": dict(missing),
            "text": text,
            "left_out": round_.left_out,
            "clients": {run.client: run.report() for run in round_.clients.values()},
        }

    def _go_on(self) -> None:
        """With the round that the journal says is under way."""
        round_ = self._chronicle.round
        self._depot.go_on(self._chronicle.model)
        if round_ is not None:
            for run in round_.clients.values():
                run.submitted = {v for v in run.submitted if self._depot.has_update(v)}
            self._tell(f"the edge is back: round {round_.number} goes on")

    def _tell_plan(self, plan: RoundPlan) -> None:
        self._tell(f"round {self._chronicle.number} begins with {len(plan.clients)} clients")
        for client in plan.clients:
            self._tell(f"  {client.client}: {client.steps} steps")
            for partition in client.pipelines:
                stages = ", ".join(f"{s.vehicle} {s.first}..{s.last}" for s in partition.stages)
                self._tell(f"    {stages}; heads {partition.owner}")
        for vehicle, why in plan.left_out.items():
            self._tell(f"  without {vehicle}: {why}")
