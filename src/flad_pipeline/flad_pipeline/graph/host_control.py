# SPDX-License-Identifier: Apache-2.0
"""``@host_control``: Python that looks at values stays Python, and is one operation of the graph.

A trace records what a model does with stand-ins for tensors. Where the model's Python asks a
tensor for its value or its shape (``if x.sum() > 0``, ``for i in range(x.shape[0])``), a stand-in
has no answer, and :mod:`flad_pipeline.graph.trace` refuses, with the line. What is decorated is
not looked into: it runs on the host, with real tensors, each time its unit runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from torch import fx, nn

_MARK = "__flad_host_control__"
F = TypeVar("F", bound=Callable[..., Any])


def host_control(target: F) -> F:
    """Keep a function, a ``forward`` method or a whole module class out of the trace.

    What is decorated must take its tensors as arguments and give tensors back (one, or a tuple or
    a dictionary of them); differentiation goes through it as always. It becomes one operation, so
    that no pipeline cuts inside of it. Shapes that come out may depend on values: then no cut
    falls before they are fixed again.

    Raises:
        TypeError: if a method other than ``forward`` is called while a model is traced; a graph
            holds no method of a module.

    Example:
        >>> import torch
        >>> @host_control
        ... def positive_part(x):
        ...     return x if bool((x >= 0).all()) else x.clamp_min(0.0)
        >>> positive_part(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """
    if isinstance(target, type):
        setattr(target, _MARK, True)
        return target

    @functools.wraps(target)
    def run(*args: Any, **kwargs: Any) -> Any:
        tracer = _tracer_of(args, kwargs)
        if tracer is None:
            return target(*args, **kwargs)
        if args and isinstance(args[0], nn.Module):
            raise TypeError(
                f"{target.__qualname__} is a method: of a module, @host_control takes the class "
                "or its forward; move this code into a function or into a module of its own"
            )
        return tracer.create_proxy("call_function", run, args, kwargs)

    setattr(run, _MARK, True)
    return run  # type: ignore[return-value]


def is_host_controlled(target: Any) -> bool:
    """Whether a function, or a module's class or ``forward``, is decorated."""
    if isinstance(target, nn.Module):
        kind = type(target)
        return bool(getattr(kind, _MARK, False) or getattr(kind.forward, _MARK, False))
    return bool(getattr(target, _MARK, False))


def _tracer_of(*values: Any) -> Any:
    """The tracer whose stand-ins are among ``values``, however deep; ``None`` if there is none."""
    found: list[Any] = []

    def look(value: Any) -> Any:
        if isinstance(value, fx.Proxy):
            found.append(value.tracer)
        return value

    fx.node.map_aggregate(list(values), look)
    return found[0] if found else None
