# SPDX-License-Identifier: Apache-2.0
"""Who is in a client while its round runs: losses, newcomers, leavers, and where they go on from.

A new membership is a new epoch: it begins at the newest common cut of which every unit is at its
new owner's or at the edge (:mod:`flad_pipeline.round.cuts`), by a template that was made before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from flad_edge.federate.chronicle import Chronicle
from flad_edge.federate.client_run import ClientRun
from flad_edge.federate.depot import Depot
from flad_edge.federate.planning import RoundPlanner
from flad_edge.federate.roster import Roster
from flad_edge.federate.rounds import ConductorConfig
from flad_edge.federate.whereabouts import Whereabouts
from flad_pipeline.partition import Partition
from flad_pipeline.round.cuts import way_back
from flad_pipeline.round.order import Order, OrderKind, Stand, Status, VehicleFacts
from flad_pipeline.round.task import TrainingTask


class Membership:
    """Decides who trains on with whom. Single-threaded.

    Args:
        task: the model.
        planner: makes pipelines of those who are left.
        config: how rounds go.
        chronicle: where every decision is written before it is said.
        roster: who is there.
        depot: whose copies there are.
        whereabouts: who will leave.
        tell: an event in words, for people.
    """

    def __init__(
        self,
        task: TrainingTask,
        planner: RoundPlanner,
        config: ConductorConfig,
        *,
        chronicle: Chronicle,
        roster: Roster,
        depot: Depot,
        whereabouts: Whereabouts,
        tell: Callable[[str], None],
    ) -> None:
        self._task, self._planner, self._config = task, planner, config
        self._chronicle, self._roster, self._depot = chronicle, roster, depot
        self._whereabouts, self._tell = whereabouts, tell

    def react(self, run: ClientRun, status: Status, now_s: float) -> None:
        """To the state of a vehicle that follows its client's newest order."""
        if run.is_over or run.waiting_s is not None:
            return
        if status.state is Stand.BROKEN:
            gone = {status.lost} & set(run.order.vehicles)
            self.lose(run, gone, status.text, now_s)
        elif status.state is Stand.FAILED:
            self.lose(run, {status.vehicle}, status.text, now_s)
        elif status.state is Stand.PAUSED:
            stand = self._roster.followers(run)
            paused = [s for s in stand if s.state is Stand.PAUSED]
            # The newcomer's units come from the edge: it waits for the copy of this cut.
            whole = self._depot.copies.whole_step(run.client) >= status.step
            if whole and len(paused) == len(run.order.vehicles):
                self._turn(run, status.step, now_s)
        elif run.pause is not None:
            self._roster.repeat(run.pause, status.vehicle, now_s)

    def lose(self, run: ClientRun, gone: set[str], why: str, now_s: float) -> None:
        """Members are gone: the others go on without them, where they can."""
        if run.is_over:
            return
        for vehicle in gone:  # it may come back, under a new order
            run.held.pop(vehicle, None)
        rest = run.members - gone - self._spared(run, run.members - gone, now_s)
        what = f"lost {', '.join(sorted(gone))}" if gone else "broke"
        self._tell(f"{run.client} {what}: {why}")
        if not (rest or run.is_cluster):
            self.drop(run, why)
        elif len(run.recoveries) >= self._config.most_recoveries:
            self.drop(run, f"given up after {len(run.recoveries)} recoveries; the last: {why}")
        else:
            self.regroup(run, rest, why, now_s, gone=frozenset(gone))

    def drop(self, run: ClientRun, why: str) -> None:
        """The client does not count."""
        run.dropped = why
        self._tell(f"{run.client} does not count: {why}")
        self._chronicle.write()

    def welcome(self, vehicle: str, now_s: float) -> bool:
        """A vehicle without a client joins the smallest cluster, from the next rotation on.

        Returns:
            Whether one takes it.
        """
        round_, status = self._chronicle.round, self._roster.get(vehicle)
        assert round_ is not None
        assert status is not None
        runs = [r for r in round_.clients.values() if not r.is_over and r.is_cluster]
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
            return False
        run = min(runs, key=lambda r: (r.waiting_s is None, len(r.order.vehicles), r.client))
        pending = next((r for r in round_.clients.values() if vehicle in r.joining), None)
        if pending is not None and run.waiting_s is None:
            return True
        turn_s = self._config.rotation_period * self._step_s(run)
        if self._leaving(run, {vehicle}, now_s, after_s=turn_s):
            return False  # it would have to be let go at once
        if run.waiting_s is not None:
            if pending is not None:  # who waits goes first
                pending.joining.discard(vehicle)
            run.facts[vehicle] = status.facts
            stay = run.members - self._leaving(run, run.members, now_s)
            self.regroup(run, {*stay, vehicle}, run.waiting_why, now_s, run.lost)
            return True
        if run.joins.get(vehicle, 0) >= self._config.most_recoveries:
            return False
        last_turn = run.order.end_step - self._config.rotation_period
        if max((s.step for s in self._roster.followers(run)), default=0) >= last_turn:
            return False  # no rotation is left
        run.joining.add(vehicle)
        run.joins[vehicle] = run.joins.get(vehicle, 0) + 1
        run.facts[vehicle] = status.facts
        self._tell(f"{vehicle} joins {run.client} at the next rotation")
        self._pause(run, now_s)
        return True

    def let_go(self, run: ClientRun, now_s: float) -> None:
        """Tell a cluster to pause at its next rotation if a member's stay ends soon."""
        if len(run.order.vehicles) < 2:
            return
        leaving = self._leaving(run, set(run.order.vehicles), now_s) - run.leaving
        reached = max((s.step for s in self._roster.followers(run)), default=0)
        is_last_turn = reached >= run.order.end_step - self._config.rotation_period
        if leaving and (run.pause is not None or not is_last_turn):
            run.leaving |= leaving
            self._tell(f"{', '.join(sorted(leaving))} will leave {run.client} soon")
            if run.pause is None:
                self._pause(run, now_s)

    def prepare(self, run: ClientRun) -> None:
        """Make one template that is missing, for the departure of one member.

        After a recovery there are none: one at each look at the time delays nobody, and the next
        departure finds its own.
        """
        members = set(run.order.vehicles)
        for vehicle in run.order.vehicles if len(members) > 1 else ():
            gone = frozenset({vehicle})
            if gone not in run.templates:
                facts = self._facts_of(run, members - gone)
                made = tuple(self._planner.pipelines(members - gone, facts))
                run.templates = {**run.templates, gone: made}
                return

    def regroup(
        self,
        run: ClientRun,
        members: set[str],
        why: str,
        now_s: float,
        gone: frozenset[str] = frozenset(),
    ) -> None:
        """Another membership begins, from the newest cut that it can begin from."""
        pipelines = self._pipelines(run, members) if members else ()
        if not pipelines:
            run.waits(members, now_s, why)
            left = ", ".join(sorted(members)) or "nobody"
            self._tell(f"{run.client} waits: {left} cannot hold the model")
            self._chronicle.write()
            return
        period = self._config.rotation_period
        at_edge = {**self._depot.copies.units(run.client), 0: frozenset(range(run.num_units))}
        local = {v: run.held.get(v, {}) for v in members}
        back = way_back(pipelines, local, at_edge, period, self._planner.unit_bytes)
        assert back is not None, "the round's first model is always there"
        reached = max([run.order.from_step, *(s.step for s in self._roster.followers(run))])
        epoch, order = self._chronicle.new_epoch(), self._chronicle.new_order()
        run.submitted.clear()
        run.begin(
            dataclasses.replace(
                run.order,
                order=order,
                epoch=epoch,
                vehicles=tuple(sorted(members)),
                pipelines=back.pipelines,
                from_step=back.step,
            )
        )
        run.step_s = self._planner.step_s(run.order.pipelines, self._facts_of(run))
        self._depot.copies.forget(run.client, after=back.step)
        if why != "rotation":
            run.recoveries.append(
                {
                    "gone": sorted(gone),
                    "why": why,
                    "from_step": back.step,
                    "lost_steps": reached - back.step,
                    "fetched_units": {v: len(u) for v, u in back.fetched.items() if u},
                    "at_s": self._since_s(now_s),
                }
            )
        self._chronicle.write()
        self._roster.give(run.order, now_s)
        self._tell(
            f"{run.client} goes on at step {back.step} (was at {reached}) with "
            f"{', '.join(run.order.vehicles)}; the edge sends "
            f"{back.num_fetched} of {run.num_units} units"
        )
        run.templates = {}

    def _leaving(
        self, run: ClientRun, members: set[str], now_s: float, after_s: float = 0.0
    ) -> frozenset[str]:
        """Who of them may be gone before the turn after next, or ``after_s`` later, has begun."""
        turn_s = self._config.rotation_period * self._step_s(run)
        within_s = self._planner.config.places.leave_s + turn_s + after_s
        return self._whereabouts.leaving(members, within_s, now_s)

    def _spared(self, run: ClientRun, rest: set[str], now_s: float) -> frozenset[str]:
        """Who of those that are left need not begin again, because it would leave soon after.

        If the others cannot hold the model, only those go who would not even see the next turn.
        """
        soon = self._leaving(run, rest, now_s)
        if soon and not (rest - soon and self._pipelines(run, rest - soon)):
            turn_s = self._config.rotation_period * self._step_s(run)
            soon = self._whereabouts.leaving(rest, turn_s, now_s)
        if soon:
            step = max((s.step for s in self._roster.followers(run)), default=run.order.from_step)
            self._note_let_go(run, soon, step, now_s, ends=False)
            self._tell(f"{', '.join(sorted(soon))} would leave {run.client} soon, and is let go")
        return soon

    def _note_let_go(
        self, run: ClientRun, gone: frozenset[str], step: int, now_s: float, *, ends: bool
    ) -> None:
        run.let_go.append(
            {
                "vehicles": sorted(gone),
                "step": step,
                "ends": ends,
                "at_s": self._since_s(now_s),
            }
        )

    def _turn(self, run: ClientRun, step: int, now_s: float) -> None:
        """All have paused: go on with who has come and without who leaves, or end here."""
        gone, members = frozenset(run.leaving), {*run.order.vehicles, *run.joining} - run.leaving
        if run.joining and not self._pipelines(run, members):
            members -= run.joining  # no pipeline fits with them
        if gone:
            holds = bool(members) and bool(self._pipelines(run, members))
            self._note_let_go(run, gone, step, now_s, ends=not holds)
            if not holds:  # what has been trained counts, while everybody is still there
                self._end_at(run, step, now_s)
                return
        self.regroup(run, members, "rotation", now_s, gone)

    def _end_at(self, run: ClientRun, step: int, now_s: float) -> None:
        """The cut of all who have paused is the client's last."""
        epoch, order = self._chronicle.new_epoch(), self._chronicle.new_order()
        run.begin(
            dataclasses.replace(run.order, order=order, epoch=epoch, from_step=step, end_step=step)
        )
        self._chronicle.write()
        self._roster.give(run.order, now_s)
        self._tell(f"{run.client} ends at step {step}: it cannot go on without who leaves")

    def _pause(self, run: ClientRun, now_s: float) -> None:
        number = self._chronicle.new_order()
        run.pause = Order(
            kind=OrderKind.PAUSE,
            order=number,
            vehicles=run.order.vehicles,
            client=run.client,
            epoch=run.order.epoch,
            round=run.order.round,
        )
        self._chronicle.write()
        self._roster.give(run.pause, now_s)

    def _step_s(self, run: ClientRun) -> float:
        """Of a client, as its members measured it; as SWIFT says before they have."""
        rates = [s.samples_per_s for s in self._roster.followers(run) if s.samples_per_s > 0.0]
        return max(run.step_s, self._task.samples_per_step / min(rates) if rates else 0.0)

    def _pipelines(self, run: ClientRun, members: set[str]) -> tuple[Partition, ...]:
        before = frozenset(run.order.vehicles)
        if members < before and (template := run.templates.get(before - members)):
            return template
        return tuple(self._planner.pipelines(members, self._facts_of(run, members)))

    def _facts_of(
        self, run: ClientRun, members: Iterable[str] | None = None
    ) -> dict[str, VehicleFacts]:
        return {
            v: run.facts[v] if v in run.facts else self._facts(v)
            for v in (run.order.vehicles if members is None else members)
        }

    def _facts(self, vehicle: str) -> VehicleFacts:
        status = self._roster.get(vehicle)
        assert status is not None, f"{vehicle} is a member, and was never heard"
        return status.facts

    def _since_s(self, now_s: float) -> float:
        return self._chronicle.round.since_s(now_s) if self._chronicle.round else 0.0
