"""The last frames of a file, where decoding several at once has lost them.

Draining a decoder that works on several frames at once ends at the first damaged packet among those under way, and PyAV cannot ask it for
the frames behind. The packets of the last group are therefore kept, and are decoded once more, one after another, if frames are missing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import av

__all__ = ["Tail"]

# no decoder has more packets under way: 16 threads, and 16 frames to put in order
UNDER_WAY = 64
# a file without key frames would be kept whole
BYTES = 64 << 20


@dataclass(slots=True)
class _Group:
    """Packets from one key frame to the next, and the number refused meanwhile."""

    packets: list[Any] = field(default_factory=list)
    refused: int = 0


class Tail:
    """Packets since a key frame that lies at least `UNDER_WAY` packets back, and what became of them."""

    def __init__(self) -> None:
        self._groups: deque[_Group] = deque([_Group()])
        self._sent = self._came = self._refused = self._bytes = 0
        self._last: int | None = None

    def sent(self, packet: Any) -> None:
        """A packet went into the decoder."""
        self._sent += 1
        if packet.is_keyframe:
            self._groups.append(_Group())
        self._groups[-1].packets.append(packet)
        self._bytes += packet.size
        while len(self._groups) > 1 and (self._enough() or self._bytes > BYTES):
            self._bytes -= sum(each.size for each in self._groups.popleft().packets)
        if self._bytes > BYTES:
            self._groups[-1].packets.clear()
            self._bytes = 0

    def came(self, frame: av.VideoFrame) -> None:
        """A frame came out."""
        self._came += 1
        if frame.pts is not None:
            self._last = frame.pts

    def failed(self) -> None:
        """A packet was refused."""
        self._refused += 1
        self._groups[-1].refused += 1

    @property
    def lost(self) -> int:
        """Packets of which nothing is known. Not all of them stand for a frame that is shown."""
        return self._sent - self._came - self._refused

    def again(self, context: Any) -> tuple[list[av.VideoFrame], int]:
        """The frames behind the last one that came, from a fresh decoder of the same stream; and how many more packets it refused."""
        context.thread_type, context.thread_count = "SLICE", 1
        frames: list[av.VideoFrame] = []
        refused = 0
        for packet in [*(each for group in self._groups for each in group.packets), None]:
            try:
                frames += context.decode(packet)
            except av.FFmpegError:
                refused += 1
        behind = [frame for frame in frames if frame.pts is not None and (self._last is None or frame.pts > self._last)]
        return behind, max(0, refused - sum(group.refused for group in self._groups))

    def _enough(self) -> bool:
        return sum(len(group.packets) for group in self._groups) - len(self._groups[0].packets) >= UNDER_WAY
