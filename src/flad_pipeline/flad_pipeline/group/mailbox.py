# SPDX-License-Identifier: Apache-2.0
"""Messages that have arrived, until somebody takes them. No threads: the transport has the lock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flad_pipeline.group.channel import Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A place in the order of receiving: the ``number``-th message of a source, group and tag."""

    source: str
    group: int
    tag: int
    number: int

    def __str__(self) -> str:
        return f"message {self.number} of tag {self.tag} in group {self.group:08x}"


class Mailbox:
    """Sorts messages by source, group and tag; within these, by order of arrival.

    Who wants to receive reserves a slot at once and may take it later: messages go to slots in the
    order of the reservations, whoever asks first.
    """

    def __init__(self) -> None:
        self._reserved: Counter[tuple[str, int, int]] = Counter()
        self._arrived: Counter[tuple[str, int, int]] = Counter()
        self._messages: dict[Slot, Message] = {}
        self._num_bytes: Counter[str] = Counter()

    def reserve(self, source: str, group: int, tag: int) -> Slot:
        """The next slot."""
        key = (source, group, tag)
        slot = Slot(source=source, group=group, tag=tag, number=self._reserved[key])
        self._reserved[key] += 1
        return slot

    def put(self, message: Message) -> None:
        """Store what has arrived."""
        key = (message.source, message.group, message.tag)
        slot = Slot(
            source=message.source,
            group=message.group,
            tag=message.tag,
            number=self._arrived[key],
        )
        self._arrived[key] += 1
        self._messages[slot] = message
        self._num_bytes[message.source] += message.num_bytes

    def take(self, slot: Slot) -> Message | None:
        """The message of a slot, once; None if it has not arrived."""
        message = self._messages.pop(slot, None)
        if message is not None:
            self._num_bytes[slot.source] -= message.num_bytes
        return message

    def has(self, slot: Slot) -> bool:
        """Whether the message of a slot lies here."""
        return slot in self._messages

    def num_bytes(self, source: str) -> int:
        """Held of one source."""
        return self._num_bytes[source]

    def describe(self, source: str) -> str:
        """What of a source lies here, for an error message."""
        waiting = [slot for slot in self._messages if slot.source == source]
        return ", ".join(str(slot) for slot in waiting[:4]) or "nothing"
