# SPDX-License-Identifier: Apache-2.0
"""The blueprint library: ids, attributes and defaults as CARLA 0.9.16 names them.

Shapes and masses of vehicles, walkers and props come from ``flad_sim.catalogue``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flad_sim.catalogue import PROPS, VEHICLES, WALKERS, ActorSpec, Attribute
from flad_sim.catalogue.specs import AttributeKind
from flad_sim.errors import RequestRefused
from flad_sim.protocol.payloads import SENSOR_TYPES
from flad_sim.protocol.structs import ActorDescription, encode_definition
from flad_sim.types import BoundingBox, Tag

LANE_INVASION = "sensor.other.lane_invasion"
CATALOGUE: dict[str, ActorSpec] = {**VEHICLES, **WALKERS, **PROPS}
SPECTATOR = "spectator"
WALKER_CONTROLLER = "controller.ai.walker"


_NO_BOX = BoundingBox()


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One entry of the library."""

    uid: int
    blueprint_id: str
    attributes: tuple[Attribute, ...]
    box: BoundingBox = _NO_BOX
    semantic_tag: Tag = Tag.UNLABELED
    has_body: bool = False
    mass_kg: float = 0.0

    @property
    def tags(self) -> str:
        """CARLA's comma separated tags: the parts of the id."""
        return self.blueprint_id.replace(".", ",")

    def kinds(self) -> dict[str, str]:
        """Types of the attributes by name."""
        return {a.name: a.kind for a in self.attributes}

    def defaults(self) -> dict[str, str]:
        """Values of the attributes by name."""
        return {a.name: a.value for a in self.attributes}


class BlueprintLibrary:
    """Every blueprint of this world by id. Does not change."""

    def __init__(self) -> None:
        self._by_id: dict[str, Blueprint] = {}
        for uid, (blueprint_id, attributes) in enumerate(_all_blueprints(), start=1):
            spec = CATALOGUE.get(blueprint_id)
            self._by_id[blueprint_id] = (
                Blueprint(uid, blueprint_id, attributes)
                if spec is None
                else Blueprint(
                    uid, blueprint_id, attributes, spec.box, spec.tag, True, spec.mass_kg
                )
            )

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, blueprint_id: str) -> Blueprint:
        """The blueprint of that id.

        Raises:
            RequestRefused: naming the nearest ids when there is none.
        """
        try:
            return self._by_id[blueprint_id]
        except KeyError:
            near = difflib.get_close_matches(blueprint_id, self._by_id, n=3, cutoff=0.4)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise RequestRefused(
                f"no blueprint {blueprint_id!r:.80} among the {len(self._by_id)} of this world"
                f"{hint} (world.get_blueprint_library() lists them)"
            ) from None

    def definitions(self) -> list[Any]:
        """The library as the client wants it."""
        return [
            encode_definition(b.uid, b.blueprint_id, b.tags, b.attributes)
            for b in self._by_id.values()
            if b.blueprint_id != SPECTATOR and not b.blueprint_id.startswith("traffic.")
        ]

    def attributes(self, description: ActorDescription) -> dict[str, str]:
        """All attributes of a described actor, in the library's order.

        Raises:
            RequestRefused: on a value that does not parse as its type.
        """
        blueprint = self[description.blueprint]
        values = blueprint.defaults()
        for attribute in blueprint.attributes:
            text = description.attributes.get(attribute.name)
            if text is not None:
                _check(blueprint.blueprint_id, attribute, text)
                values[attribute.name] = text
        return values


def _check(blueprint_id: str, attribute: Attribute, text: str) -> None:
    try:
        match attribute.kind:
            case "int":
                int(text)
            case "float":
                if not abs(float(text)) < 1.0e12:
                    raise ValueError
            case "color":
                if len([int(part) for part in text.split(",")]) != 3:
                    raise ValueError
    except ValueError:
        raise RequestRefused(
            f"{blueprint_id}: attribute {attribute.name} is a {attribute.kind}, got {text!r:.60}"
        ) from None


# --- the library --------------------------------------------------------------------------------


def _all_blueprints() -> Iterator[tuple[str, tuple[Attribute, ...]]]:
    for blueprint_id, spec in CATALOGUE.items():
        yield blueprint_id, (*spec.attributes(), *_attributes(ros_name=blueprint_id))
    for blueprint_id, own in _SENSORS.items():
        yield blueprint_id, _sensor_attributes(blueprint_id, own)
    yield WALKER_CONTROLLER, _attributes(role_name="default", ros_name=WALKER_CONTROLLER)
    yield SPECTATOR, ()
    for name in ("traffic_light", "stop", "yield", "unknown"):
        yield f"traffic.{name}", ()
    for limit in range(5, 135, 5):
        yield f"traffic.speed_limit.{limit}", ()


