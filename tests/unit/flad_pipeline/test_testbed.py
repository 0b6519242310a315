# SPDX-License-Identifier: Apache-2.0
"""The emulated testbed, by clocks that the tests turn themselves."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from member_threads import in_threads
from swift_problems import small_problem

from flad_edge.swift.pipeline import Pipeline, Stage
from flad_edge.swift.schedule import simulated_step_s as swift_step_s
from flad_pipeline.group.link import LinkEvents
from flad_pipeline.group.memory_link import MemoryNetwork
from flad_pipeline.group.packet import Kind, Packet
from flad_pipeline.group.transport import Transport
from flad_pipeline.round.edge_link import CutName
from flad_pipeline.testbed.arithmetic import Hop, StepTimes, bottleneck_s, simulated_step_s
from flad_pipeline.testbed.channel_file import ChannelFile
from flad_pipeline.testbed.pace import Pace
from flad_pipeline.testbed.shaped_edge import ShapedEdge
from flad_pipeline.testbed.shaped_link import HEADER_BYTES, ShapedLink
from flad_pipeline.testbed.testbed import (
    EmulatedVehicle,
    LinkProfile,
    Testbed,
    read_testbed,
)
from flad_pipeline.wire import encode

SLOW = EmulatedVehicle(seconds_per_flop=2.0, available_bytes=1e9)
BED = Testbed(
    vehicles={"a": SLOW, "b": SLOW, "c": SLOW},
    link=LinkProfile(bits_per_s=8000.0, delay_s=0.25),
    between={frozenset("ab"): LinkProfile(bits_per_s=16_000.0)},
    dilation=10.0,
)


class Clock:
    """Time that passes only by sleeping and by what a test says."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_testbed_goes_to_another_process_and_back():
    assert read_testbed(BED.as_json()) == BED
    assert BED.link_between("b", "a").bits_per_s == 16_000.0
    assert BED.link_between("c", "a").delay_s == 0.25


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dilation": 0.0}, "dilation must be positive"),
        ({"between": {frozenset("ax"): BED.link}}, "two vehicles"),
    ],
)
def test_what_is_no_testbed_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(BED, **change)


def test_work_takes_its_dilated_time_however_fast_it_is_done_and_an_overrun_is_counted():
    clock = Clock()
    pace = Pace(BED, "a", clock=clock, sleep=clock.sleep, work_scale=3.0)
    with pace.work(4.0):
        clock.now_s += 17.0
    assert clock.now_s == 100.0 + 4.0 * 2.0 * 3.0 * 10.0
    with pace.work(1.0), pace.waiting():
        clock.now_s += 500.0  # for others: no work
    assert clock.now_s == 340.0 + 500.0 + 60.0
    assert pace.report().num_overruns == 0
    assert pace.report().busy_s == pytest.approx(5.0 * 2.0 * 3.0)
    with pace.work(1.0):
        clock.now_s += 90.0
    assert pace.report().num_overruns == 1
    assert pace.report().worst_overrun == pytest.approx(1.5)


def test_a_computer_does_one_thing_at_a_time_and_the_urgent_first():
    pace = Pace(BED, "a", sleep=lambda _: None)
    order: list[str] = []
    entered = threading.Event()

    def one(name: str, *, urgent: bool) -> threading.Thread:
        def run() -> None:
            with pace.work(0.0, urgent=urgent):
                order.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with pace.work(0.0):
        threads = [one("pass", urgent=False), one("heads", urgent=True)]
        while pace._num_urgent == 0:
            entered.wait(0.001)
        assert order == []
    for thread in threads:
        thread.join(30.0)
    assert order == ["heads", "pass"]


def test_a_channel_is_one_for_all_who_map_its_file(tmp_path: Path):
    clock = Clock()
    first, second = (ChannelFile(tmp_path / "air", 2, clock) for _ in range(2))
    assert first.reserve(0, 3.0) == 103.0
    assert second.reserve(0, 2.0) == 105.0
    assert second.reserve(1, 1.0) == 101.0
    clock.now_s = 200.0
    assert first.reserve(0, 1.0) == 201.0
    first.close()
    second.close()


def test_a_shaped_link_delivers_all_but_what_is_lost_and_counts_what_it_carried(tmp_path: Path):
    bed = Testbed(
        vehicles={"a": SLOW, "b": SLOW}, link=LinkProfile(bits_per_s=1e9, delay_s=0.001, loss=0.3)
    )
    network = MemoryNetwork()
    link = ShapedLink(network.link("a"), bed, tmp_path / "air", seed=3)
    other, got, done = network.link("b"), [], threading.Event()

    def take(packet: Packet) -> None:
        got.append(packet.sequence)
        if packet.sequence == 200:
            done.set()

    other.open(LinkEvents(on_packet=take, on_lost=lambda name, how: None))
    link.open(LinkEvents(on_packet=lambda packet: None, on_lost=lambda name, how: None))
    number = 0
    while not done.is_set():
        number = min(200, number + 1)  # the last one until it gets through
        link.send(Packet(kind=Kind.ACK, source="a", destination="b", epoch=1, sequence=number))
    assert got == sorted(got)
    assert 0 < link.num_lost < link.num_packets
    assert link.num_bytes == HEADER_BYTES * link.num_packets
    with pytest.raises(KeyError, match=r"no 'x' in the testbed; there are \['a', 'b'\]"):
        link.send(Packet(kind=Kind.ACK, source="a", destination="x", epoch=1))
    link.close()
    other.close()


