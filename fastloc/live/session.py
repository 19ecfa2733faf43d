"""One client: its waiting frame, its settings, and the answers to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fastloc.errors import FastlocError, TextError
from fastloc.live.limits import Limits, decoded, measured
from fastloc.live.messages import Refused
from fastloc.live.method_pool import Methods, Setup
from fastloc.live.outbox import SendBuffer
from fastloc.live.protocol import Answer, Sent, write_answer
from fastloc.live.response import answered
from fastloc.live.settings import changed
from fastloc.video.sources.frame import Frame
from fastloc.web_server.rate import Rate

__all__ = ["Counted", "Session", "Waiting"]

# answers of a shared source that a client may have unseen: one that it draws, and one on its way
UNSEEN = 2


@dataclass(slots=True)
class Counted:
    """Frames of one client: those that came, were answered, and were dropped for a newer one, refused or broken."""

    received: int = 0
    answered: int = 0
    dropped: int = 0
    refused: int = 0


@dataclass(frozen=True, eq=False)
class Waiting:
    """A frame to be located. facts go back with the answer; picture makes the JPEG that goes back too, where only the server has it."""

    frame: Frame
    facts: dict[str, Any]
    picture: Callable[[], bytes] = bytes


class Session:
    """Frames come in on any thread, one at a time waits, and the engine's thread takes it; settings are made ready on another thread."""

    def __init__(self, number: int, setup: Setup, outbox: SendBuffer, limits: Limits, wake: Callable[[], None]) -> None:
        self.number, self.outbox, self.limits = number, outbox, limits
        self.counted = Counted()
        self.setup, self._before = setup, setup
        self._wake, self._lock = wake, threading.Lock()
        self._waiting: Waiting | None = None
        self._rate = Rate(limits.fps)
        self._asked: dict[str, Any] = {}
        self._unseen = 0
        self.closed = False

    def receive(self, sent: Sent) -> None:
        """Take a frame in from the client; one that is too much, or no picture, is refused with a word."""
        self.counted.received += 1
        try:
            if not self._rate.allows():
                raise FastlocError(f"more than {self.limits.fps:g} frames a second")
            height, width = measured(sent.picture, self.limits)
            if max(height, width) != sent.side:
                raise FastlocError(f"the frame is {width} x {height}, and its header says {sent.side}")
        except FastlocError as error:
            self._refuse(sent.id, error)
            return
        frame = Frame(sent.id, sent.time / 1000, time.monotonic(), (height, width), lambda: decoded(sent.picture))
        self.offer(Waiting(frame, {"id": sent.id, "time": sent.time}))

    def offer(self, waiting: Waiting) -> None:
        """Put a frame in place of the one that waits."""
        with self._lock:
            if self.closed:
                return
            self.counted.dropped += self._waiting is not None
            self._waiting = waiting
        self._wake()

    def seen(self) -> None:
        """Note that the client has drawn an answer."""
        with self._lock:
            self._unseen = max(self._unseen - 1, 0)
        self._wake()

    @property
    def ready(self) -> bool:
        """True if a frame waits for location and the client takes answers."""
        return self._waiting is not None and self._unseen < UNSEEN

    def work(self, clients: int) -> None:
        """Locate the frame that waits and put the answer out. Called by the engine's thread alone."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
            setup = self.setup
        if waiting is None:
            return
        started = time.monotonic()
        try:
            facts, heat = answered(waiting.frame, setup)
        except FastlocError as error:
            self._fail(waiting, setup, error)
            return
        self._before = setup
        picture = waiting.picture()
        self.counted.answered += 1
        facts |= waiting.facts | {
            "queue": round(1000 * (started - waiting.frame.captured), 2), "age": round(1000 * waiting.frame.age, 2),
            "size": waiting.frame.size[::-1], "counted": asdict(self.counted), "clients": clients,
        }  # fmt: skip
        # who sees frames of its own knows what it has in its hands; an answer about a source has to be said to have been seen
        with self._lock:
            self._unseen += bool(picture)
        if self.outbox.answer(write_answer(Answer(facts, heat, picture))):
            # the one before will never be seen
            with self._lock:
                self._unseen -= bool(picture)
                self.counted.answered -= 1
                self.counted.dropped += 1

    def ask(self, asked: dict[str, Any]) -> bool:
        """Note the client's changes. Returns True if none were noted before: `change` is then to be called on another thread."""
        with self._lock:
            first = not self._asked
            self._asked |= asked
        return first and bool(asked)

    def change(self, methods: Methods) -> None:
        """Make the requested setup ready, and put it in the old one's place; frames go on meanwhile."""
        with self._lock:
            asked, self._asked = self._asked, {}
            before = self.setup
        if self.closed:
            return
        try:
            setup = methods.setup(changed(before.settings, asked, self.limits, methods.names), before)
        except FastlocError as error:
            # said beside the input that it is about
            field = error.field if isinstance(error, Refused) else "texts" if isinstance(error, TextError) else ""
            self.outbox.say(type="problem", field=field, message=str(error), asked=asked)
            return
        with self._lock:
            self.setup = setup
        self.tell(setup)

    def tell(self, setup: Setup) -> None:
        """Send the client the settings in force."""
        self.outbox.say(type="settings", revision=setup.revision, notes=list(setup.notes), **setup.settings.to_dict())

    def close(self) -> None:
        """Let go of the frame that waits; none is taken any more."""
        with self._lock:
            self.closed, self._waiting = True, None

    def _refuse(self, number: int, error: Exception) -> None:
        # by the loop's thread and the engine's
        with self._lock:
            self.counted.refused += 1
        self.outbox.say(type="refused", id=number, message=str(error))

    def _fail(self, waiting: Waiting, setup: Setup, error: FastlocError) -> None:
        """A frame that could not be located; where the setup has never located one, the one before it is put back."""
        self._refuse(int(waiting.facts.get("id", -1)), error)
        if setup is self._before or not waiting.frame.converted:
            return
        with self._lock:
            if self.setup is setup:
                self.setup = self._before
        self.outbox.say(type="problem", field="", message=str(error), asked={})
        self.tell(self._before)
