# SPDX-License-Identifier: Apache-2.0
"""What fits is let in, what does not is refused with its sum; what can go, goes first."""

from __future__ import annotations

import pytest

from flad_common.error_codes import STAGE_TOO_LARGE, FladError
from flad_pipeline.memory.manager import MemoryConfig, MemoryManager
from flad_pipeline.memory.readings import Reading, process_bytes, read_memory

MIB = 1 << 20


class Computer:
    """Memory in MiB: what the process holds, of which some can go, and what the rest has."""

    def __init__(self, *, process: int, available: int, stale: int = 0) -> None:
        self.process, self.available, self.stale = process, available, stale

    def read(self) -> Reading:
        return Reading(process_bytes=self.process * MIB, available_bytes=self.available * MIB)

    def drop_stale(self) -> None:
        self.process -= self.stale
        self.available += self.stale
        self.stale = 0


def manager(computer: Computer, **config: float) -> MemoryManager:
    values = {"reserve_bytes": 100.0 * MIB, "process_share": 0.25, **config}
    made = MemoryManager(MemoryConfig(**values), computer.read)
    made.add_reclaimer("an old snapshot", computer.drop_stale)
    return made


def test_a_stage_that_fits_is_let_in_to_the_last_byte_and_one_more_is_not():
    computer = Computer(process=300, available=600)
    manager(computer).admit("nano", 400.0 * MIB)  # 400 and a quarter are 500, and 500 are free
    with pytest.raises(FladError) as refused:
        manager(computer).admit("nano", 400.0 * MIB + 1.0)
    assert refused.value.code is STAGE_TOO_LARGE


def test_a_refusal_has_the_arithmetic():
    computer = Computer(process=300, available=600)
    with pytest.raises(FladError, match=r"nano: the stage needs 800\.0 MiB.* 200\.0 MiB are") as no:
        manager(computer, limit_bytes=700.0 * MIB).admit(
            "nano", 800.0 * MIB, held_bytes=200.0 * MIB
        )
    text = str(no.value)
    assert "750.0 MiB more, and there are 400.0 MiB" in text
    assert "350.0 MiB too little" in text
    assert "the process may hold 700.0 MiB and holds 300.0 MiB" in text


def test_what_can_go_goes_before_a_stage_is_refused_and_only_then():
    computer = Computer(process=500, available=400, stale=200)
    memory = manager(computer)
    memory.admit("nano", 200.0 * MIB)
    assert computer.stale == 200
    memory.admit("nano", 400.0 * MIB)
    assert computer.stale == 0
    assert memory.state().num_reclaims == 1


def test_a_look_reclaims_when_memory_runs_short():
    computer = Computer(process=500, available=700, stale=200)
    memory = manager(computer)
    assert not memory.look()
    computer.available = 150  # another process took it: 500 of 550 are in use
    assert memory.look()
    assert computer.process == 300
    assert not memory.look()


def test_linux_says_what_this_process_takes():
    held = bytearray(32 * MIB)
    held[::4096] = b"x" * len(held[::4096])  # touched, or the pages are not there
    with_it = process_bytes()
    assert process_bytes(peak=True) >= with_it > 32 * MIB
    reading = read_memory()
    assert 0 < reading.available_bytes < 1 << 50
