# SPDX-License-Identifier: Apache-2.0
"""How the computers of a staged model meet: the owner calls, the others say which model they have.

A computer's transport lives as long as its process does; what ends is an epoch. The owner begins
each one under a number that was never used before, so that nothing of an earlier one is taken for
this one's, and the others follow whatever it calls. No computer closes its topics because of a
loss: the rest would take that for another loss, and they would part for ever.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from flad_common.error_codes import GROUP_OVER, MODEL_REFUSED, PEER_LATE, FladError
from flad_pipeline.group.deadlines import GroupError
from flad_pipeline.group.process_group import GroupOptions, join, leave
from flad_pipeline.group.transport import Transport
from flad_pipeline.partition import Partition

OpenTransport = Callable[[], Transport]
"""Makes this computer's transport; who else is there need not be known yet."""

_HELLO_TAG = 0  # frames have tags above
_HASH_CHARS = 64
_LONGEST_STEP = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What every computer says of itself."""

    model: str
    """The model's hash."""
    cuts: str
    """The partition's."""

    @staticmethod
    def of(model_hash: str, partition: Partition) -> Hello:
        """Of this computer."""
        text = json.dumps(partition.as_json(), sort_keys=True)
        return Hello(model=model_hash[:_HASH_CHARS], cuts=hashlib.sha256(text.encode()).hexdigest())

    def as_tensor(self) -> torch.Tensor:
        """Of one length for all."""
        text = f"{self.model:{_HASH_CHARS}}{self.cuts:{_HASH_CHARS}}"
        return torch.tensor(list(text.encode()), dtype=torch.uint8)

    @staticmethod
    def from_tensor(said: torch.Tensor) -> Hello:
        """What somebody has said."""
        text = bytes(said.tolist()).decode(errors="replace")
        return Hello(model=text[:_HASH_CHARS].strip(), cuts=text[_HASH_CHARS:].strip())

    def complaint(self, other: Hello, name: str, owner: str) -> str:
        """Why the computer ``name`` cannot serve an owner that says this; empty if it can."""
        if other.model != self.model:
            return (
                f"{name} has the model {other.model}, {owner} has {self.model}; give both the "
                "same file"
            )
        if other.cuts != self.cuts:
            return f"{name} and {owner} cut the model differently; give both the same stages"
        return ""


NO_HELLO = Hello(model="", cuts="").as_tensor()


class Member:
    """One computer in the group of the moment, or in none. Single-threaded but for what says so.

    Args:
        name: of this computer.
        partition: names all computers, the owner first.
        hello: what it says of itself.
        open_transport: called once, when the transport is needed.
    """

    def __init__(
        self, name: str, partition: Partition, hello: Hello, open_transport: OpenTransport
    ) -> None:
        self.name, self.hello = name, hello
        self.names = tuple(span.vehicle for span in partition.stages)
        self._open = open_transport
        self._transport: Transport | None = None
        self._group: dist.ProcessGroup | None = None

    @property
    def transport(self) -> Transport:
        """Opened if it is not."""
        if self._transport is None:
            self._transport = self._open()
        return self._transport

    @property
    def is_in(self) -> bool:
        """Whether there is a group that nobody has ended yet."""
        return self._group is not None and self.transport.is_in(self.transport.membership.epoch)

    def enter(self, epoch: int) -> dist.ProcessGroup:
        """Be in the group of an epoch that is above all before."""
        self._group = join(GroupOptions(transport=self.transport, epoch=epoch, members=self.names))
        return self._group

    def leave(self, reason: str) -> None:
        """End the group for everybody, if it has not ended: the others hear the reason."""
        if self._group is not None:
            self._group = None
            self.transport.abort(reason)
            leave()

    def interrupt(self, reason: str) -> None:
        """End a wait of another thread; from any thread."""
        if (transport := self._transport) is not None:
            transport.abort(reason)

    def close(self, reason: str) -> None:
        """Leave, and let go of the topics."""
        self.leave(reason)
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()


class Call:
    """The owner's call for a meeting, in an epoch of its own: it waits for everybody's answer."""

    def __init__(self, member: Member, epoch: int) -> None:
        self._member = member
        self.group = member.enter(epoch)
        ranks = range(1, len(member.names))
        for rank in ranks:
            self.group.send([member.hello.as_tensor()], rank, _HELLO_TAG)
        self._answers = {rank: NO_HELLO.clone() for rank in ranks}
        self._works = {
            rank: self.group.recv([answer], rank, _HELLO_TAG)
            for rank, answer in self._answers.items()
        }

    def wait(self, deadline_s: float) -> None:
        """Return when all have answered; to be called again after a :class:`GroupError`.

        Raises:
            GroupError: at the deadline, naming who has not answered, or because the epoch is over.
            FladError: (MODEL_REFUSED) if somebody has another model, or cuts it differently.
        """
        names, owner = self._member.names, self._member.name
        for rank, work in self._works.items():
            left_s = max(1e-3, deadline_s - time.monotonic())
            try:
                work.wait(datetime.timedelta(seconds=left_s))
            except GroupError as error:
                if error.code is not PEER_LATE:
                    raise
                raise GroupError(
                    PEER_LATE,
                    f"the stage on {names[rank]} does not answer: {error.detail}",
                    names[rank],
                ) from error
            said = Hello.from_tensor(self._answers[rank])
            if complaint := self._member.hello.complaint(said, names[rank], owner):
                raise FladError(MODEL_REFUSED, complaint)


class Epochs:
    """Numbers of the owner's epochs: each above all that any computer may have been in.

    A restarted owner does not know how far the others are; they refuse what is below. Their refusal
    doubles the next step, so that few of them suffice whatever the distance.
    """

    def __init__(self, first: int) -> None:
        self._last, self._step = first - 1, 1

    def take(self) -> int:
        """The next one."""
        self._last += self._step
        return self._last

    def ended(self, error: GroupError | None) -> None:
        """How a meeting went; None: well."""
        refused = error is not None and error.code is GROUP_OVER
        self._step = min(2 * self._step, _LONGEST_STEP) if refused else 1


def answer(member: Member, epoch: int) -> dist.ProcessGroup:
    """Any other computer's part of a meeting in an epoch that the owner has called.

    Raises:
        GroupError: if the owner is lost or ends it.
        FladError: (MODEL_REFUSED) if it has another model, or cuts it differently; it knows.
    """
    group = member.enter(epoch)
    said = NO_HELLO.clone()
    group.recv([said], 0, _HELLO_TAG).wait()
    group.send([member.hello.as_tensor()], 0, _HELLO_TAG)
    owner = Hello.from_tensor(said)
    if complaint := owner.complaint(member.hello, member.name, member.names[0]):
        member.transport.drain()  # the owner refuses, and should say the same
        raise FladError(MODEL_REFUSED, complaint)
    return group
