# SPDX-License-Identifier: Apache-2.0
"""A config dataclass as the parameters of a node; the dataclass side is in flad_common.config."""

from __future__ import annotations

import typing
from dataclasses import MISSING
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from flad_common.config import C, Knob, from_mapping, knobs

_SCALAR_TYPES = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
}
_ARRAY_TYPES = {
    bool: Parameter.Type.BOOL_ARRAY,
    int: Parameter.Type.INTEGER_ARRAY,
    float: Parameter.Type.DOUBLE_ARRAY,
    str: Parameter.Type.STRING_ARRAY,
}


def from_node(cls: type[C], node: Node) -> C:
    """Declare every knob of ``cls`` as a parameter of ``node`` and read them back.

    Nested configs become dotted names (``speed.kp``), tuples become ROS arrays.

    Raises:
        ValueError: on what ``cls`` refuses, or a needed parameter that was not given.
        TypeError: on a knob whose type ROS parameters cannot hold.
    """
    values: dict[str, Any] = {}
    for knob in knobs(cls):
        if not node.has_parameter(knob.name):  # configure runs again after a cleanup
            _declare(knob, node)
        parameter = node.get_parameter_or(knob.name, Parameter(knob.name))
        if parameter.type_ is Parameter.Type.NOT_SET:
            continue  # from_mapping names every field that is missing
        *path, name = knob.name.split(".")
        inner = values
        for key in path:
            inner = inner.setdefault(key, {})
        inner[name] = parameter.value
    return from_mapping(cls, values)


def _declare(knob: Knob, node: Node) -> None:
    ros_type = _ros_type(knob)
    default: Any = ros_type
    # An empty tuple would lose its type on the way, so it stays "not set", which means the default.
    if knob.default is not MISSING and knob.default != ():
        default = list(knob.default) if isinstance(knob.default, tuple) else knob.default
    node.declare_parameter(knob.name, default, ParameterDescriptor(description=knob.text))


def _ros_type(knob: Knob) -> Parameter.Type:
    origin = typing.get_origin(knob.type)
    if origin is typing.Literal:
        return _SCALAR_TYPES[type(typing.get_args(knob.type)[0])]
    table, item = (_SCALAR_TYPES, knob.type)
    if origin is tuple:
        table, item = (_ARRAY_TYPES, typing.get_args(knob.type)[0])
    if item not in table:
        raise TypeError(f"a ROS parameter cannot hold {knob.name}: {knob.type_name}")
    return table[item]
