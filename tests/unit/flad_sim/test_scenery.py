# SPDX-License-Identifier: Apache-2.0
"""The town stands beside the road, not on it; the road is whole, painted, and lit by its lights."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from synthetic_town import JUNCTION_M, LANE_M, MIDDLE_X, crossroads, visible

from flad_sim import catalogue
from flad_sim.scenery import Scenery, grow_scenery
from flad_sim.scenery.actors import actor_mesh
from flad_sim.scenery.markings import mark_quads
from flad_sim.scenery.materials import SIGNAL_LAMP
from flad_sim.sensors import Renderer
from flad_sim.types import RoadMark, StaticBox, Tag, Transform


@pytest.fixture(scope="module")
def town() -> Scenery:
    return grow_scenery(crossroads(), seed=3)


@pytest.fixture(scope="module")
def renderer(town):
    made = Renderer(town)
    yield made
    made.close()


def _footprint(box: StaticBox) -> shapely.Polygon:
    ex, ey, _ = box.extent
    corners = np.array([[ex, ey, 0], [ex, -ey, 0], [-ex, -ey, 0], [-ex, ey, 0]])
    return shapely.Polygon(Transform(*box.center, yaw=box.yaw).to_world(corners)[:, :2])


def _surfaces(kinds: set[str]) -> shapely.Geometry:
    network = crossroads()
    quads = [
        shapely.Polygon([*s.left[:, :2], *s.right[::-1, :2]])
        for s in network.lanes
        if s.lane_type in kinds
    ]
    return shapely.union_all([*quads, shapely.Polygon(network.junction_areas[0][:, :2])])


def test_nothing_solid_stands_on_a_lane_and_no_house_on_a_pavement(town):
    road, paved = _surfaces({"driving"}), _surfaces({"driving", "sidewalk"})
    kinds = {box.type_id for box in town.boxes}

    assert {"static.building", "static.pole", "static.vegetation", "static.trafficlight"} <= kinds
    for box in town.boxes:
        forbidden = paved if box.type_id == "static.building" else road
        if box.type_id != "static.trafficlight":  # heads may hang over the kerb
            assert not _footprint(box).intersects(forbidden), box


def test_houses_do_not_stand_in_each_other(town):
    houses = [_footprint(b).buffer(-0.3) for b in town.boxes if b.type_id == "static.building"]
    tree = shapely.STRtree(houses)
    first, second = tree.query(houses, predicate="intersects")

    assert len(houses) > 10
    assert (first == second).all()


def test_a_seed_is_a_town(town):
    again, other = grow_scenery(crossroads(), seed=3), grow_scenery(crossroads(), seed=4)

    assert again.boxes == town.boxes
    np.testing.assert_array_equal(again.mesh.vertices, town.mesh.vertices)
    np.testing.assert_array_equal(again.paint.tiles, town.paint.tiles)
    assert other.boxes != town.boxes


def _ground_below(renderer, x, y):
    return renderer.cast_ray(visible(), (float(x), float(y), 3.5), (float(x), float(y), -2.0))


def test_the_junction_has_no_holes_and_seams(renderer):
    rng = np.random.default_rng(0)
    reach = JUNCTION_M + 4.0
    for x, y in rng.uniform(-reach, reach, size=(400, 2)):
        if min(abs(x), abs(y)) > LANE_M or max(abs(x), abs(y)) > reach:
            continue
        (_, _, z), tag = _ground_below(renderer, x + MIDDLE_X, y)[0]
        assert tag in (Tag.ROADS, Tag.ROAD_LINES), (x, y)
        assert z == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("lane_y", [-2.9, -1.7, 1.7, 2.9])
def test_a_lane_runs_into_the_junction_without_a_step(renderer, lane_y):
    for x in np.arange(-0.4, 0.4, 0.01) + MIDDLE_X - JUNCTION_M:
        (_, _, z), tag = _ground_below(renderer, x, lane_y)[0]
        assert tag in (Tag.ROADS, Tag.ROAD_LINES)
        assert z == pytest.approx(0.0, abs=1e-3)


def test_pavements_are_a_kerb_higher_than_the_road(renderer):
    hits = [_ground_below(renderer, x, LANE_M + 2.3)[0] for x in np.linspace(25.0, 85.0, 31)]
    on_pavement = [z for (_, _, z), tag in hits if tag == Tag.SIDEWALKS]

    assert len(on_pavement) > 25  # a bench or a tree may stand on the others
    assert on_pavement == pytest.approx([0.12] * len(on_pavement), abs=1e-3)


def test_lane_lines_are_where_the_map_has_them(renderer):
    def share_painted(y):  # of the arm at smaller x, whose right edge line is at negative y
        hits = [_ground_below(renderer, x, y)[0][1] for x in np.arange(20.0, 80.0, 0.25)]
        return np.mean([tag == Tag.ROAD_LINES for tag in hits])

    assert share_painted(0.2 - LANE_M) > 0.97  # solid
    assert share_painted(0.0) == pytest.approx(3.0 / 7.5, abs=0.08)  # broken
    assert share_painted(1.2) < 0.03


def test_a_double_line_has_both_its_halves():
    line = np.column_stack([np.linspace(0.0, 30.0, 16), np.zeros(16), np.zeros(16)])
    quads = np.array(mark_quads(RoadMark(line, "solid broken", "white", 0.12)))
    area = {
        side: sum(shapely.Polygon(q).area for q in quads if np.sign(q[:, 1].mean()) == side)
        for side in (-1, 1)
    }

    assert area[-1] == pytest.approx(30.0 * 0.12, rel=0.01)
    assert area[1] == pytest.approx(30.0 * 0.12 * 3.0 / 7.5, rel=0.15)
    assert mark_quads(RoadMark(line, "curb", "white", 0.15)) == []


def test_lamps_are_300_mm_wide(town):
    mesh = town.mesh
    for number in range(3 * len(town.signals)):
        of_lamp = (mesh.material == SIGNAL_LAMP) & (mesh.aux == number)
        points = mesh.vertices[mesh.triangles[of_lamp]].reshape(-1, 3)
        first = points[np.linalg.norm(points - points[0], axis=1) < 1.0]
        assert np.ptp(first[:, 2]) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("behind_m", [0.0, 5.0, 12.0, 25.0, 40.0])
@pytest.mark.parametrize("index", [0, 1])
def test_a_driver_before_the_stop_line_sees_a_head(town, renderer, behind_m, index):
    signal = crossroads().signals[index]
    eye = signal.stop_points[0].compose(Transform(x=-behind_m - 1.3, z=1.8))
    reached = []
    for x, y, z, *_, number in town.signal_lamps:
        ahead, right, up = eye.to_local(np.array([[x, y, z]]))[0]
        in_view = abs(right) < 0.9 * ahead and abs(up) < 0.7 * ahead  # of a 100 x 75 degree lens
        if int(number) // 3 == index and in_view:
            hits = renderer.cast_ray(visible(), eye.location, (float(x), float(y), float(z)))
            reached.append(not hits or hits[0][1] == Tag.TRAFFIC_LIGHT)

    assert any(reached)


@pytest.mark.parametrize("blueprint", [*catalogue.VEHICLES, "walker.pedestrian.0004"])
def test_shapes_fill_their_boxes_and_no_more(blueprint):
    spec = catalogue.find(blueprint)
    mesh = actor_mesh(blueprint if blueprint.startswith("vehicle") else f"{blueprint}#2")
    center, extent = np.array(spec.box.center), np.array(spec.extent)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)

    assert (low >= center - extent - 1e-4).all() and (high <= center + extent + 1e-4).all()
    assert ((high - low) > 1.6 * extent).all()
    assert len(mesh.material) < 1500
