# SPDX-License-Identifier: Apache-2.0
"""Metres to latitude and longitude, exactly as the `carla` 0.9.16 client converts them.

The client reads only ``+lat_0`` and ``+lon_0`` of the reference and uses a spherical transverse
Mercator projection of scale 0.9996 whatever the string says (found by probing
``carla.Map.transform_to_geolocation``; the test compares both).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from flad_sim.types import Vec3

DEFAULT_LAT_DEG = 42.0  # the client's, for maps without a reference
DEFAULT_LON_DEG = 2.0
_RADIUS_M = 6378137.0 * 0.9996


@dataclass(frozen=True, slots=True)
class GeoReference:
    """Where the map's origin lies on Earth, degrees."""

    lat0: float = DEFAULT_LAT_DEG
    lon0: float = DEFAULT_LON_DEG

    def to_geo(self, x: float, y: float, z: float) -> Vec3:
        """``(latitude, longitude, altitude)`` of a point in CARLA's frame."""
        east = x / _RADIUS_M
        north = y / _RADIUS_M + math.radians(self.lat0)
        lat = math.asin(math.sin(north) / math.cosh(east))
        lon = math.atan2(math.sinh(east), math.cos(north))
        return (math.degrees(lat), self.lon0 + math.degrees(lon), z)

    def to_location(self, latitude: float, longitude: float, altitude: float) -> Vec3:
        """The inverse of `to_geo`."""
        lat = math.radians(latitude)
        lon = math.radians(longitude - self.lon0)
        east = math.atanh(math.cos(lat) * math.sin(lon))
        north = math.atan2(math.tan(lat), math.cos(lon)) - math.radians(self.lat0)
        return (east * _RADIUS_M, north * _RADIUS_M, altitude)


def parse_geo_reference(text: str) -> GeoReference:
    """Read ``+lat_0=`` and ``+lon_0=``; both missing parts fall back as the client's do."""
    found = dict(re.findall(r"\+(lat_0|lon_0)=([-+0-9.eE]+)", text))
    try:
        return GeoReference(float(found["lat_0"]), float(found["lon_0"]))
    except (KeyError, ValueError):
        return GeoReference()
