# SPDX-License-Identifier: Apache-2.0
"""SWIFT's vehicles and plans as messages, and as markers for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from builtin_interfaces.msg import Time
from flad_msgs.msg import (
    FleetVehicle,
    PlannedCluster,
    PlannedPipeline,
    PlannedStage,
    PlannedTemplate,
)
from flad_msgs.srv import PlanPipelines
from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from flad_edge.mobility.traces import Coverage
from flad_edge.swift.fleet import FleetPlan, Member, Planned
from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.problem import Problem
from flad_edge.swift.schedule import simulated_step_s

FLEET = "/edge/fleet"
"""Where vehicles say who and where they are; of one edge."""
_CIRCLE = 72
_COLORS = ((0.9, 0.3, 0.2), (0.2, 0.6, 0.9), (0.3, 0.8, 0.3), (0.9, 0.7, 0.1), (0.7, 0.4, 0.9))
_GREY, _WHITE = (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)


def member_from_msg(msg: FleetVehicle) -> Member:
    """What a vehicle said.

    Raises:
        ValueError: if it cannot be.
    """
    return Member(
        name=msg.vehicle,
        device=msg.device,
        available_bytes=msg.available_bytes,
        x_m=msg.x,
        y_m=msg.y,
        speed_mps=msg.speed,
        heading_rad=msg.heading,
        dwell_s=msg.dwell_s,
    )


def member_to_msg(member: Member, stamp: Time) -> FleetVehicle:
    """What a vehicle says, in the map's frame."""
    return FleetVehicle(
        header=Header(stamp=stamp, frame_id="map"),
        vehicle=member.name,
        device=member.device,
        available_bytes=float(member.available_bytes),
        x=member.x_m,
        y=member.y_m,
        speed=member.speed_mps,
        heading=member.heading_rad,
        dwell_s=member.dwell_s,
    )


def fill_response(response: PlanPipelines.Response, plan: FleetPlan) -> PlanPipelines.Response:
    """A plan as the service answers it."""
    response.alone = list(plan.alone)
    response.clusters = [cluster_msg(cluster) for cluster in plan.clusters]
    response.left_over = list(plan.left_over)
    response.left_over_why = list(plan.left_over.values())
    return response


def cluster_msg(cluster: Planned) -> PlannedCluster:
    """A cluster with its pipelines and templates."""
    problem = cluster.plan.problem
    names = cluster.members
    return PlannedCluster(
        vehicles=list(names),
        planner=cluster.plan.planner,
        reason=cluster.plan.reason,
        pipelines=[_pipeline(problem, p.first, p.pipeline) for p in cluster.plan.pipelines],
        templates=[
            PlannedTemplate(
                gone=sorted(names[v] for v in gone),
                pipelines=[_pipeline(problem, v, p) for v, p in template.by_first.items()],
            )
            for gone, template in cluster.templates.items()
        ],
    )


def _pipeline(problem: Problem, first: int, pipeline: Pipeline | None) -> PlannedPipeline:
    names = [vehicle.name for vehicle in problem.cluster.vehicles]
    if pipeline is None:
        return PlannedPipeline(first=names[first])
    return PlannedPipeline(
        first=names[first],
        stages=[PlannedStage(vehicle=names[s.vehicle], begin=s.begin, end=s.end) for s in pipeline],
        path_s=problem.path_s(pipeline),
        step_s=simulated_step_s(problem, pipeline),
    )


def markers(
    plan: FleetPlan, members: Sequence[Member], coverage: Coverage, stamp: Time
) -> MarkerArray:
    """The coverage as a circle, vehicles in their cluster's colour, each best pipeline as a line.

    The first marker takes away those of the plan before.
    """
    header = Header(stamp=stamp, frame_id="map")
    place = {m.name: Point(x=m.x_m, y=m.y_m, z=2.0) for m in members}
    color_of: dict[str, tuple[float, float, float]] = dict.fromkeys(plan.alone, _WHITE)
    drawn = [Marker(header=header, action=Marker.DELETEALL)]
    circle = _marker(header, "coverage", 0, Marker.LINE_STRIP, _WHITE, 0.5)
    angles = [2.0 * math.pi * i / _CIRCLE for i in range(_CIRCLE + 1)]
    circle.points = [
        Point(
            x=coverage.x_m + coverage.radius_m * math.cos(a),
            y=coverage.y_m + coverage.radius_m * math.sin(a),
        )
        for a in angles
    ]
    drawn.append(circle)
    for number, cluster in enumerate(plan.clusters):
        color = _COLORS[number % len(_COLORS)]
        color_of |= dict.fromkeys(cluster.members, color)
        best = cluster.plan.best
        if best is not None and best.pipeline is not None:
            drawn += _way(
                header, number, color, [cluster.members[v] for v in best.pipeline.order], place
            )
    for number, (name, point) in enumerate(sorted(place.items())):
        dot = _marker(header, "vehicles", number, Marker.SPHERE, color_of.get(name, _GREY), 3.0)
        dot.pose.position = point
        drawn.append(dot)
    return MarkerArray(markers=drawn)


def _way(
    header: Header,
    number: int,
    color: tuple[float, float, float],
    order: Sequence[str],
    place: Mapping[str, Point],
) -> list[Marker]:
    """A line through the stages that are in sight, and the number of each."""
    line = _marker(header, "pipelines", number, Marker.LINE_STRIP, color, 0.6)
    line.points = [place[name] for name in order if name in place]
    labels = []
    for stage, name in enumerate(order):
        if name in place:
            label = _marker(header, f"stages_{number}", stage, Marker.TEXT_VIEW_FACING, _WHITE, 4.0)
            at = place[name]
            label.pose.position = Point(x=at.x, y=at.y, z=at.z + 4.0)
            label.text = str(stage)
            labels.append(label)
    return ([line] if len(line.points) > 1 else []) + labels


def _marker(
    header: Header, ns: str, number: int, kind: int, color: tuple[float, float, float], size: float
) -> Marker:
    red, green, blue = color
    return Marker(
        header=header,
        ns=ns,
        id=number,
        type=kind,
        scale=Vector3(x=size, y=size, z=size),
        color=ColorRGBA(r=red, g=green, b=blue, a=1.0),
    )
