# SPDX-License-Identifier: Apache-2.0
"""A cluster's plan for people and for files: stages, reasons, predicted times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flad_edge.swift.pipeline import Pipeline
from flad_edge.swift.planner import ClusterPlan, Planned
from flad_edge.swift.problem import Problem
from flad_edge.swift.rotation import rotation_order, rotation_s
from flad_edge.swift.schedule import simulated_step_s
from flad_edge.swift.templates import Template

SCHEMA, SCHEMA_VERSION = "flad.plan", 1
PARTITION_SCHEMA, PARTITION_VERSION = "flad.partition", 1


def plan_as_json(plan: ClusterPlan, templates: Mapping[frozenset[int], Template]) -> dict[str, Any]:
    """What ``./flad plan --json`` writes; docs/swift.md lists the fields."""
    problem = plan.problem
    names = [vehicle.name for vehicle in problem.cluster.vehicles]
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "model": problem.model.name,
        "units": problem.num_units,
        "batch_size": problem.model.batch_size,
        "micro_batches": problem.micro_batches,
        "objective": plan.objective,
        "planner": plan.planner,
        "reason": plan.reason,
        "planning_s": plan.seconds,
        "pipelines": [_one_as_json(problem, planned) for planned in plan.pipelines],
        "templates": [
            {
                "gone": sorted(names[v] for v in gone),
                "pipelines": [
                    {
                        "first": names[v],
                        "stages": None if pipeline is None else _stages(problem, pipeline),
                    }
                    for v, pipeline in template.by_first.items()
                ],
            }
            for gone, template in templates.items()
        ],
    }


def plan_as_text(plan: ClusterPlan) -> str:
    """A small tree with sizes, once."""
    problem = plan.problem
    channel = "shared channel" if problem.cluster.shared_channel else "links of their own"
    lines = [
        f"{problem.num_vehicles} vehicles on a {channel}, {problem.model.name} in "
        f"{problem.num_units} units, {problem.micro_batches} micro-batches of "
        f"{problem.model.batch_size}".replace("a links", "links"),
        f"planner {plan.planner}: {plan.reason}; objective {plan.objective}; "
        f"{1e3 * plan.seconds:.1f} ms",
    ]
    names = [vehicle.name for vehicle in problem.cluster.vehicles]
    for planned in plan.pipelines:
        if planned.pipeline is None:
            what = "none fits (proven)" if plan.planner == "exact" else "none found"
            lines.append(f"  first {names[planned.first]}: {what}")
            continue
        lines += _tree(problem, planned, best=planned is plan.best)
    there = [p.pipeline for p in plan.pipelines if p.pipeline is not None]
    if len(there) > 1:
        turn = [there[i] for i in rotation_order(problem, there)]
        lines.append(
            f"rotation {' > '.join(names[p.first] for p in turn)}: "
            f"{rotation_s(problem, turn):.2f} s of hand-over in a round"
        )
    return "\n".join(lines)


def templates_as_text(problem: Problem, templates: Mapping[frozenset[int], Template]) -> str:
    """One line about how many departures are provided for, and which are not."""
    names = [vehicle.name for vehicle in problem.cluster.vehicles]
    lost = [
        " + ".join(names[v] for v in sorted(gone))
        for gone, template in templates.items()
        if all(pipeline is None for pipeline in template.by_first.values())
    ]
    line = f"templates: {len(templates) - len(lost)} of {len(templates)} departures provided for"
    return line + (f"; no pipeline remains without {', '.join(lost)}" if lost else "")


def _tree(problem: Problem, planned: Planned, *, best: bool) -> list[str]:
    pipeline, names = planned.pipeline, [v.name for v in problem.cluster.vehicles]
    assert pipeline is not None
    step_s = simulated_step_s(problem, pipeline)
    rate = problem.micro_batches * problem.model.batch_size / step_s
    proof = ""
    if planned.bound_s is not None and planned.cost_s is not None:
        gap = planned.cost_s / planned.bound_s - 1.0
        proof = ", optimal" if gap < 1e-9 else f", at most {100 * gap:.1f} % above the optimum"
    lines = [
        f"  first {names[planned.first]}: path {problem.path_s(pipeline):.3f} s, 1F1B step "
        f"{step_s:.3f} s ({rate:.2f} samples/s){proof}{'  <- best' if best else ''}"
    ]
    hops = [*problem.hop_times_s(pipeline), 0.0]
    slowest = max(problem.stage_times_s(pipeline))
    for place, (stage, hop_s) in enumerate(zip(pipeline, hops, strict=True)):
        vehicle = problem.cluster.vehicles[stage.vehicle]
        used = problem.stage_bytes(stage, len(pipeline) - 1 - place)
        seconds = problem.stage_s(stage)
        hop = (
            f", then {hop_s:.3f} s to {names[pipeline.stages[place + 1].vehicle]}" if hop_s else ""
        )
        lines.append(
            f"    {vehicle.name} ({vehicle.device}): units {stage.begin}-{stage.end - 1}, "
            f"{used / 1e9:.2f} of {vehicle.available_bytes / 1e9:.2f} GB, {seconds:.3f} s"
            f"{' (slowest)' if seconds == slowest else ''}{hop}"
        )
    return lines


def _one_as_json(problem: Problem, planned: Planned) -> dict[str, Any]:
    name = problem.cluster.vehicles[planned.first].name
    pipeline = planned.pipeline
    if pipeline is None:
        return {"first": name, "stages": None}
    return {
        "first": name,
        "planner": planned.planner,
        "cost_s": planned.cost_s,
        "bound_s": planned.bound_s,
        "path_s": problem.path_s(pipeline),
        "step_closed_form_s": problem.step_s(pipeline),
        "step_s": simulated_step_s(problem, pipeline),
        "stages": _stages(problem, pipeline),
        "partition": _partition(problem, pipeline),
    }


def _partition(problem: Problem, pipeline: Pipeline) -> dict[str, Any]:
    """As flad_pipeline's ``partition_from_json`` reads it; units by their first and last."""
    return {
        "schema": PARTITION_SCHEMA,
        "schema_version": PARTITION_VERSION,
        "digest": problem.model.digest,
        "num_units": problem.num_units,
        "stages": [
            {
                "vehicle": problem.cluster.vehicles[stage.vehicle].name,
                "first": stage.begin,
                "last": stage.end - 1,
            }
            for stage in pipeline
        ],
        "heads_from": None,
    }


def _stages(problem: Problem, pipeline: Pipeline) -> list[dict[str, Any]]:
    vehicles, last = problem.cluster.vehicles, len(pipeline) - 1
    return [
        {
            "vehicle": vehicles[stage.vehicle].name,
            "units": [stage.begin, stage.end],
            "compute_s": problem.stage_s(stage),
            "bytes": problem.stage_bytes(stage, last - place),
            "available_bytes": vehicles[stage.vehicle].available_bytes,
        }
        for place, stage in enumerate(pipeline)
    ]