def _sensor_attributes(
    blueprint_id: str, own: Mapping[str, str | int | float | bool]
) -> tuple[Attribute, ...]:
    front: dict[str, Any] = {"role_name": "front", "ros_name": blueprint_id}
    if blueprint_id not in ("sensor.other.collision", LANE_INVASION):
        front["sensor_tick"] = 0.0
    return _attributes(**front, **own)


def _attributes(**values: str | int | float | bool) -> tuple[Attribute, ...]:
    """Attributes whose types are those of their defaults."""
    return tuple(_attribute(name, value) for name, value in values.items())


def _attribute(name: str, value: str | int | float | bool) -> Attribute:
    if isinstance(value, bool):
        return Attribute(name, "bool", "true" if value else "false")
    kind: AttributeKind = (
        "int" if isinstance(value, int) else "float" if isinstance(value, float) else "string"
    )
    return Attribute(name, kind, str(value))


_LENS: dict[str, str | int | float | bool] = {
    "image_size_x": 800,
    "image_size_y": 600,
    "fov": 90.0,
    "lens_circle_falloff": 5.0,
    "lens_circle_multiplier": 0.0,
    "lens_k": -1.0,
    "lens_kcube": 0.0,
    "lens_x_size": 0.08,
    "lens_y_size": 0.08,
}

_FILM: dict[str, str | int | float | bool] = {
    "enable_postprocess_effects": True,
    "gamma": 2.2,
    "bloom_intensity": 0.675,
    "lens_flare_intensity": 0.1,
    "shutter_speed": 200.0,
    "iso": 100.0,
    "fstop": 1.4,
    "min_fstop": 1.2,
    "blade_count": 5,
    "focal_distance": 1000.0,
    "blur_amount": 1.0,
    "blur_radius": 0.0,
    "exposure_mode": "histogram",
    "exposure_compensation": 0.0,
    "exposure_min_bright": 10.0,
    "exposure_max_bright": 12.0,
    "exposure_speed_up": 3.0,
    "exposure_speed_down": 1.0,
    "calibration_constant": 16.0,
    "motion_blur_intensity": 0.45,
    "motion_blur_max_distortion": 0.35,
    "motion_blur_min_object_screen_size": 0.1,
    "slope": 0.88,
    "toe": 0.55,
    "shoulder": 0.26,
    "black_clip": 0.0,
    "white_clip": 0.04,
    "temp": 6500.0,
    "tint": 0.0,
    "chromatic_aberration_intensity": 0.0,
    "chromatic_aberration_offset": 0.0,
}

_SWEEP: dict[str, str | int | float | bool] = {
    "channels": 32,
    "range": 10.0,
    "points_per_second": 56000,
    "rotation_frequency": 10.0,
    "upper_fov": 10.0,
    "lower_fov": -30.0,
    "horizontal_fov": 360.0,
}

_SENSORS: dict[str, dict[str, str | int | float | bool]] = {
    "sensor.camera.rgb": {**_LENS, **_FILM},
    "sensor.camera.depth": _LENS,
    "sensor.camera.semantic_segmentation": _LENS,
    "sensor.camera.instance_segmentation": _LENS,
    "sensor.lidar.ray_cast": {
        **_SWEEP,
        "atmosphere_attenuation_rate": 0.004,
        "dropoff_general_rate": 0.45,
        "dropoff_intensity_limit": 0.8,
        "dropoff_zero_intensity": 0.4,
        "noise_stddev": 0.0,
        "noise_seed": 0,
    },
    "sensor.lidar.ray_cast_semantic": _SWEEP,
    "sensor.other.gnss": {
        "noise_alt_bias": 0.0,
        "noise_alt_stddev": 0.0,
        "noise_lat_bias": 0.0,
        "noise_lat_stddev": 0.0,
        "noise_lon_bias": 0.0,
        "noise_lon_stddev": 0.0,
        "noise_seed": 0,
    },
    "sensor.other.imu": {
        "noise_accel_stddev_x": 0.0,
        "noise_accel_stddev_y": 0.0,
        "noise_accel_stddev_z": 0.0,
        "noise_gyro_bias_x": 0.0,
        "noise_gyro_bias_y": 0.0,
        "noise_gyro_bias_z": 0.0,
        "noise_gyro_stddev_x": 0.0,
        "noise_gyro_stddev_y": 0.0,
        "noise_gyro_stddev_z": 0.0,
        "noise_seed": 0,
    },
    "sensor.other.radar": {
        "horizontal_fov": 30.0,
        "vertical_fov": 30.0,
        "points_per_second": 1500,
        "range": 100.0,
        "noise_seed": 0,
    },
    "sensor.other.collision": {},
    "sensor.other.obstacle": {
        "distance": 5.0,
        "hit_radius": 0.5,
        "only_dynamics": False,
        "debug_linetrace": False,
    },
    LANE_INVASION: {},
}

assert set(_SENSORS) - {LANE_INVASION} <= set(SENSOR_TYPES)
