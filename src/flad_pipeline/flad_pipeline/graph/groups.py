# SPDX-License-Identifier: Apache-2.0
"""Which operations no cut may part, as a directed graph of groups without cycles.

Together stay: operations that use one parameter or write one buffer (a module used twice is one
group); whoever makes a value that is no tensor of a fixed shape, and whoever takes it (sizes,
tuples, points before they are on their canvas); whoever writes into memory, and whoever made it.
What lies on a path between two of a group belongs to it, or the groups could not be ordered.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import networkx as nx
import torch
from torch import fx, nn

from flad_pipeline.graph.values import NodeValue

_JOINS = frozenset({torch.cat, torch.concat, torch.stack, torch.hstack, torch.vstack})


@dataclass(frozen=True, kw_only=True)
class Group:
    """Operations that stay together, in the order of the trace."""

    nodes: tuple[fx.Node, ...]
    reads_inputs: tuple[str, ...]
    """Names of the model's inputs that one of them takes, also through values that are raw."""
    learned: bool
    """Whether a parameter has a part in what it makes; what has none needs no waiting."""
    parameters: frozenset[str]
    flops: int


def operation_graph(graph: fx.Graph, values: Mapping[fx.Node, NodeValue]) -> nx.DiGraph:
    """Operations and who waits for whom: for values, and for memory that is written over."""
    dag = nx.DiGraph()
    operations = [node for node in graph.nodes if is_operation(node)]
    dag.add_nodes_from(operations)
    for node in operations:
        dag.add_edges_from((source, node) for source in node.all_input_nodes if source in dag)
    for writer in operations:
        for memory in values[writer].writes:
            passed = False
            for reader in _readers(operations, values, memory):
                passed = passed or reader is writer
                if reader is not writer:
                    dag.add_edge(*((writer, reader) if passed else (reader, writer)))
    assert nx.is_directed_acyclic_graph(dag)
    return dag


def group_graph(
    module: fx.GraphModule, dag: nx.DiGraph, values: Mapping[fx.Node, NodeValue]
) -> nx.DiGraph:
    """The groups, each a :class:`Group`, and who must come before whom."""
    together = nx.Graph()
    together.add_nodes_from(dag)
    for nodes in _bound(module, dag, values):
        first, *rest = nodes
        together.add_edges_from((first, node) for node in rest)
    bound = {node: i for i, part in enumerate(nx.connected_components(together)) for node in part}
    quotient = nx.DiGraph()
    quotient.add_nodes_from(bound.values())
    quotient.add_edges_from((bound[a], bound[b]) for a, b in dag.edges if bound[a] != bound[b])
    condensed = nx.condensation(quotient)
    part_of = condensed.graph["mapping"]
    members: dict[int, list[fx.Node]] = {}
    for node in dag:  # in the order of the trace
        members.setdefault(part_of[bound[node]], []).append(node)
    names = {id(p): name for name, p in module.named_parameters()}
    of = origins(module, values)
    groups = {part: _group(module, nodes, values, names, of) for part, nodes in members.items()}
    return nx.relabel_nodes(condensed, groups)


def is_operation(node: fx.Node) -> bool:
    """Whether ``node`` computes: no input, no constant, not the end."""
    return node.op not in ("placeholder", "get_attr", "output")


def _bound(
    module: fx.GraphModule, dag: nx.DiGraph, values: Mapping[fx.Node, NodeValue]
) -> Iterator[list[fx.Node]]:
    """Lists of operations that stay together."""
    owners: dict[Hashable, list[fx.Node]] = {}
    for node in dag:
        for key in _state_of(module, node):
            owners.setdefault(key, []).append(node)
    yield from owners.values()
    for node in dag:
        if values[node].tensor is None:
            yield [node, *(user for user in node.users if user in dag)]
        for memory in values[node].writes:
            yield [node, *(n for n in dag if memory in values[n].storages)]
            for source in node.graph.nodes:  # an input or a buffer that is written into
                held = not is_operation(source) and source in values
                if held and memory in values[source].storages:
                    yield [node, *(user for user in source.users if user in dag)]


def _state_of(module: fx.GraphModule, node: fx.Node) -> Iterable[Hashable]:
    """What ``node`` uses that exists once: parameters, and buffers of modules."""
    if node.op == "call_module":
        target = module.get_submodule(str(node.target))
        yield from (id(t) for t in (*target.parameters(), *target.buffers()))
    for source in node.all_input_nodes:
        if source.op == "get_attr":
            held = operator.attrgetter(str(source.target))(module)
            if isinstance(held, nn.Parameter):
                yield id(held)


def _readers(
    operations: list[fx.Node], values: Mapping[fx.Node, NodeValue], memory: int
) -> Iterator[fx.Node]:
    """Operations that take something lying in ``memory``."""
    for node in operations:
        if any(memory in values[source].storages for source in node.all_input_nodes):
            yield node


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Where values come from."""

    raw: Mapping[fx.Node, tuple[str, ...]]
    """Values that are as good as inputs, and of which."""
    learned: frozenset[fx.Node]
    """Values that a parameter had a part in."""


def origins(module: fx.GraphModule, values: Mapping[fx.Node, NodeValue]) -> Origins:
    """Which values are raw: inputs, and numbers that no parameter had a part in.

    What is joined to learned values is raw as well, what is added to them is not. Masks and counts
    are none: attention needs them everywhere, and they tell no pixel.
    """
    raw: dict[fx.Node, tuple[str, ...]] = {}
    learned: set[fx.Node] = set()
    for node in module.graph.nodes:
        if node.op == "placeholder":
            raw[node] = (node.name,)
        elif node.op == "get_attr":
            if isinstance(operator.attrgetter(str(node.target))(module), nn.Parameter):
                learned.add(node)
        elif is_operation(node):
            sources = node.all_input_nodes
            if any(True for _ in _state_of(module, node)) or any(s in learned for s in sources):
                learned.add(node)
            names = tuple(dict.fromkeys(name for s in sources for name in raw.get(s, ())))
            fact = values[node].tensor
            counts = fact is not None and not fact.dtype.is_floating_point
            if names and not counts and (node not in learned or node.target in _JOINS):
                raw[node] = names
    return Origins(raw=raw, learned=frozenset(learned))


def _group(
    module: fx.GraphModule,
    nodes: list[fx.Node],
    values: Mapping[fx.Node, NodeValue],
    names: Mapping[int, str],
    of: Origins,
) -> Group:
    inside = set(nodes)
    sources = [s for n in nodes for s in n.all_input_nodes if s not in inside]
    inputs = [name for s in sources for name in of.raw.get(s, ())]
    state = {key for n in nodes for key in _state_of(module, n)}
    return Group(
        nodes=tuple(nodes),
        reads_inputs=tuple(dict.fromkeys(inputs)),
        learned=any(n in of.learned for n in nodes),
        parameters=frozenset(names[key] for key in state if key in names),  # type: ignore[index]
        flops=sum(values[n].flops for n in nodes),
    )
