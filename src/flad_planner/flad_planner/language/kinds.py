# SPDX-License-Identifier: Apache-2.0
"""The kinds of instruction and what each takes; their wording stands in ``bank.yaml``.

Numbers and meanings are those of LangAuto (LMDrive's benchmark), so that recordings and results
can be compared kind by kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import MappingProxyType

MAX_METRES = 500


class Kind(IntEnum):
    """What the vehicle is told, with LangAuto's numbers."""

    TURN_LEFT = 0
    TURN_RIGHT = 1
    TURN_LEFT_IN = 2
    TURN_RIGHT_IN = 3
    CROSSING_LEFT = 4
    CROSSING_RIGHT = 5
    CROSSING_STRAIGHT = 6
    CROSSING_LEFT_IN = 7
    CROSSING_RIGHT_IN = 8
    CROSSING_STRAIGHT_IN = 9
    LIGHT_LEFT = 10
    LIGHT_RIGHT = 11
    LIGHT_STRAIGHT = 12
    LIGHT_LEFT_IN = 13
    LIGHT_RIGHT_IN = 14
    LIGHT_STRAIGHT_IN = 15
    T_JUNCTION_LEFT = 16
    T_JUNCTION_RIGHT = 17
    T_JUNCTION_STRAIGHT = 18
    T_JUNCTION_LEFT_IN = 19
    T_JUNCTION_RIGHT_IN = 20
    T_JUNCTION_STRAIGHT_IN = 21
    ROUNDABOUT_EXIT_1 = 22
    ROUNDABOUT_EXIT_2 = 23
    ROUNDABOUT_EXIT_3 = 24
    LEFT_THEN_LEFT = 25
    LEFT_THEN_RIGHT = 26
    LEFT_THEN_STRAIGHT = 27
    RIGHT_THEN_LEFT = 28
    RIGHT_THEN_RIGHT = 29
    RIGHT_THEN_STRAIGHT = 30
    STRAIGHT_THEN_LEFT = 31
    STRAIGHT_THEN_RIGHT = 32
    STRAIGHT_THEN_STRAIGHT = 33
    CHANGE_LEFT = 34
    CHANGE_RIGHT = 35
    CHANGE_LEFT_IN = 36
    CHANGE_RIGHT_IN = 37
    FOLLOW_ROAD = 38
    FOLLOW_HIGHWAY = 39
    FOLLOW_ROAD_FOR = 40
    FOLLOW_HIGHWAY_FOR = 41
    KEEP_STRAIGHT = 42
    UNTIL_JUNCTION = 43
    KEEP_STRAIGHT_FOR = 44
    UNTIL_JUNCTION_IN = 45
    ENTER_HIGHWAY = 46
    EXIT_HIGHWAY = 47
    ENTER_HIGHWAY_IN = 48
    EXIT_HIGHWAY_IN = 49
    NOTICE_PEDESTRIAN = 50
    NOTICE_CYCLIST = 51
    NOTICE_SUDDEN_STOP = 52
    NOTICE_RUNNER_LEFT = 53
    NOTICE_RUNNER_AHEAD = 54
    NOTICE_BUMPY_ROAD = 55
    NOTICE_TUNNEL = 56
    NOTICE_LIGHT_RED = 57
    NOTICE_LIGHT_GREEN = 58
    NOTICE_LIGHT_YELLOW = 59
    START = 60
    SLOW_DOWN = 61
    STOP = 62
    DRIVE_FREELY = 63
    GO_TO_POINT = 64


class Family(Enum):
    """What a kind is about; rules of the navigator and the miner go by family."""

    TURN = "turn"
    TURN_PAIR = "two turns"
    LANE_CHANGE = "lane change"
    FOLLOW = "follow"
    HIGHWAY = "highway ramp"
    NOTICE = "notice"
    SPEED = "speed"
    FREE = "free"
    POINT = "point"


SIDES = ("left", "right")


@dataclass(frozen=True, kw_only=True, slots=True)
class KindInfo:
    """What one kind takes and how it ends."""

    family: Family
    meaning: str
    arguments: tuple[str, ...] = ()
    has_end: bool = True
    """Whether its own words say when it is done: "follow the road" has no end of its own."""


Value = int | str


class InstructionError(ValueError):
    """An instruction that does not fit its kind; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One kind with its arguments, complete: what the navigator decides and a clip is labelled.

    Metres are whole numbers in 1..500 (``side_m`` in 0..500); ``side`` is left or right.

    Raises:
        InstructionError: on a kind that does not exist, or arguments that are missing, left over
            or out of range.
    """

    kind: Kind
    arguments: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = checked_kind(self.kind)
        expected = set(KINDS[kind].arguments)
        given = set(self.arguments)
        if missing := sorted(expected - given):
            raise InstructionError(f"{kind.name} needs {', '.join(missing)}, got {_listed(given)}")
        if surplus := sorted(given - expected):
            raise InstructionError(
                f"{kind.name} takes {_listed(expected)}, but was also given {', '.join(surplus)}"
            )
        for name, value in self.arguments.items():
            _check_value(kind, name, value)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))

    def __hash__(self) -> int:
        return hash((self.kind, tuple(sorted(self.arguments.items()))))

    def __reduce__(self) -> tuple[type[Instruction], tuple[Kind, dict[str, Value]]]:
        return (Instruction, (self.kind, dict(self.arguments)))  # a mapping proxy has no pickle


def checked_kind(kind: int) -> Kind:
    """The kind of this number.

    Raises:
        InstructionError: if there is none.
    """
    try:
        return Kind(kind)
    except ValueError:
        raise InstructionError(
            f"kind {kind!r} does not exist; allowed are 0..{len(Kind) - 1}, see docs/language.md"
        ) from None


