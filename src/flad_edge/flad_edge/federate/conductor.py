# SPDX-License-Identifier: Apache-2.0
"""The edge of a federation: rounds from selecting to publishing, and what happens when one breaks.

A state machine without threads, clocks or ROS: it is told statuses, deaths and the time, and says
orders. Whatever it decides stands in the journal before anybody hears of it, so that an edge that
was killed goes on.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flad_common.error_codes import NOBODY_TRAINS, ORDER_REFUSED, FladError
from flad_edge.federate.client_run import ClientRun
from flad_edge.federate.collect import collect
from flad_edge.federate.planning import ClientPlan, RoundPlan, RoundPlanner
from flad_edge.federate.rounds import ConductorConfig, RoundGoal, RoundOutcome, model_name
from flad_edge.federate.whereabouts import Whereabouts
from flad_edge.swift.fleet import Member
from flad_pipeline.aggregation.keys import KeyRing
from flad_pipeline.aggregation.layout import State, state_hash
from flad_pipeline.aggregation.norms import NormHistory
from flad_pipeline.aggregation.strategy import Aggregator
from flad_pipeline.aggregation.ticket import RoundTicket
from flad_pipeline.aggregation.update import SignedUpdate, read_header, signed_bytes
from flad_pipeline.partition import Partition
from flad_pipeline.round.copies import CutCopies, first_cut
from flad_pipeline.round.cuts import way_back
from flad_pipeline.round.edge_link import CutName
from flad_pipeline.round.journal import Journal
from flad_pipeline.round.order import Order, OrderKind, Stand, Status, VehicleFacts
from flad_pipeline.round.task import TrainingTask
from flad_pipeline.stages.unit_state import unit_state_from_bytes

_log = logging.getLogger(__name__)

_SLEPT_SHARE = 0.2  # of silent_after_s: after so long between two ticks, words may wait unheard


@dataclass(kw_only=True)
class _Round:
    number: int
    round_id: str
    start_hash: str
    began_s: float
    deadline_s: float
    clients: dict[str, ClientRun]
    left_out: dict[str, str] = field(default_factory=dict)


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
        self._journal = Journal(folder, task.graph.digest)
        self._copies = CutCopies(folder / "copies", len(task.graph.units))
        self._updates = folder / "updates"
        self._updates.mkdir(exist_ok=True)
        self._norms = NormHistory(config.gate)
        self._aggregator = Aggregator(config.strategy, task.layout)
        self._state: State = task.start
        self._first: dict[int, bytes] = {}
        self._number = self._epoch = self._order = 0
        self._round: _Round | None = None
        self._last: RoundOutcome | None = None
        self._whereabouts = Whereabouts(planner.config.places)
        self._statuses: dict[str, Status] = {}
        self._heard_s: dict[str, float] = {}
        self._moved_s: dict[str, float] = {}
        self._said_s: dict[str, float] = {}
        self._ticked_s = float("inf")
        self._rule: dict[str, Any] = {}
        self._resume()

    # --- what is there --------------------------------------------------------------------------

    @property
    def round_number(self) -> int:
        """Of the round that is under way or was the last; 0 before the first."""
        return self._number

    @property
    def is_training(self) -> bool:
        """Whether a round is under way."""
        return self._round is not None

    @property
    def last(self) -> RoundOutcome | None:
        """How the last round ended."""
        return self._last

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The newest of every vehicle that is there."""
        return tuple(self._statuses[v] for v in sorted(self._statuses))

    @property
    def model(self) -> State:
        """The model now."""
        return self._state

    # --- a round --------------------------------------------------------------------------------

    def begin(self, goal: RoundGoal, now_s: float) -> None:
        """Begin a round, or go on with the one that is under way.

        Raises:
            FladError: (NOBODY_TRAINS) if nobody can; (ORDER_REFUSED) if another round is under way.
        """
        if self._round is not None:
            if goal.round not in (0, self._round.number):
                raise FladError(
                    ORDER_REFUSED,
                    f"round {self._round.number} is under way, asked for was {goal.round}",
                )
            return
        if goal.round not in (0, self._number + 1):
            raise FladError(
                ORDER_REFUSED, f"the next round is {self._number + 1}, asked for was {goal.round}"
            )
        facts = {
            name: status.facts
            for name, status in self._statuses.items()
            if not goal.vehicles or name in goal.vehicles
        }
        places = self._whereabouts.places(now_s)
        plan = self._planner.plan(facts, places=places, steps=goal.steps)
        if not plan.clients:
            why = "; ".join(f"{v}: {text}" for v, text in plan.left_out.items())
            raise FladError(NOBODY_TRAINS, why or "no vehicle is there")
        self._copies.clear()
        for path in self._updates.glob("*"):
            path.unlink()
        start_hash = state_hash(self._state)
        ticket = RoundTicket(round=self._number + 1, start_hash=start_hash, clients=())
        self._number += 1
        self._round = _Round(
            number=self._number,
            round_id=ticket.round_id,
            start_hash=start_hash,
            began_s=now_s,
            deadline_s=now_s + (goal.deadline_s or self.config.deadline_s),
            clients={},
            left_out=dict(plan.left_out),
        )
        for client in plan.clients:
            self._round.clients[client.client] = self._first_run(client)
        self._write()
        self._tell_plan(plan)
        for run in self._round.clients.values():
            self._give(run.order, now_s)

    def on_status(self, status: Status, now_s: float) -> None:
        """A vehicle has spoken."""
        name = status.vehicle
        before = self._statuses.get(name)
        if before is None:
            self._tell(f"{name} is there ({status.facts.device})")
        if before is None or (before.progress, before.state) != (status.progress, status.state):
            self._moved_s[name] = now_s
        self._statuses[name], self._heard_s[name] = status, now_s
        run = self._run_of(name)
        if run is None:
            if status.state in (Stand.LOADING, Stand.TRAINING, Stand.PAUSED):
                self._stop(name, now_s)
            elif self._round is not None:
                self._welcome(name, now_s)
            return
        run.note(status)
        if before is not None and before.session != status.session:
            self._lose(run, {name}, "its process began anew", now_s)
        elif status.order < run.order.order:
            self._repeat(run.order, name, now_s)
        elif status.order == run.order.order:
            self._react(run, status, now_s)

    def on_place(self, member: Member, now_s: float) -> None:
        """A vehicle has said where it is, and how long it will stay."""
        self._whereabouts.hear(member, now_s)

    def on_lost(self, vehicle: str, how: str, now_s: float) -> None:
        """A vehicle's process is gone, or cut off."""
        if self._statuses.pop(vehicle, None) is not None:
            self._tell(f"{vehicle} is gone: {how}")
        run = self._run_of(vehicle)
        if run is not None:
            self._lose(run, {vehicle}, how, now_s)

    def on_tick(self, now_s: float) -> None:
        """Look at the time: who is silent, who hangs, whether the round is over."""
        slept_s, self._ticked_s = now_s - self._ticked_s, now_s
        if slept_s > _SLEPT_SHARE * self.config.silent_after_s:  # then it has not listened, either
            self._heard_s = dict.fromkeys(self._heard_s, now_s)
            self._moved_s = dict.fromkeys(self._moved_s, now_s)
        if self._round is None:
            return
        for run in list(self._round.clients.values()):
            if run.is_over:
                continue
            if run.waiting_s is not None:
                if now_s - run.waiting_s > self.config.patience_s:
                    left = ", ".join(sorted(run.members)) or "nobody"
                    self._drop(run, f"only {left} was left, too little memory; {run.waiting_why}")
                continue
            for vehicle in run.order.vehicles:
                heard_s = self._heard_s.setdefault(vehicle, now_s)
                if now_s - heard_s > self.config.silent_after_s:
                    self.on_lost(vehicle, f"silent for {now_s - heard_s:.1f} s", now_s)
                    break
            else:
                stands_s = now_s - max(self._moved_s.get(v, now_s) for v in run.order.vehicles)
                if stands_s > self.config.hang_after_s:
                    self._drop(run, f"nobody of it got anywhere for {stands_s:.0f} s")
                else:
                    self._let_go(run, now_s)
        if now_s > self._round.deadline_s:
            for run in self._round.clients.values():
                if not run.is_over:
                    self._drop(run, "late")
        if all(run.is_over for run in self._round.clients.values()):
            self._finish(now_s)

    # --- what vehicles ask for ------------------------------------------------------------------

    def fetch(self, cut: CutName, units: list[int]) -> list[bytes]:
        """Units of a cut.

        Raises:
            FladError: (ORDER_REFUSED) if this vehicle may not have them, or they are not there.
        """
        run = self._fenced(cut)
        if cut.step == 0:
            first = self._first or self._make_first()
            return [first[unit] for unit in units]
        try:
            return [self._copies.get(run.client, cut.step, unit) for unit in units]
        except KeyError as error:
            there = sorted(self._copies.units(run.client).get(cut.step, ()))
            raise FladError(
                ORDER_REFUSED,
                f"{cut.vehicle} asks for unit {error} of cut {cut.step}; there are {there}",
            ) from error

    def store(self, cut: CutName, units: list[bytes]) -> int:
        """Take copies of a cut; returns the newest one that is whole.

        Raises:
            FladError: (ORDER_REFUSED) if this vehicle may not give them.
        """
        run = self._fenced(cut, stale_up_to=True)
        for data in units:
            state = unit_state_from_bytes(data)
            if (state.step, state.digest) != (cut.step, self._task.graph.digest):
                raise FladError(
                    ORDER_REFUSED, f"{cut.vehicle} sent step {state.step} as step {cut.step}"
                )
            self._copies.put(run.client, cut.step, state.unit, data)
            run.copied_bytes += len(data)
        whole = self._copies.whole_step(run.client)
        self._copies.forget(run.client, before=whole)
        return whole

    def submit(self, vehicle: str, data: bytes) -> None:
        """Take a signed update; the gate looks at it when the round ends.

        Raises:
            FladError: (ORDER_REFUSED) if it was not asked for; (UPDATE_...) if it is not signed.
        """
        update = SignedUpdate.from_bytes(data)
        header = read_header(update)
        self._ring.verify(header.vehicle, signed_bytes(update.header), update.signature)
        run = self._run_of(vehicle)
        status = self._statuses.get(vehicle)
        asked = (
            self._round is not None
            and run is not None
            and status is not None
            and status.order == run.order.order
            and (header.vehicle, header.round_id, header.client)
            == (vehicle, self._round.round_id, run.client)
        )
        if run is None or not asked:
            raise FladError(
                ORDER_REFUSED, f"{vehicle} sent an update for {header.client} that is not asked for"
            )
        path = self._updates / f"{vehicle}.update"
        beside = path.with_suffix(".new")
        beside.write_bytes(data)
        beside.replace(path)
        run.submitted.add(vehicle)
        if run.is_over:
            self._write()
            self._tell(f"{run.client} is done")

    # --- recovery -------------------------------------------------------------------------------

    def _react(self, run: ClientRun, status: Status, now_s: float) -> None:
        """To the state of a vehicle that follows its client's newest order."""
        if run.is_over or run.waiting_s is not None:
            return
        if status.state is Stand.BROKEN:
            gone = {status.lost} & set(run.order.vehicles)
            self._lose(run, gone, status.text, now_s)
        elif status.state is Stand.FAILED:
            self._lose(run, {status.vehicle}, status.text, now_s)
        elif status.state is Stand.PAUSED:
            stand = self._of(run)
            paused = [s for s in stand if s.state is Stand.PAUSED]
            # The newcomer's units come from the edge: it waits for the copy of this cut.
            whole = self._copies.whole_step(run.client) >= status.step
            if whole and len(paused) == len(run.order.vehicles):
                self._turn(run, status.step, now_s)
        elif run.pause is not None:
            self._repeat(run.pause, status.vehicle, now_s)

    def _turn(self, run: ClientRun, step: int, now_s: float) -> None:
        """All have paused: go on with who has come and without who leaves, or end here."""
        gone, members = frozenset(run.leaving), {*run.order.vehicles, *run.joining} - run.leaving
        if run.joining and not self._pipelines(run, members, gone):
            members -= run.joining  # no pipeline fits with them
        if gone:
            holds = bool(members) and bool(self._pipelines(run, members, gone))
            run.let_go.append(
                {
                    "vehicles": sorted(gone),
                    "step": step,
                    "ends": not holds,
                    "at_s": self._round_s(now_s),
                }
            )
            if not holds:  # what has been trained counts, while everybody is still there
                self._end_at(run, step, now_s)
                return
        self._regroup(run, members, "rotation", now_s, gone)

    def _end_at(self, run: ClientRun, step: int, now_s: float) -> None:
        """The cut of all who have paused is the client's last."""
        self._epoch += 1
        self._order += 1
        run.begin(
            dataclasses.replace(
                run.order, order=self._order, epoch=self._epoch, from_step=step, end_step=step
            )
        )
        self._write()
        self._give(run.order, now_s)
        self._tell(f"{run.client} ends at step {step}: it cannot go on without who leaves")

    def _let_go(self, run: ClientRun, now_s: float) -> None:
        """Tell a cluster to pause at its next rotation if a member's stay ends soon."""
        if run.pause is not None or len(run.order.vehicles) < 2:
            return
        step_s = self._step_s(run)
        period = self.config.rotation_period
        notice_s = self._planner.config.places.leave_s + period * step_s
        leaving = self._whereabouts.leaving(run.order.vehicles, notice_s, now_s)
        if leaving and max((s.step for s in self._of(run)), default=0) < (
            run.order.end_step - period
        ):
            run.leaving = set(leaving)
            self._tell(f"{', '.join(sorted(leaving))} will leave {run.client} soon")
            self._pause(run, now_s)

    def _step_s(self, run: ClientRun) -> float:
        """Of a client, as its members measured it; as SWIFT says before they have."""
        rates = [s.samples_per_s for s in self._of(run) if s.samples_per_s > 0.0]
        return max(run.step_s, self._task.samples_per_step / min(rates) if rates else 0.0)

    def _pause(self, run: ClientRun, now_s: float) -> None:
        self._order += 1
        run.pause = Order(
            kind=OrderKind.PAUSE,
            order=self._order,
            vehicles=run.order.vehicles,
            client=run.client,
            epoch=run.order.epoch,
            round=run.order.round,
        )
        self._write()
        self._give(run.pause, now_s)

    def _stop(self, vehicle: str, now_s: float) -> None:
        """It follows an order that is over, as after a freeze: it shall forget it."""
        if now_s - self._said_s.get(vehicle, float("-inf")) >= self.config.repeat_s:
            self._order += 1
            self._write()
            self._give(Order(kind=OrderKind.STOP, order=self._order, vehicles=(vehicle,)), now_s)

    def _lose(self, run: ClientRun, gone: set[str], why: str, now_s: float) -> None:
        if run.is_over:
            return
        for vehicle in gone:  # it may come back, under a new order
            run.held.pop(vehicle, None)
        rest = run.members - gone
        what = f"lost {', '.join(sorted(gone))}" if gone else "broke"
        self._tell(f"{run.client} {what}: {why}")
        if not (rest or run.is_cluster):
            self._drop(run, why)
        elif len(run.recoveries) >= self.config.most_recoveries:
            self._drop(run, f"given up after {len(run.recoveries)} recoveries; the last: {why}")
        else:
            self._regroup(run, rest, why, now_s, gone=frozenset(gone))

    def _regroup(
        self,
        run: ClientRun,
        members: set[str],
        why: str,
        now_s: float,
        gone: frozenset[str] = frozenset(),
    ) -> None:
        """Another membership begins, from the newest cut that it can begin from."""
        pipelines = self._pipelines(run, members, gone) if members else ()
        if not pipelines:
            run.waits(members, now_s, why)
            left = ", ".join(sorted(members)) or "nobody"
            self._tell(f"{run.client} waits: {left} cannot hold the model")
            self._write()
            return
        period = self.config.rotation_period
        at_edge = {**self._copies.units(run.client), 0: frozenset(range(run.num_units))}
        local = {v: run.held.get(v, {}) for v in members}
        back = way_back(pipelines, local, at_edge, period)
        assert back is not None, "the round's first model is always there"
        reached = max([run.order.from_step, *(s.step for s in self._of(run))])
        self._epoch += 1
        self._order += 1
        run.submitted.clear()
        run.begin(
            dataclasses.replace(
                run.order,
                order=self._order,
                epoch=self._epoch,
                vehicles=tuple(sorted(members)),
                pipelines=back.pipelines,
                from_step=back.step,
            )
        )
        run.step_s = self._planner.step_s(run.order.pipelines, self._facts_of(run))
        self._copies.forget(run.client, after=back.step)
        if why != "rotation":
            run.recoveries.append(
                {
                    "gone": sorted(gone),
                    "why": why,
                    "from_step": back.step,
                    "lost_steps": reached - back.step,
                    "fetched_units": {v: len(u) for v, u in back.fetched.items() if u},
                    "at_s": self._round_s(now_s),
                }
            )
        self._write()
        self._give(run.order, now_s)
        self._tell(
            f"{run.client} goes on at step {back.step} (was at {reached}) with "
            f"{', '.join(run.order.vehicles)}; the edge sends "
            f"{back.num_fetched} of {run.num_units} units"
        )
        run.templates = {}

    def _pipelines(
        self, run: ClientRun, members: set[str], gone: frozenset[str]
    ) -> tuple[Partition, ...]:
        template = run.templates.get(gone)
        if template and set(run.order.vehicles) - gone == members:
            return template
        return tuple(self._planner.pipelines(members, self._facts_of(run, members)))

    def _facts_of(
        self, run: ClientRun, members: Iterable[str] | None = None
    ) -> dict[str, VehicleFacts]:
        return {
            v: run.facts[v] if v in run.facts else self._statuses[v].facts
            for v in (run.order.vehicles if members is None else members)
        }

    def _welcome(self, vehicle: str, now_s: float) -> None:
        """A vehicle without a client joins the smallest cluster, from the next rotation on."""
        assert self._round is not None
        status = self._statuses[vehicle]
        runs = [r for r in self._round.clients.values() if not r.is_over and r.is_cluster]
        fits = status.facts.digest == self._task.graph.digest and status.facts.num_samples > 0
        ready = status.state in (Stand.IDLE, Stand.BROKEN, Stand.FAILED, Stand.DONE)
        most = self._task.step_config.num_micro_batches
        runs = [
            r
            for r in runs
            if len(r.order.vehicles) + len(r.joining) < most
            and self._whereabouts.near(vehicle, r.members, now_s)
        ]
        if not (runs and fits and ready):
            return
        run = min(runs, key=lambda r: (r.waiting_s is None, len(r.order.vehicles), r.client))
        if run.waiting_s is not None:
            run.facts[vehicle] = status.facts
            self._regroup(run, {*run.members, vehicle}, run.waiting_why, now_s, run.lost)
            return
        if vehicle in run.joining or run.joins.get(vehicle, 0) >= self.config.most_recoveries:
            return
        last_turn = run.order.end_step - self.config.rotation_period
        if max((s.step for s in self._of(run)), default=0) >= last_turn:
            return  # no rotation is left
        turns_s = 2 * self.config.rotation_period * self._step_s(run)
        stay_s = self._planner.config.places.leave_s + turns_s
        if self._whereabouts.leaving([vehicle], stay_s, now_s):
            return  # it would have to be let go at once
        run.joining.add(vehicle)
        run.joins[vehicle] = run.joins.get(vehicle, 0) + 1
        run.facts[vehicle] = status.facts
        self._tell(f"{vehicle} joins {run.client} at the next rotation")
        self._pause(run, now_s)

    # --- beginning and ending -------------------------------------------------------------------

    def _first_run(self, client: ClientPlan) -> ClientRun:
        assert self._round is not None
        self._epoch += 1
        self._order += 1
        c = self.config
        order = Order(
            kind=OrderKind.TRAIN,
            order=self._order,
            vehicles=client.vehicles,
            epoch=self._epoch,
            client=client.client,
            round=self._round.number,
            round_id=self._round.round_id,
            start_hash=self._round.start_hash,
            pipelines=client.pipelines,
            rotation_period=c.rotation_period,
            from_step=0,
            end_step=client.steps,
            cut_every=c.cut_every,
        )
        facts = {v: self._statuses[v].facts for v in client.vehicles}
        return ClientRun(
            client=client.client,
            num_units=len(self._task.graph.units),
            order=order,
            templates=client.templates,
            facts=facts,
            step_s=self._planner.step_s(client.pipelines, facts),
        )

    def _finish(self, now_s: float) -> None:
        round_ = self._round
        assert round_ is not None
        found = collect(
            self._task,
            self._state,
            RoundTicket(
                round=round_.number,
                round_id=round_.round_id,
                start_hash=round_.start_hash,
                clients=(),
            ),
            [run for run in round_.clients.values() if not run.dropped],
            self._updates,
            self._ring,
            self._norms,
        )
        text, counted = "", found.counted
        try:
            self._state = self._aggregator.aggregate(self._state, found.clients())
        except ValueError as error:  # the rule needs more updates
            text = f"no new model: {error}. "
        missing = {r.client: r.dropped for r in round_.clients.values() if r.dropped}
        missing |= found.refused
        text += "; ".join(f"without {name}: {why}" for name, why in missing.items())
        model_hash = state_hash(self._state)
        path = self._journal.save_model(model_name(round_.number), self._state)
        report = self._report(round_, counted, missing, model_hash, text, now_s)
        self._last = RoundOutcome.of(report, path)
        self._round, self._first = None, {}
        self._rule = self._saved_rule(self._aggregator.state_dict())
        self._order += 1
        stop = Order(
            kind=OrderKind.STOP,
            order=self._order,
            vehicles=tuple(sorted(self._statuses)),
            round=round_.number,
        )
        self._write()
        self._say(stop)
        self._tell(f"round {round_.number} is over: model {model_hash}. {text}".strip())

    def _report(
        self,
        round_: _Round,
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

    def _drop(self, run: ClientRun, why: str) -> None:
        run.dropped = why
        self._tell(f"{run.client} does not count: {why}")
        self._write()

    # --- small things ---------------------------------------------------------------------------

    def _run_of(self, vehicle: str) -> ClientRun | None:
        runs = self._round.clients.values() if self._round else ()
        return next((r for r in runs if vehicle in r.members), None)

    def _of(self, run: ClientRun) -> list[Status]:
        """Statuses of those who follow the client's order."""
        there = (self._statuses.get(v) for v in run.order.vehicles)
        return [s for s in there if s is not None and s.order == run.order.order]

    def _fenced(self, cut: CutName, *, stale_up_to: bool = False) -> ClientRun:
        """The client that ``cut`` is of, if its vehicle is a member and follows its order."""
        run = self._run_of(cut.vehicle)
        if (
            self._round is None
            or run is None
            or (run.client, self._round.number)
            != (
                cut.client,
                cut.round,
            )
        ):
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

    def _round_s(self, now_s: float) -> float:
        return round(now_s - (self._round.began_s if self._round else 0.0), 3)

    def _give(self, order: Order, now_s: float) -> None:
        for vehicle in order.vehicles:
            self._said_s[vehicle] = now_s
        self._say(order)

    def _repeat(self, order: Order, vehicle: str, now_s: float) -> None:
        if now_s - self._said_s.get(vehicle, float("-inf")) >= self.config.repeat_s:
            self._give(order, now_s)

    def _make_first(self) -> dict[int, bytes]:
        states = first_cut(self._task.graph, self._state)
        self._first = {unit: state.to_bytes() for unit, state in states.items()}
        return self._first

    def _tell_plan(self, plan: RoundPlan) -> None:
        self._tell(f"round {self._number} begins with {len(plan.clients)} clients")
        for client in plan.clients:
            self._tell(f"  {client.client}: {client.steps} steps")
            for partition in client.pipelines:
                stages = ", ".join(f"{s.vehicle} {s.first}..{s.last}" for s in partition.stages)
                self._tell(f"    {stages}; heads {partition.owner}")
        for vehicle, why in plan.left_out.items():
            self._tell(f"  without {vehicle}: {why}")

    # --- the journal ----------------------------------------------------------------------------

    def _write(self) -> None:
        self._journal.write(
            {
                "round": self._number,
                "epoch": self._epoch,
                "order": self._order,
                "model_hash": state_hash(self._state),
                "model": model_name(self._number - self.is_training),
                "norms": self._norms.state_dict(),
                "rule": self._rule,
                "last": None if self._last is None else dict(self._last.report),
                "running": None
                if self._round is None
                else {
                    "round_id": self._round.round_id,
                    "start_hash": self._round.start_hash,
                    "left_out": self._round.left_out,
                    "clients": [r.as_json() for r in self._round.clients.values()],
                },
            }
        )

    def _saved_rule(self, memory: dict[str, Any]) -> dict[str, Any]:
        """A rule's tensors go into a file of their own; the rest is JSON."""
        plain: dict[str, Any] = {}
        for key, value in memory.items():
            if isinstance(value, Mapping) and value:
                self._journal.save_model(f"rule_{key}", value)
                plain[key] = {"file": f"rule_{key}"}
            else:
                plain[key] = value
        return plain

    def _resume(self) -> None:
        """Go on from the journal, if there is one."""
        values = self._journal.read()
        if values is None:
            self._journal.save_model(model_name(0), self._state)
            return
        self._number, self._epoch = int(values["round"]), int(values["epoch"])
        self._order = int(values["order"])
        self._state = self._journal.load_model(
            values["model"], self._task.layout, values["model_hash"]
        )
        self._norms.load_state_dict(values["norms"])
        self._rule = values["rule"]
        if self._rule:
            self._aggregator.load_state_dict(
                {
                    key: self._journal.load_tensors(value["file"])
                    if isinstance(value, dict) and "file" in value
                    else value
                    for key, value in self._rule.items()
                }
            )
        if values["last"] is not None:
            path = self._journal.model_file(model_name(values["last"]["round"]))
            self._last = RoundOutcome.of(values["last"], path)
        running = values["running"]
        if running is None:
            return
        runs = [ClientRun.from_json(v, len(self._task.graph.units)) for v in running["clients"]]
        self._round = _Round(
            number=self._number,
            round_id=running["round_id"],
            start_hash=running["start_hash"],
            began_s=0.0,
            deadline_s=float("inf"),
            clients={run.client: run for run in runs},
            left_out=running["left_out"],
        )
        for run in runs:
            run.submitted = {v for v in run.submitted if (self._updates / f"{v}.update").is_file()}
        self._tell(f"the edge is back: round {self._number} goes on")

    def resume_clock(self, now_s: float) -> None:
        """A resumed round's time begins anew: nobody was heard while the edge was away."""
        if self._round is not None and self._round.deadline_s == float("inf"):
            self._round.began_s = now_s
            self._round.deadline_s = now_s + self.config.deadline_s
            for run in self._round.clients.values():
                for vehicle in run.order.vehicles:
                    self._heard_s[vehicle] = now_s