class _KnownEdge:
    """Gives ten bytes a unit; what it is given it counts."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def fetch(self, cut: CutName, units: Sequence[int]) -> list[bytes]:
        return [bytes(10) for _ in units]

    def store(self, cut: CutName, units: Sequence[bytes]) -> int:
        self.num_bytes += sum(len(piece) for piece in units)
        return cut.step

    def submit(self, vehicle: str, update: bytes) -> None:
        self.num_bytes += len(update)


@pytest.mark.parametrize("shared", [True, False])
def test_the_edge_is_behind_the_same_radio(tmp_path: Path, shared: bool):
    bed = dataclasses.replace(BED, shared_channel=shared)
    edge, naps = _KnownEdge(), []
    mine = ShapedEdge(edge, bed, "b", tmp_path / "air", sleep=naps.append)
    cut = CutName(vehicle="b", client="c", round=1, epoch=1, step=4)
    second_s = 8.0 * bed.dilation / bed.link.bits_per_s

    began_s = time.monotonic()
    assert len(mine.fetch(cut, [1, 2, 3])) == 3
    assert naps[-1] == pytest.approx(bed.link.delay_s * bed.dilation)
    assert mine.store(cut, [bytes(500), bytes(100)]) == 4
    mine.submit("b", bytes(7))
    ended_s = time.monotonic()
    assert edge.num_bytes == 607
    channels = ChannelFile(tmp_path / "air", 1 if shared else 9, clock=lambda: 0.0)
    place = 0 if shared else 4  # of b to itself: nobody else sends there
    free_s = channels.reserve(place, 0.0)
    took_s = 637 * second_s
    assert began_s + took_s <= free_s + 1e-6
    assert free_s <= ended_s + took_s + 1e-6
    channels.close()
    mine.close()


def test_a_transport_over_a_lossy_shaped_channel_loses_nothing(tmp_path: Path):
    bed = Testbed(
        vehicles={"a": SLOW, "b": SLOW}, link=LinkProfile(bits_per_s=4e7, delay_s=0.002, loss=0.1)
    )
    network = MemoryNetwork()
    a, b = (
        Transport(ShapedLink(network.link(name), bed, tmp_path / "air"), bed.transport_config())
        for name in "ab"
    )
    for transport in (a, b):
        transport.enter(1, ("a", "b"))
    chunk_bytes = a.config.channel.chunk_bytes
    assert chunk_bytes < 524_288

    def exchange(me: Transport, other: Transport) -> list[int]:
        for size in (1, 50_000, 7):
            me.send(other.name, encode(torch.ones(size), chunk_bytes=4096), epoch=1)
        slots = [me.expect(other.name, epoch=1) for _ in range(3)]
        return [me.receive(slot, epoch=1, timeout_s=60.0).num_bytes for slot in slots]

    for got in in_threads([lambda: exchange(a, b), lambda: exchange(b, a)]):
        assert got == [4, 200_000, 28]
    for transport in (a, b):
        transport.close()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_without_heads_the_arithmetic_is_swift_s(seed, shared):
    problem = small_problem(seed, shared=shared)
    ends = [(1, 0, 2), (0, 2, 5), (2, 5, 7)]
    pipeline = Pipeline(tuple(Stage(vehicle=v, begin=a, end=b) for v, a, b in ends))
    per_byte, delay_s = problem.cluster.seconds_per_byte, problem.cluster.delay_s
    stages = pipeline.stages
    times = StepTimes(
        passes_s=tuple(
            tuple(
                float(problem.seconds_per_flop[s.vehicle])
                * sum(getattr(u, f"flops_{kind}") for u in problem.model.units[s.begin : s.end])
                for kind in ("forward", "backward")
            )
            for s in stages
        ),
        heads_s=0.0,
        hops=tuple(
            Hop(
                forward_s=float(per_byte[a.vehicle, b.vehicle])
                * problem.model.cuts[a.end - 1].forward_bytes,
                backward_s=float(per_byte[b.vehicle, a.vehicle])
                * problem.model.cuts[a.end - 1].backward_bytes,
                delay_s=float(delay_s[a.vehicle, b.vehicle]),
            )
            for a, b in itertools.pairwise(stages)
        ),
    )
    found = simulated_step_s(
        times, problem.micro_batches, shared_channel=problem.cluster.shared_channel
    )
    assert found == pytest.approx(swift_step_s(problem, pipeline), rel=1e-9)


def test_heads_of_the_owner_take_its_time_and_one_more_in_flight_hides_their_way():
    hop = Hop(forward_s=0.1, backward_s=0.1, delay_s=0.2)
    times = StepTimes(passes_s=((1.0, 2.0), (1.0, 2.0)), heads_s=0.5, hops=(hop, hop))
    busiest_s = bottleneck_s(times, shared_channel=True)
    assert busiest_s == pytest.approx(3.5)  # the owner's computer: its stage and the heads
    step_s = simulated_step_s(times, 32, shared_channel=True)
    assert 32 * busiest_s < step_s < 1.08 * 32 * busiest_s
