# SPDX-License-Identifier: Apache-2.0
"""From a plan to a SUMO network and an OpenDRIVE file, by netconvert.

`finish` adds to the OpenDRIVE file what netconvert does not know: lights, signs, paint, place.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from flad_sim.towns.finish import finish_opendrive
from flad_sim.towns.plan import TownPlan
from flad_sim.towns.sumo_tools import netconvert


def build_plan(plan: TownPlan, folder: Path) -> None:
    """Write ``NAME.net.xml`` and ``NAME.xodr`` into ``folder``."""
    nodes, edges = folder / "plan.nod.xml", folder / "plan.edg.xml"
    net, xodr = folder / f"{plan.name}.net.xml", folder / f"{plan.name}.xodr"
    _write_nodes(plan, nodes)
    _write_edges(plan, edges)
    netconvert(
        [
            *("--node-files", str(nodes), "--edge-files", str(edges), "--output-file", str(net)),
            *("--offset.disable-normalization", "true", "--precision", "3"),
            *("--no-turnarounds", "true", "--default.lanewidth", str(plan.lane_width)),
            *("--junctions.corner-detail", "12", "--junctions.internal-link-detail", "20"),
            *("--rectangular-lane-cut", "true", "--ramps.guess", "true"),
            *("--ramps.ramp-length", "80", "--ramps.min-highway-speed", "21"),
        ],
        f"the plan of {plan.name}",
    )
    netconvert(
        [
            *("--sumo-net-file", str(net), "--opendrive-output", str(xodr)),
            *("--offset.disable-normalization", "true", "--precision", "6"),
        ],
        f"the network of {plan.name}",
    )
    text = xodr.read_text(encoding="utf-8")
    xodr.write_text(finish_opendrive(text, plan, net.read_text(encoding="utf-8")), encoding="utf-8")
    nodes.unlink()
    edges.unlink()


def _write_nodes(plan: TownPlan, path: Path) -> None:
    root = ET.Element("nodes")
    for c in plan.crossings:
        ET.SubElement(
            root,
            "node",
            id=c.node,
            x=f"{c.x:.3f}",
            y=f"{c.y:.3f}",
            z=f"{c.z:.3f}",
            type=c.control,
            radius=f"{c.radius:.2f}",
        )
    ET.ElementTree(root).write(path, encoding="utf-8")


def _write_edges(plan: TownPlan, path: Path) -> None:
    root = ET.Element("edges")
    for street in plan.streets:
        edge = ET.SubElement(
            root,
            "edge",
            {
                "id": street.edge,
                "from": street.start,
                "to": street.end,
                "numLanes": str(street.lanes),
                "speed": f"{street.speed_kmh / 3.6:.4f}",
                "priority": str(street.priority),
                "spreadType": street.spread,
                "disallow": "pedestrian" if street.sidewalk > 0.0 else "pedestrian bicycle",
            },
        )
        if street.sidewalk > 0.0:
            edge.set("sidewalkWidth", f"{street.sidewalk:.2f}")
        if street.shape:
            ends = {c.node: (c.x, c.y, c.z) for c in plan.crossings}
            line = [ends[street.start], *street.shape, ends[street.end]]
            edge.set("shape", " ".join(",".join(f"{v:.3f}" for v in p) for p in line))
    ET.ElementTree(root).write(path, encoding="utf-8")
