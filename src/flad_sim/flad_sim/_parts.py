# SPDX-License-Identifier: Apache-2.0
"""TEMPORARY: the neighbours' modules where they exist, the simplest stand-ins where not yet."""
# mypy: ignore-errors

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from flad_sim.protocol import payloads
from flad_sim.types import Pose, Transform, VehicleControl

try:
    from flad_sim.catalogue import PROPS, VEHICLES, WALKERS, VehicleSpec
except ImportError:

    @dataclass(frozen=True)
    class VehicleSpec:
        base_type: str = "car"
        colors: tuple = ((180, 40, 40), (40, 40, 180))
        generation: int = 2
        number_of_wheels: int = 4
        special_type: str = ""
        center: tuple = (0.0, 0.0, 0.76)
        extent: tuple = (2.45, 0.92, 0.76)

    VEHICLES = {
        "vehicle.lincoln.mkz_2020": VehicleSpec(),
        "vehicle.tesla.model3": VehicleSpec(),
    }
    WALKERS = {"walker.pedestrian.0001": VehicleSpec(extent=(0.19, 0.19, 0.93))}
    PROPS = {"static.prop.trafficcone01": VehicleSpec(extent=(0.3, 0.3, 0.4))}

try:
    from flad_sim.physics import VehicleBody, WalkerBody, find_contacts
except ImportError:

    class VehicleBody:
        def __init__(self, spec, transform):
            self.spec, self.pose, self.control, self.v = (
                spec,
                Pose(transform),
                VehicleControl(),
                0.0,
            )

        def step(self, dt_s, surface):
            c, t = self.control, self.pose.transform
            self.v = max(0.0, self.v + (4.0 * c.throttle - 8.0 * c.brake - 0.1 * self.v) * dt_s)
            v = -self.v if c.reverse else self.v
            yaw_rate = v * math.tan(math.radians(70 * c.steer)) / 2.85
            yaw = t.yaw + math.degrees(yaw_rate) * dt_s
            d = Transform(yaw=yaw).forward()
            z = surface(t.x, t.y)
            t = Transform(
                t.x + v * d[0] * dt_s, t.y + v * d[1] * dt_s, t.z if z is None else z, 0, yaw, 0
            )
            self.pose = Pose(
                t, (v * d[0], v * d[1], 0.0), (0, 0, math.degrees(yaw_rate)), (0, 0, 0)
            )

        def set_transform(self, t):
            self.pose = replace(self.pose, transform=t)

        def __getattr__(self, name):
            return lambda *a: None

    class WalkerBody(VehicleBody):
        def __init__(self, spec, transform):
            self.spec, self.pose = spec, Pose(transform)
            self.control = SimpleNamespace(direction=(1, 0, 0), speed=0.0, jump=False)

        def step(self, dt_s, surface):
            c, t = self.control, self.pose.transform
            v = tuple(c.speed * d for d in c.direction)
            t = t.moved(x=t.x + v[0] * dt_s, y=t.y + v[1] * dt_s)
            self.pose = Pose(t, v)

    def find_contacts(*args):
        return []


try:
    from flad_sim.towns import TownError, available_towns, load_town
except ImportError:
    TownError = ValueError

    def available_towns():
        return ["Town01"]

    def load_town(name, net_path=None):
        folder = Path(__file__).parents[4] / "shared/towns"
        text = next(folder.rglob("Town01.xodr")).read_text()
        import carla

        m = carla.Map("Town01", text)
        sp = [
            Transform(t.location.x, t.location.y, 0.3, 0.0, t.rotation.yaw, 0.0)
            for t in (w.transform for w in m.generate_waypoints(20.0) if not w.is_junction)
        ]
        net = SimpleNamespace(
            name="Town01",
            geo_reference=(0.0, 0.0),
            signals=(),
            spawn_points=lambda: sp,
            height=lambda x, y: 0.0,
            speed_limit_kmh=lambda x, y: 30.0,
        )
        return SimpleNamespace(name="Town01", xodr_text=text, net_file=None, network=net)


try:
    from flad_sim.traffic import Traffic
except ImportError:

    class Traffic:
        def __init__(self, town, *, seed, num_vehicles, num_walkers):
            pass

        def step(self, dt_s, client_vehicles, client_walkers=()):
            pass

        def actors(self):
            return []

        def lights(self):
            return []

        def __getattr__(self, name):
            return lambda *a, **k: []


try:
    from flad_sim.scenery import grow_scenery
except ImportError:

    def grow_scenery(network, seed):
        return SimpleNamespace(boxes=[])


try:
    from flad_sim.sensors import Renderer
except ImportError:

    class Renderer:
        def __init__(self, scenery):
            pass

        def render(self, world, requests):
            out = {}
            for r in requests:
                a = r.attributes
                if "camera" in r.blueprint:
                    image = np.zeros((int(a["image_size_y"]), int(a["image_size_x"]), 4), np.uint8)
                    image[..., 3] = 255
                    out[r.sensor_id] = payloads.pack_image(image, float(a["fov"]))
                elif r.blueprint == "sensor.lidar.ray_cast":
                    n = int(a["channels"])
                    out[r.sensor_id] = payloads.pack_lidar(
                        0.0, [1] * n, np.ones((n, 4), np.float32)
                    )
            return out

        def cast_ray(self, world, start, end):
            return []

        def close(self):
            pass
