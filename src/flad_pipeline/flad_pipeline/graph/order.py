# SPDX-License-Identifier: Apache-2.0
"""In which order groups stand in line, and where the line may be cut into units.

Every order that respects the graph gives the same results; they differ in what crosses a cut. Raw
inputs never leave their owner, so whoever reads one comes as early as it can. Then an order is
chosen in which little crosses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import networkx as nx
from torch import fx

from flad_pipeline.graph.groups import Group, is_operation
from flad_pipeline.graph.values import NodeValue


def ordered_groups(
    groups: nx.DiGraph, values: Mapping[fx.Node, NodeValue], trace: fx.Graph
) -> list[Group]:
    """All groups in a topological order, the same one on every machine.

    Of four simple rules for who is next, the one counts after which the least crosses a cut, on
    average over the model's FLOPs.
    """
    place = {node: i for i, node in enumerate(trace.nodes)}
    group_of = {node: group for group in groups for node in group.nodes}
    lines = [_Line(groups, values, group_of, place).by(rule) for rule in range(4)]
    return min(lines, key=lambda line: mean_crossing_bytes(line, values))


def mean_crossing_bytes(line: Sequence[Group], values: Mapping[fx.Node, NodeValue]) -> float:
    """What crosses a cut that is made anywhere in the work with equal probability."""
    weights = [group.flops + 1 for group in line]
    crossing = crossing_bytes(line, values)
    return sum(w * b for w, b in zip(weights, crossing, strict=True)) / sum(weights)


def crossing_bytes(line: Sequence[Group], values: Mapping[fx.Node, NodeValue]) -> list[int]:
    """Bytes of the values that cross after each group; results cross to the end."""
    made, last = {}, dict[fx.Node, int]()
    for i, group in enumerate(line):
        for node in group.nodes:
            made[node] = i
            if any(user.op == "output" for user in node.users):
                last[node] = len(line)
            for source in node.all_input_nodes:
                last[source] = max(i, last.get(source, i))
    changes = [0] * (len(line) + 1)
    for node, begin in made.items():
        if last.get(node, begin) > begin:
            changes[begin] += values[node].num_bytes
            changes[last[node]] -= values[node].num_bytes
    return list(accumulate(changes[:-1]))


class _Line:
    """One way through the groups."""

    def __init__(
        self,
        groups: nx.DiGraph,
        values: Mapping[fx.Node, NodeValue],
        group_of: Mapping[fx.Node, Group],
        place: Mapping[fx.Node, int],
    ) -> None:
        self._groups, self._values, self._place = groups, values, place
        self._users = {node: _users(node, group_of) for node in group_of}
        self._takes = {group: _taken(group, group_of) for group in groups}
        self._left = {node: len(of) for node, of in self._users.items()}
        self._made_at: dict[fx.Node, int] = {}

    def by(self, rule: int) -> list[Group]:
        waiting = {group: self._groups.in_degree(group) for group in self._groups}
        ready = [group for group, count in waiting.items() if count == 0]
        line: list[Group] = []
        while ready:
            chosen = min(ready, key=lambda group: self._rank(group, rule))
            ready.remove(chosen)
            for node in chosen.nodes:
                self._made_at[node] = len(line)
            line.append(chosen)
            for node in self._takes[chosen]:
                self._left[node] -= 1
            for successor in self._groups.successors(chosen):
                waiting[successor] -= 1
                if waiting[successor] == 0:
                    ready.append(successor)
        assert len(line) == len(self._groups)
        return line

    def _rank(self, group: Group, rule: int) -> tuple[bool, float, int]:
        """Raw inputs and masks first; then by the rule; then as in the trace."""
        taken = self._takes[group]
        by_rule: float = 0.0
        if rule == 1:  # what is live grows least
            made = sum(self._values[n].num_bytes for n in group.nodes if self._users[n])
            by_rule = made - sum(self._values[n].num_bytes for n in taken if self._left[n] == 1)
        elif rule == 2:  # go on with what is largest
            by_rule = -sum(self._values[n].num_bytes for n in taken)
        elif rule == 3:  # go on with what is newest
            by_rule = -max((self._made_at[n] for n in taken), default=-1)
        early = bool(group.reads_inputs) or not group.learned
        return not early, by_rule, self._place[group.nodes[0]]


def unit_lengths(line: Sequence[Group], cut_bytes: Sequence[int], max_units: int) -> list[int]:
    """How many consecutive groups each unit has.

    A unit begins where something is multiplied: what costs nothing goes with what comes before
    it. While there are too many, the boundary goes whose two units are smallest together, a
    boundary that is expensive to cut sooner than a cheap one.

    Args:
        line: of :func:`ordered_groups`.
        cut_bytes: what crosses after each group.
        max_units: at least 1.

    Raises:
        ValueError: if ``max_units`` is not positive.
    """
    if max_units < 1:
        raise ValueError(f"max_units must be at least 1, got {max_units}")
    total_flops = max(1, sum(group.flops for group in line))
    most_bytes = max(1, *cut_bytes) if cut_bytes else 1
    units: list[list[int]] = []
    for i, group in enumerate(line):
        begun = bool(units) and any(line[k].flops for k in units[-1])
        if not units or (group.flops and begun):
            units.append([i])
        else:
            units[-1].append(i)

    def worth(i: int) -> float:
        """Of the boundary between units ``i`` and ``i + 1``."""
        flops = sum(line[k].flops for k in (*units[i], *units[i + 1]))
        return flops / total_flops - cut_bytes[units[i][-1]] / most_bytes / len(units)

    while len(units) > max_units:
        i = min(range(len(units) - 1), key=worth)
        units[i : i + 2] = [units[i] + units[i + 1]]
    return [len(unit) for unit in units]


def _users(node: fx.Node, group_of: Mapping[fx.Node, Group]) -> set[object]:
    """Other groups that take ``node``; the model's output is one."""
    found: set[object] = {
        id(group_of[user]) if user in group_of else "output" for user in node.users
    }
    return found - {id(group_of[node])}


def _taken(group: Group, group_of: Mapping[fx.Node, Group]) -> list[fx.Node]:
    """Values of other groups that ``group`` takes, each once."""
    sources = (s for n in group.nodes for s in n.all_input_nodes if is_operation(s))
    return [s for s in dict.fromkeys(sources) if group_of[s] is not group]
