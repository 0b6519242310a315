# SPDX-License-Identifier: Apache-2.0
"""Processes around a route: what has died is started again, what lives is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from flad_carla.evaluation import venue as venue_module
from flad_carla.evaluation.processes import EncoderOption
from flad_carla.evaluation.venue import Venue, VenueConfig
from flad_carla.rig import Rig

SAYS = "import time; print('I drive', flush=True); time.sleep(60)"


class FakeSession:
    def __init__(self, config):
        self.config, self.closed = config, False

    def load_town(self, town):
        self.town = town

    def close(self):
        self.closed = True


class FakePilot:
    """Remembers that it was closed; has the venue's check."""

    def __init__(self, session, config, domain_id, *, check, **options):
        self.session, self.check, self.closed = session, check, False

    def close(self):
        self.closed = True


def starter(name):
    def start(supervisor, *args, **options):
        return supervisor.start(name, [sys.executable, "-c", SAYS])

    return start


@pytest.fixture
def make_venue(monkeypatch, tmp_path):
    for name in ("simulator", "planner", "encoder"):
        monkeypatch.setattr(venue_module, f"start_{name}", starter(name))
    monkeypatch.setattr(venue_module, "CarlaSession", FakeSession)
    pilots = SimpleNamespace(RosPilot=FakePilot)
    monkeypatch.setitem(sys.modules, "flad_carla.evaluation.pilot_node", pilots)
    made = []

    def make(**options):
        rig = Rig(description="none", sensors=())
        made.append(Venue(VenueConfig(domain_id=7, logs=tmp_path, **options), True, rig))
        return made[-1]

    yield make
    for venue in made:
        venue.close()


def child(venue, name):
    supervisor = venue._simulators if name == "simulator" else venue._planners
    return next(c for c in supervisor.children if c.name == name)


def kill(venue, name):
    process = child(venue, name).process
    process.kill()
    process.wait()


def test_what_lives_serves_the_next_route_too(make_venue):
    venue = make_venue()
    first = venue.prepare("Grid", 0)
    planner, simulator = child(venue, "planner"), child(venue, "simulator")
    second = venue.prepare("Grid", 0)
    assert second == first and not first.pilot.closed
    assert child(venue, "planner") is planner and child(venue, "simulator") is simulator


@pytest.mark.parametrize("name", ["planner", "encoder"])
def test_a_dead_node_is_started_again_and_its_log_kept(make_venue, tmp_path: Path, name):
    venue = make_venue(encoder=EncoderOption(model="any"))
    first = venue.prepare("Grid", 0)
    simulator = child(venue, "simulator")
    (tmp_path / f"{name}.log").write_text("why it died")
    kill(venue, name)
    with pytest.raises(Exception, match=rf"{name} was ended by signal 9.*\n.*why it died"):
        first.pilot.check()
    second = venue.prepare("Grid", 0)
    assert first.pilot.closed and second.pilot is not first.pilot
    assert second.session is first.session and child(venue, "simulator") is simulator
    assert {c.name for c in venue._planners.children if c.is_running} == {"planner", "encoder"}
    second.pilot.check()
    assert (tmp_path / f"{name}.1.log").read_text() == "why it died"
    kill(venue, name)
    third = venue.prepare("Grid", 0)
    assert third.pilot is not second.pilot and (tmp_path / f"{name}.2.log").exists()


def test_a_dead_simulator_costs_the_session_and_not_the_planner(make_venue):
    venue = make_venue()
    first = venue.prepare("Grid", 0)
    planner = child(venue, "planner")
    kill(venue, "simulator")
    second = venue.prepare("Grid", 0)
    assert first.session.closed and first.pilot.closed and not second.session.closed
    assert child(venue, "planner") is planner and child(venue, "simulator").is_running
