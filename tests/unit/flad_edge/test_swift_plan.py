# SPDX-License-Identifier: Apache-2.0
"""From a cluster file to pipelines: planners, templates, the command, and bad input."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
from swift_problems import small_problem

from flad_bringup.cli import main
from flad_edge.swift.cluster import ClusterFile, ModelEntry, VehicleEntry, cluster_of
from flad_edge.swift.devices import DeviceProfile, load_devices
from flad_edge.swift.exact import best_plan
from flad_edge.swift.planner import MOST_TABLE_WORK, choose, plan_cluster
from flad_edge.swift.problem import Problem
from flad_edge.swift.templates import templates_for
from flad_edge.swift.units import ModelUnits, read_units, units_from_json
from flad_edge.swift.units_from_profile import units_from_profile
from flad_pipeline.partition import partition_from_json

TESTBED = Path(__file__).parents[3] / "config/clusters/testbed.yaml"


def _file(tmp_path, **changes) -> Path:
    """The shipped cluster, with lines replaced."""
    text = TESTBED.read_text(encoding="utf-8")
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    units = "encoder_small.units.json"
    (tmp_path / units).write_text((TESTBED.parent / units).read_text(encoding="utf-8"))
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_command_prints_reasons_and_writes_what_can_be_run(tmp_path, capsys):
    out = tmp_path / "plan.json"

    assert main(["plan", "--cluster", str(TESTBED), "--json", str(out)]) == 0

    said = capsys.readouterr().out
    assert "planner exact: 5 vehicles and 10 units" in said
    assert "templates: 5 of 5 departures provided for" in said
    written = json.loads(out.read_text())
    assert [p["first"] for p in written["pipelines"]] == [f"vehicle_{i}" for i in range(5)]
    for pipeline in written["pipelines"]:
        spans = [stage["units"] for stage in pipeline["stages"]]
        assert spans[0][0] == 0 and spans[-1][1] == written["units"]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
        assert pipeline["stages"][0]["vehicle"] == pipeline["first"]
        assert all(s["bytes"] <= s["available_bytes"] for s in pipeline["stages"])
        assert pipeline["step_s"] > pipeline["path_s"] > 0.0
    assert {tuple(t["gone"]) for t in written["templates"]} == {(f"vehicle_{i}",) for i in range(5)}


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ("device: agx", "device: orin", "vehicle_4 carries 'orin'.*known are agx, nano, nx"),
        ("available_bytes: 3.0e+9", "available_bytes: 0.0", "vehicle_4: memory.*got 0.0 B"),
        ("available_bytes: 3.0e+9", "available_bytes: .nan", "vehicle_4: memory.*got nan"),
        ("stability: 0.9", "stability: .nan", "vehicle_0: stability must be finite"),
        ("bits_per_s: 40.0e+6", "bits_per_s: -1.0", "between vehicle_0 and vehicle_4.*-1.0"),
        ("between: [vehicle_0,", "between: [vehicle_9,", "a link names .'vehicle_9'."),
        ("name: vehicle_1", "name: vehicle_0", "vehicles need names of their own"),
        ("micro_batches: 8", "micro_batches: 0", "micro_batches must be at least 1, got 0"),
        ("batch_size: 64", "batch_siz: 64", "has no .'batch_siz'."),
        ("encoder_small.units.json", "none.json", "none.json"),
        ("batch_size: 64", "batch_size: 640", "needs at least .* GB .*together have .* GB"),
        ("batch_size: 64", "batch_size: 6400", "less than the 17.13 GB of scratch memory"),
    ],
)
def test_bad_clusters_are_refused_with_the_arithmetic(tmp_path, capsys, old, new, complaint):
    path = _file(tmp_path, change=(old, new))

    assert main(["plan", "--cluster", str(path)]) == 1

    said = capsys.readouterr().err
    assert re.search(complaint, said), said


@pytest.mark.parametrize("planner", ["exact", "greedy"])
def test_a_pipeline_starts_at_every_vehicle(planner):
    problem = small_problem(2, room=4.0)
    plan = plan_cluster(problem, planner=planner)
    assert [p.first for p in plan.pipelines] == [0, 1, 2]
    for planned in plan.pipelines:
        assert planned.pipeline is not None and planned.pipeline.first == planned.first
        assert problem.objections(planned.pipeline) == []
        assert planned.cost_s == pytest.approx(problem.path_s(planned.pipeline))
    assert plan.best.cost_s == min(p.cost_s for p in plan.pipelines)


def test_auto_plans_exactly_where_the_table_is_small():
    problem = small_problem(2)
    assert choose(problem, "auto", True)[0] == "exact"
    many = small_problem(2, vehicles=18, units=60)
    name, reason = choose(many, "auto", True)
    assert name == "dqn" and f"above {MOST_TABLE_WORK:.2g}" in reason
    assert choose(many, "auto", False)[0] == "greedy"


def test_dqn_without_a_network_is_refused():
    with pytest.raises(ValueError, match="planner dqn needs its network"):
        plan_cluster(small_problem(2), planner="dqn")


def test_templates_are_plans_of_what_is_left():
    problem = small_problem(3, vehicles=4, units=8, room=3.0)

    templates = templates_for(problem, planner="exact", pairs=True)

    assert {len(gone) for gone in templates} == {1, 2} and len(templates) == 4 + 6
    for gone, template in templates.items():
        assert set(template.by_first) == set(range(4)) - gone
        names = [f"v{v}" for v in gone]
        left = Problem(problem.cluster.without(*names), problem.model, problem.micro_batches)
        best = best_plan(left, "path")
        ours = template.best(problem, "path")
        assert (best is None) == (ours is None)
        if best is not None:
            assert problem.path_s(ours) == pytest.approx(best.cost_s)
            assert not set(ours.order) & gone


def test_greedy_templates_leave_the_departed_out():
    problem = small_problem(3, vehicles=4, units=8, room=4.0)
    for gone, template in templates_for(problem, planner="greedy").items():
        for first, pipeline in template.by_first.items():
            assert pipeline is None or (pipeline.first == first and not set(pipeline.order) & gone)


def test_micro_batches_of_another_size_cost_in_proportion():
    model = small_problem(1).model
    twice = model.of_batch(2 * model.batch_size)
    for a, b in zip(model.units, twice.units, strict=True):
        assert b.flops_forward == pytest.approx(2 * a.flops_forward)
        assert b.saved_bytes == pytest.approx(2 * a.saved_bytes)
        assert b.static_bytes == a.static_bytes
    assert twice.cuts[0].forward_bytes == pytest.approx(2 * model.cuts[0].forward_bytes)


def test_units_survive_their_file(tmp_path):
    model = small_problem(1).model
    path = tmp_path / "units.json"
    path.write_text(json.dumps(model.as_json()))
    assert read_units(path, 40) == model


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"units": []}, "no units"),
        ({"cuts": []}, "7 units and 0 cuts"),
        ({"schema_version": 9}, "schema_version is 9, known: 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": None}, "not a list of units"),
    ],
)
def test_bad_units_are_named(change, complaint):
    values = small_problem(1).model.as_json() | change
    with pytest.raises(ValueError, match=complaint):
        units_from_json(values)


def test_negative_costs_are_named():
    model = small_problem(1).model
    bad = dataclasses.replace(model.units[3], saved_bytes=-1.0)
    with pytest.raises(ValueError, match=r"saved_bytes must be finite and not negative, got -1\.0"):
        ModelUnits(name="m", batch_size=1, units=(bad,), cuts=())


def _profile() -> dict:
    """Four operations; the first and the third share a parameter."""

    def operation(name, work, parameters, saves):
        return {
            "name": name,
            "module": name,
            "flops_forward": work,
            "flops_backward": 2 * work,
            "parameters": parameters,
            "saves": saves,
        }

    held = {"weights": 10, "gradients": 10, "optimizer": 20}
    cut = {"input_bytes": 1, "backward_bytes": 5}
    return {
        "schema": "flad.profile",
        "schema_version": 1,
        "model": "toy",
        "batch_size": 2,
        "parameters": {"a": held, "b": held},
        "storages": [100, 200],
        "operations": [
            operation("w", 10, ["a"], [0]),
            operation("x", 10, ["b"], [0, 1]),
            operation("y", 10, ["a"], []),
            operation("z", 10, [], [1]),
        ],
        "cuts": [cut | {"forward_bytes": b} for b in (7, 8, 9, 0)],
    }


def test_a_profile_becomes_units_that_part_no_shared_parameter():
    model = units_from_profile(_profile(), 4)
    assert [unit.flops_forward for unit in model.units] == [30.0, 10.0]
    assert model.units[0].parameter_bytes == 20.0
    assert model.units[0].saved_bytes == 300.0  # each storage once
    assert model.cuts[0].forward_bytes == 10.0  # with the inputs that later operations take
    assert len(units_from_profile(_profile(), 1)) == 1


def test_shipped_devices_are_those_of_table_1():
    devices = load_devices()
    assert set(devices) == {"nano", "nx", "agx"}
    assert devices["agx"].memory_bytes == 32e9
    assert devices["nano"].flops_per_s > devices["nx"].flops_per_s


def test_devices_that_cannot_train_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"memory_bytes .* must be above system_bytes"):
        DeviceProfile(memory_bytes=1e9, system_bytes=2e9, flops_per_s=1e12)
    path = tmp_path / "devices.yaml"
    path.write_text("slow:\n  memory_bytes: 8.0e+9\n  system_bytes: 0.0\n  flops_per_s: -1.0\n")
    with pytest.raises(ValueError, match="slow: flops_per_s must be positive, got -1"):
        load_devices(path)


def test_a_vehicle_that_left_is_not_in_the_cluster():
    cluster = small_problem(1, vehicles=4).cluster
    left = cluster.without("v1")
    assert [v.name for v in left.vehicles] == ["v0", "v2", "v3"]
    assert left.seconds_per_byte[1, 2] == cluster.seconds_per_byte[2, 3]


def test_a_cluster_needs_links_of_its_size():
    cluster = small_problem(1).cluster
    with pytest.raises(ValueError, match=r"delay_s must have shape \[3, 3\], got \[2, 2\]"):
        dataclasses.replace(cluster, delay_s=cluster.delay_s[:2, :2])
    with pytest.raises(ValueError, match="at least one vehicle"):
        cluster.without("v0", "v1", "v2")


def test_a_reserve_is_kept_free():
    file = ClusterFile(
        model=ModelEntry(file="none.json"),
        vehicles=(VehicleEntry(name="a", device="nano"),),
        memory_reserve=0.25,
    )
    assert cluster_of(file, load_devices()).vehicles[0].available_bytes == pytest.approx(0.75 * 5e9)


def test_a_plan_is_a_partition_of_the_same_unit_graph(tmp_path, capsys):
    out = tmp_path / "plan.json"
    assert main(["plan", "--cluster", str(TESTBED), "--no-templates", "--json", str(out)]) == 0
    for pipeline in json.loads(out.read_text())["pipelines"]:
        partition = partition_from_json(json.dumps(pipeline["partition"]))
        assert partition.owner == pipeline["first"]
        assert partition.num_units == 10
        for stage in pipeline["stages"]:
            assert partition.units_of(stage["vehicle"]) == tuple(range(*stage["units"]))
