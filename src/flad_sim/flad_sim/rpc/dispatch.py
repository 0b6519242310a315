# SPDX-License-Identifier: Apache-2.0
"""A request in, the bytes of its reply out; nothing a client sends gets past here as an error."""

from __future__ import annotations

import inspect
import logging

from flad_sim.errors import PlaceTaken, SimError
from flad_sim.protocol.framing import (
    VOID_RESULT,
    Request,
    pack_protocol_error,
    pack_reply,
    value_error,
    value_result,
    void_error,
)
from flad_sim.rpc import (
    actors,
    batch,
    debug,
    episode,
    queries,
    traffic_lights,
    traffic_managers,
    vehicles,
    walkers,
)
from flad_sim.rpc.api import Api, Handler, Shape

_LOG = logging.getLogger(__name__)
_MAX_COMPLAINTS = 20  # of one subject

HANDLERS: dict[str, Handler] = {
    **episode.HANDLERS,
    **actors.HANDLERS,
    **vehicles.HANDLERS,
    **walkers.HANDLERS,
    **traffic_lights.HANDLERS,
    **traffic_managers.HANDLERS,
    **queries.HANDLERS,
    **batch.HANDLERS,
    **debug.HANDLERS,
}


class Dispatcher:
    """Answers requests; says each kind of complaint once."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._said: dict[str, set[str]] = {}
        self._arities = {name: _arity(handler) for name, handler in HANDLERS.items()}

    def answer(self, request: Request) -> bytes:
        """Run the call and pack its reply."""
        handler = HANDLERS.get(request.method)
        low, high = self._arities.get(request.method, (1, 0))
        if handler is None or not low <= len(request.args) <= high:
            text = (
                f"rpclib: server could not find function '{request.method:.80}' "
                f"with argument count {len(request.args) + 1}."
            )
            self.note(f"{request.method:.80} is not served ({len(request.args)} arguments)")
            return pack_protocol_error(request.msgid, text)
        try:
            result = handler.run(self._api, *request.args)
        except PlaceTaken as error:
            return self._error(request, handler, str(error))
        except SimError as error:
            return self._refuse(request, handler, str(error))
        except Exception as error:  # the boundary: one bad call must not end the world
            _LOG.exception("%s failed", request.method)
            return self._refuse(request, handler, f"internal error: {error!r}")
        match handler.shape:
            case Shape.VOID:
                result = VOID_RESULT
            case Shape.VALUE:
                result = value_result(result)
        return pack_reply(request.msgid, result)

    def _refuse(self, request: Request, handler: Handler, text: str) -> bytes:
        self.note(f"{_call(request)} refused: {text}")
        return self._error(request, handler, text)

    @staticmethod
    def _error(request: Request, handler: Handler, text: str) -> bytes:
        match handler.shape:
            case Shape.VOID:
                return pack_reply(request.msgid, void_error(text))
            case Shape.VALUE:
                return pack_reply(request.msgid, value_error(text))
        return pack_protocol_error(request.msgid, text)

    def note(self, text: str) -> None:
        """Log a complaint the first time it is heard; about one subject only so many."""
        subject = text.split("(")[0].split(":")[0]
        said = self._said.setdefault(subject, set())
        if text in said or len(said) > _MAX_COMPLAINTS:
            return
        said.add(text)
        if len(said) > _MAX_COMPLAINTS:
            text = f"{subject}: more complaints of this kind are not shown"
        _LOG.warning("%s", text)


def _call(request: Request) -> str:
    target = request.args[0] if request.args else ""
    return f"{request.method}({target})" if isinstance(target, int) else request.method


def _arity(handler: Handler) -> tuple[int, int]:
    low, high = 0, 0
    for p in list(inspect.signature(handler.run).parameters.values())[1:]:
        if p.kind is p.VAR_POSITIONAL:
            high = 255
        else:
            low += p.default is p.empty
            high += 1
    return low, high