def _check_value(kind: Kind, name: str, value: Value) -> None:
    if name == "side":
        if value not in SIDES:
            raise InstructionError(f"side of {kind.name} is {value!r}, allowed are left, right")
        return
    least = 0 if name == "side_m" else 1
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_METRES:
        raise InstructionError(
            f"{name} of {kind.name} is {value!r}, expected whole metres in {least}..{MAX_METRES}"
        )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "no arguments"


def _turn(meaning: str, distance: bool = False) -> KindInfo:
    return _kind(Family.TURN, meaning, distance)


def _kind(family: Family, meaning: str, distance: bool = False, has_end: bool = True) -> KindInfo:
    arguments = ("distance_m",) if distance else ()
    return KindInfo(family=family, meaning=meaning, arguments=arguments, has_end=has_end)


def _table() -> dict[Kind, KindInfo]:
    table: dict[Kind, KindInfo] = {}
    places = (
        ("TURN", "at the next opportunity"),
        ("CROSSING", "at a crossing of four arms"),
        ("LIGHT", "at traffic lights"),
        ("T_JUNCTION", "at a junction of three arms"),
    )
    ways = (("LEFT", "turn left"), ("RIGHT", "turn right"), ("STRAIGHT", "go straight"))
    for place, where in places:
        for way, what in ways:
            if f"{place}_{way}" not in Kind.__members__:
                continue
            table[Kind[f"{place}_{way}"]] = _turn(f"{what} {where}")
            table[Kind[f"{place}_{way}_IN"]] = _turn(f"{what} {where}, x metres ahead", True)
    for number in (1, 2, 3):
        table[Kind[f"ROUNDABOUT_EXIT_{number}"]] = _turn(f"leave the roundabout at exit {number}")
    for first, one in ways:
        for second, two in ways:
            meaning = f"{one}, then {two} soon after"
            table[Kind[f"{first}_THEN_{second}"]] = _kind(Family.TURN_PAIR, meaning)
    for side in ("left", "right"):
        name, meaning = f"CHANGE_{side.upper()}", f"change to the lane on the {side}"
        table[Kind[name]] = _kind(Family.LANE_CHANGE, meaning)
        table[Kind[f"{name}_IN"]] = _kind(Family.LANE_CHANGE, f"{meaning}, in x metres", True)
    table |= {
        Kind.FOLLOW_ROAD: _kind(Family.FOLLOW, "follow the road", has_end=False),
        Kind.FOLLOW_HIGHWAY: _kind(Family.FOLLOW, "stay on the highway", has_end=False),
        Kind.FOLLOW_ROAD_FOR: _kind(Family.FOLLOW, "follow the road for x metres", True),
        Kind.FOLLOW_HIGHWAY_FOR: _kind(Family.FOLLOW, "stay on the highway for x metres", True),
        Kind.KEEP_STRAIGHT: _kind(Family.FOLLOW, "keep straight", has_end=False),
        Kind.UNTIL_JUNCTION: _kind(Family.FOLLOW, "drive on until the next junction"),
        Kind.KEEP_STRAIGHT_FOR: _kind(Family.FOLLOW, "keep straight for x metres", True),
        Kind.UNTIL_JUNCTION_IN: _kind(
            Family.FOLLOW, "drive on until the next junction, x metres ahead", True
        ),
    }
    for name, meaning in (
        ("ENTER_HIGHWAY", "enter the highway, on the left"),
        ("EXIT_HIGHWAY", "leave the highway, on the right"),
    ):
        table[Kind[name]] = _kind(Family.HIGHWAY, meaning)
        table[Kind[f"{name}_IN"]] = _kind(Family.HIGHWAY, f"{meaning}, in x metres", True)
    notices = {
        Kind.NOTICE_PEDESTRIAN: "a pedestrian is in the way or about to be",
        Kind.NOTICE_CYCLIST: "a cyclist is in the way or about to be",
        Kind.NOTICE_SUDDEN_STOP: "the vehicle ahead brakes hard, or cuts in and slows",
        Kind.NOTICE_RUNNER_LEFT: "somebody from the left crosses against the lights",
        Kind.NOTICE_RUNNER_AHEAD: "somebody ahead crosses against the lights",
        Kind.NOTICE_BUMPY_ROAD: "the road ahead is bumpy",
        Kind.NOTICE_TUNNEL: "a tunnel begins",
        Kind.NOTICE_LIGHT_RED: "the lights ahead are red",
        Kind.NOTICE_LIGHT_GREEN: "the lights ahead are green",
        Kind.NOTICE_LIGHT_YELLOW: "the lights ahead are yellow",
    }
    for kind, meaning in notices.items():
        table[kind] = _kind(Family.NOTICE, meaning, has_end=False)
    table[Kind.START] = _kind(Family.SPEED, "start driving")
    table[Kind.SLOW_DOWN] = _kind(Family.SPEED, "slow down")
    table[Kind.STOP] = _kind(Family.SPEED, "come to a stop")
    table[Kind.DRIVE_FREELY] = _kind(Family.FREE, "drive on, any way", has_end=False)
    table[Kind.GO_TO_POINT] = KindInfo(
        family=Family.POINT,
        meaning="reach the point x metres ahead and y metres to a side",
        arguments=("ahead_m", "side_m", "side"),
    )
    return {kind: table[kind] for kind in Kind}


KINDS: Mapping[Kind, KindInfo] = MappingProxyType(_table())
"""Every kind, in the order of the numbers."""
