# SPDX-License-Identifier: Apache-2.0
"""One unit as a module: its own operations, its own parameters under the model's names."""

from __future__ import annotations

import copy

from torch import fx

from flad_pipeline.graph.units import Unit, UnitGraph


def unit_module(graph: UnitGraph, unit: Unit) -> fx.GraphModule:
    """A module that takes ``unit.inputs`` then ``unit.takes`` and returns the list ``unit.makes``.

    Its parameters and buffers are copies: of the same names, and on the device (or ``meta``) where
    the model's are. Constant buffers that several units read are each unit's own.
    """
    nodes = {node.name: node for node in graph.traced.module.graph.nodes}
    part = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for name in (*unit.inputs, *unit.takes):
        copied[nodes[name]] = part.placeholder(name)
    for name in unit.operations:
        node = nodes[name]
        for source in node.all_input_nodes:
            if source not in copied:  # a constant: everything else is taken or made before
                assert source.op == "get_attr", source
                copied[source] = part.node_copy(source)
        copied[node] = part.node_copy(node, copied.__getitem__)
    part.output([copied[nodes[name]] for name in unit.makes])
    shared = fx.GraphModule(graph.traced.module, part, f"unit_{unit.index}")
    return copy.deepcopy(shared)
