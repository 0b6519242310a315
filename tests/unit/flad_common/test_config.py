# SPDX-License-Identifier: Apache-2.0
"""A config file, a mapping and a node's parameters must mean the same, or be refused in words."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from flad_common.config import from_mapping, from_yaml, knob, knobs, section, to_mapping, to_yaml


@dataclass(frozen=True, kw_only=True)
class Pid:
    kp: float = knob(0.4, unit="s/m", doc="Pedal per m/s of error.")
    ki: float = knob(0.05, unit="1/m", doc="Pedal per metre of accumulated error.")

    def __post_init__(self) -> None:
        if self.kp <= 0.0:
            raise ValueError(f"kp must be positive, got {self.kp}")


@dataclass(frozen=True, kw_only=True)
class Camera:
    name: str = knob(unit="1", doc="Sensor id.")
    width_px: int = knob(400, unit="px", doc="Columns.")


@dataclass(frozen=True, kw_only=True)
class Car:
    """One of everything that a config may hold."""

    role: str = knob(unit="1", doc="Role name.")
    speed: Pid = section(Pid, doc="Longitudinal controller.")
    gears: tuple[float, ...] = knob((3.0, 2.0), unit="1", doc="Ratios.")
    corner_m: tuple[float, float, float] = knob((0.0, 0.0, 0.0), unit="m", doc="A corner.")
    cameras: tuple[Camera, ...] = knob((), unit="1", doc="Cameras.")
    mode: Literal["lockstep", "realtime"] = knob("lockstep", unit="1", doc="Who waits.")
    limit_mps: float | None = knob(None, unit="m/s", doc="Top speed, if there is one.")
    is_heavy: bool = knob(False, unit="1", doc="Truck.")


FULL = {
    "role": "vehicle_0",
    "speed": {"kp": 1.5, "ki": 0.25},
    "gears": [4.0, 2.5, 1.0],
    "corner_m": [1.0, -2.0, 0.5],
    "cameras": [{"name": "front", "width_px": 800}, {"name": "rear"}],
    "mode": "realtime",
    "limit_mps": 12.5,
    "is_heavy": True,
}


def test_every_kind_of_value_arrives():
    car = from_mapping(Car, FULL)

    assert car.speed == Pid(kp=1.5, ki=0.25)
    assert car.gears == (4.0, 2.5, 1.0)
    assert car.cameras == (Camera(name="front", width_px=800), Camera(name="rear", width_px=400))
    assert (car.mode, car.limit_mps, car.is_heavy) == ("realtime", 12.5, True)


def test_written_config_reads_back_equal(tmp_path: Path):
    car = from_mapping(Car, FULL)
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(car))

    assert from_yaml(Car, file) == car
    assert from_mapping(Car, to_mapping(car)) == car


def test_written_config_carries_units_and_sentences():
    text = to_yaml(from_mapping(Car, FULL))

    assert "limit_mps: 12.5  # Top speed, if there is one. [m/s]" in text.splitlines()


def test_a_config_cannot_be_changed_even_in_its_lists():
    car = from_mapping(Car, FULL)

    with pytest.raises(FrozenInstanceError):
        car.role = "vehicle_1"
    with pytest.raises(AttributeError):
        car.gears.append(1.0)


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"roel": "x"}, r"Car has no \['roel'\]; its fields are"),
        ({"speed": {"kpp": 1.0}}, r"Car\.speed has no \['kpp'\]"),
        ({"speed": 3.0}, r"Car\.speed is a mapping"),
        ({"speed": {"kp": 1}}, r"Car\.speed\.kp is a float, got 1"),
        ({"speed": {"kp": True}}, r"Car\.speed\.kp is a float, got True"),
        ({"speed": {"kp": -1.0}}, r"kp must be positive, got -1\.0"),
        ({"gears": 3.0}, r"Car\.gears is a list, got 3\.0"),
        ({"gears": "321"}, r"Car\.gears is a list"),
        ({"gears": [1.0, "two"]}, r"Car\.gears\[1\] is a float, got 'two'"),
        ({"corner_m": [1.0, 2.0]}, r"Car\.corner_m has 3 values, got 2"),
        ({"cameras": [{"width_px": 3}]}, r"Car\.cameras\[0\] needs \['name'\]"),
        ({"cameras": [{"name": "a", "fov": 3}]}, r"Car\.cameras\[0\] has no \['fov'\]"),
        ({"mode": "fast"}, r"Car\.mode is one of \['lockstep', 'realtime'\], got 'fast'"),
        ({"limit_mps": "fast"}, r"Car\.limit_mps is a float, got 'fast'"),
        ({"is_heavy": 1}, r"Car\.is_heavy is a bool, got 1"),
        ({"role": None}, r"Car\.role is a str, got None"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(change, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        from_mapping(Car, FULL | change)


def test_a_missing_value_is_named():
    with pytest.raises(ValueError, match=r"Car needs \['role'\], which have no default"):
        from_mapping(Car, {"gears": [1.0]})


def test_a_ros_parameter_file_and_a_plain_one_mean_the_same(tmp_path: Path):
    ros, plain = tmp_path / "ros.yaml", tmp_path / "plain.yaml"
    ros.write_text(yaml.safe_dump({"/**/planner": {"ros__parameters": FULL}, "/**/other": {}}))
    plain.write_text(yaml.safe_dump(FULL))

    assert from_yaml(Car, ros, "planner") == from_yaml(Car, plain)


@pytest.mark.parametrize(
    "text, node, complaint",
    [
        ("a: [1", None, "is not YAML"),
        ("- 1\n- 2", None, "must hold a mapping"),
        ("", None, "must hold a mapping"),
        ("/**/other:\n  ros__parameters: {}", "planner", "no block for node 'planner'"),
        ("role: 3", None, "broken.yaml: Car.role is a str"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text, node, complaint):
    file = tmp_path / "broken.yaml"
    file.write_text(text)

    with pytest.raises((TypeError, ValueError), match=complaint) as caught:
        from_yaml(Car, file, node)
    assert str(file) in str(caught.value)


def test_knobs_are_listed_with_dotted_names():
    found = {k.name: k for k in knobs(Car)}

    assert found["speed.kp"].text == "Pedal per m/s of error. [s/m]"
    assert found["speed.kp"].default == 0.4
    assert "speed" not in found
