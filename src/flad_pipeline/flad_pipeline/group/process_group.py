# SPDX-License-Identifier: Apache-2.0
"""The c10d backend ``dds``: what PyTorch's pipelines and DistributedDataParallel send through.

A group is a view on a :class:`Transport`; making one and destroying it costs less than a
millisecond, because nothing is connected, and that is what recovery builds on.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from flad_common.error_codes import PEER_LATE, TENSOR_MISMATCH
from flad_pipeline.group import collectives
from flad_pipeline.group.deadlines import GroupError
from flad_pipeline.group.transport import Transport
from flad_pipeline.group.work import DoneWork, Lane, LaneWork, ReceiveWork
from flad_pipeline.wire import Encoding, ErrorFeedback, UnusableTensorError, decode_into, encode

BACKEND = "dds"

_COLLECTIVE_TAG = -1
"""Tags of collectives count down from here; users' tags are not negative."""


@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """What a group needs beside rank and size."""

    transport: Transport
    epoch: int
    members: tuple[str, ...]
    """By rank."""
    timeout_s: float | None = None
    """Of every wait; None: the transport's own."""
    encoding: Encoding = Encoding.EXACT
    """Of what is sent from member to member; collectives are exact."""


class DdsProcessGroup(dist.ProcessGroup):
    """Members of one epoch, seen from one of them.

    Sends copy the tensor and return; a receive waits in its ``wait``. Collectives run in a thread
    of the group, in the order of their calls, which must be the same on every member.
    """

    def __init__(self, options: GroupOptions, name: str) -> None:
        self._name = options.transport.name
        super().__init__(options.members.index(self._name), len(options.members))  # type: ignore[call-arg]
        self._options = options
        self._transport = options.transport
        self._id = zlib.crc32(name.encode())
        self._feedback = ErrorFeedback() if options.encoding is not Encoding.EXACT else None
        self._lane = Lane(f"collectives of {self._name}")
        self._num_collectives = 0
        self.step = 0
        """Optimizer step that packets name, for whoever reads them."""

    def getBackendName(self) -> str:  # noqa: N802
        """The backend's name, as PyTorch asks for it."""
        return BACKEND

    # --- from member to member ------------------------------------------------------------------

    def send(self, tensors: Sequence[torch.Tensor], dst: int, tag: int = 0) -> dist.Work:
        """Copy a tensor into the outbox; blocks only while that is full."""
        tensor = _only(tensors, "send")
        self._send(tensor, dst, tag, self._options.encoding)
        return DoneWork()

    def recv(self, tensors: Sequence[torch.Tensor], src: int, tag: int = 0) -> dist.Work:
        """Reserve the next tensor from a member; :meth:`ReceiveWork.wait` fills it in."""
        tensor = _only(tensors, "recv")
        slot = self._transport.expect(
            self._options.members[src], epoch=self._options.epoch, group=self._id, tag=tag
        )

        def receive(timeout_s: float | None) -> None:
            message = self._transport.receive(
                slot, epoch=self._options.epoch, timeout_s=timeout_s or self._options.timeout_s
            )
            try:
                decode_into(
                    tensor,
                    dtype=message.dtype,
                    encoding=message.encoding,
                    shape=message.shape,
                    chunks=message.chunks,
                )
            except UnusableTensorError as error:
                raise GroupError(
                    TENSOR_MISMATCH, f"{slot} from {slot.source} at {self._name}: {error}"
                ) from error

        return ReceiveWork(receive, lambda: self._transport.has_arrived(slot), tensor)

    # --- all together ---------------------------------------------------------------------------

    def barrier(self, opts: Any = None) -> dist.Work:
        """Wait for every member."""
        return self._together("barrier", [], opts, collectives.barrier)

    def broadcast(self, tensors: list[torch.Tensor], opts: Any) -> dist.Work:  # type: ignore[override]
        """Give everybody the root's tensor."""
        tensor, root = _only(tensors, "broadcast"), opts.rootRank
        return self._together(
            "broadcast", tensors, opts, lambda peers: collectives.broadcast(peers, tensor, root)
        )

    def allgather(  # type: ignore[override]
        self,
        output_tensors: list[list[torch.Tensor]],
        input_tensors: list[torch.Tensor],
        opts: Any = None,
    ) -> dist.Work:
        """Give everybody everybody's tensor."""
        tensor, outputs = _only(input_tensors, "allgather"), output_tensors[0]
        return self._together(
            "allgather",
            outputs,
            opts,
            lambda peers: collectives.allgather(peers, outputs, tensor),
        )

    def _allgather_base(
        self, output: torch.Tensor, tensor: torch.Tensor, opts: Any = None
    ) -> dist.Work:
        outputs = list(output.view(self.size(), *tensor.shape).unbind())
        return self.allgather([outputs], [tensor], opts)

    def allreduce(self, tensors: list[torch.Tensor], opts: Any = None) -> dist.Work:  # type: ignore[override]
        """Reduce over everybody, in the order of the ranks."""
        tensor = _only(tensors, "allreduce")
        op = "SUM" if opts is None else _name_of(opts.reduceOp)
        return self._together(
            "allreduce", tensors, opts, lambda peers: collectives.allreduce(peers, tensor, op)
        )

    # --- the end --------------------------------------------------------------------------------

    def abort(self) -> None:
        """End the epoch for everybody."""
        self._transport.abort(f"{self._name} gave the group up")

    def shutdown(self) -> None:
        """End the group's thread; the transport lives on."""
        self._lane.close()

    def drain(self) -> None:
        """Wait until everything that was sent has arrived, unless the epoch is over.

        Raises:
            GroupError: if somebody did not take it before the deadline.
        """
        if not self._transport.is_in(self._options.epoch):
            return
        try:
            self._transport.drain(self._options.timeout_s)
        except GroupError as error:
            if error.code is PEER_LATE:
                raise  # else somebody is in a later epoch already, or gone: the next group tells

    def _together(self, what: str, result: list[torch.Tensor], opts: Any, run: Any) -> dist.Work:
        peers = _Peers(self, _COLLECTIVE_TAG - self._num_collectives)
        self._num_collectives += 1
        work = LaneWork(f"{what} of {self._name}", lambda: run(peers), result)
        self._lane.submit(work)
        return work

    def _send(self, tensor: torch.Tensor, rank: int, tag: int, encoding: Encoding) -> None:
        destination = self._options.members[rank]
        self._transport.send(
            destination,
            encode(
                tensor,
                encoding,
                chunk_bytes=self._transport.chunk_bytes_to(destination, epoch=self._options.epoch),
                feedback=self._feedback,
                slot=(destination, tag, tuple(tensor.shape)),
            ),
            epoch=self._options.epoch,
            group=self._id,
            tag=tag,
            step=self.step,
            timeout_s=self._options.timeout_s,
        )


class _Peers:
    """One collective's sends and receives."""

    def __init__(self, group: DdsProcessGroup, tag: int) -> None:
        self.rank, self.size = group.rank(), group.size()
        self._group = group
        self._tag = tag

    def send(self, tensor: torch.Tensor, rank: int) -> None:
        """Queue ``tensor`` for a member."""
        self._group._send(tensor, rank, self._tag, Encoding.EXACT)

    def receive_into(self, tensor: torch.Tensor, rank: int) -> None:
        """Wait for the next tensor of a member."""
        self._group.recv([tensor], rank, self._tag).wait()


def join(options: GroupOptions) -> dist.ProcessGroup:
    """Enter an epoch and make its group PyTorch's default one.

    Raises:
        ValueError: on an epoch or members that the transport refuses.
        RuntimeError: if there is a default group already; :func:`leave` it first.
    """
    if dist.is_initialized():
        raise RuntimeError("this process is in a group already; leave() it before it joins another")
    if BACKEND.upper() not in dist.Backend._plugins:
        dist.Backend.register_backend(BACKEND, _create, extended_api=True, devices=["cpu"])
    options.transport.enter(options.epoch, options.members)
    hook = sys.excepthook
    dist.init_process_group(
        BACKEND,
        store=HashStore(),
        rank=options.members.index(options.transport.name),
        world_size=len(options.members),
        pg_options=options,
    )
    sys.excepthook = hook  # PyTorch wraps it anew for each group: groups come and go here
    group = dist.group.WORLD
    assert isinstance(group, DdsProcessGroup)
    return group


def leave(*, drain: bool = False) -> None:
    """Take the default group down; the transport stays in its epoch until it enters the next.

    Args:
        drain: wait until the others have all that was sent: whoever ends its process next must.

    Raises:
        GroupError: if somebody did not take it before the deadline.
    """
    group = dist.group.WORLD
    dist.destroy_process_group()
    if isinstance(group, DdsProcessGroup):
        group.shutdown()
        if drain:
            group.drain()


@contextmanager
def joined(
    transport: Transport,
    *,
    epoch: int,
    members: Sequence[str],
    timeout_s: float | None = None,
    encoding: Encoding = Encoding.EXACT,
) -> Iterator[dist.ProcessGroup]:
    """A default group for the length of a block; see :func:`join`.

    A block that ends well ends when the others have all that it sent.
    """
    options = GroupOptions(
        transport=transport,
        epoch=epoch,
        members=tuple(members),
        timeout_s=timeout_s,
        encoding=encoding,
    )
    group = join(options)
    try:
        yield group
    except BaseException:
        leave()
        raise
    leave(drain=True)


def _create(opts: Any, options: GroupOptions | None) -> DdsProcessGroup:
    """What PyTorch calls to make a group; a sub-group takes the default one's transport."""
    if options is None:
        world = dist.group.WORLD
        if not isinstance(world, DdsProcessGroup):
            raise ValueError("the first dds group needs GroupOptions; flad_pipeline.join makes it")
        whole = world._options
        options = GroupOptions(
            transport=whole.transport,
            epoch=whole.epoch,
            members=tuple(whole.members[rank] for rank in opts.global_ranks_in_group),
            timeout_s=whole.timeout_s,
            encoding=whole.encoding,
        )
        return DdsProcessGroup(options, opts.group_id)
    return DdsProcessGroup(options, "world")


def _only(tensors: Sequence[torch.Tensor], what: str) -> torch.Tensor:
    if len(tensors) != 1:
        raise ValueError(f"{what} takes one tensor, got {len(tensors)}")
    return tensors[0]


def _name_of(op: Any) -> str:
    """Of a reduction, which PyTorch gives as a ``ReduceOp`` or as its kind."""
    return str(getattr(op, "op", op).name)
