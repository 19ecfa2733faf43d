"""The one thread that runs the model: it serves the clients in turn, a frame each."""

from __future__ import annotations

import threading

from fastloc.live.session import Session
from fastloc.web_server.fault_log import FaultLog

__all__ = ["Engine"]


class Engine:
    """Sessions are added and removed by any thread. A client that sends more frames than others gets no more turns."""

    def __init__(self, faults: FaultLog) -> None:
        self._faults = faults
        self._sessions: list[Session] = []
        self._changed = threading.Condition()
        self._turn = 0
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="fastloc-live-engine", daemon=True)
        self._thread.start()

    def add(self, session: Session) -> None:
        """Add a client's session, whose frames are located in turn with the others'."""
        with self._changed:
            self._sessions.append(session)

    def remove(self, session: Session) -> None:
        """Serve it no more; a frame of it that is being located is the last."""
        session.close()
        with self._changed:
            if session in self._sessions:
                self._sessions.remove(session)

    @property
    def clients(self) -> int:
        """Number of clients that it serves."""
        return len(self._sessions)

    def wake(self) -> None:
        """Wake the thread: some session has a frame."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """End the thread, after the frame that it is at."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        """Serve one; in a function of its own, so that no client is held on to while there is nothing to do."""
        session = self._next()
        if session is None:
            # woken, or asked to end
            return not self._ended
        try:
            session.work(self.clients)
        # a fault of ours must not take the page away from everybody, and no SystemExit ends this thread alone
        except BaseException as error:
            self._faults.note("a frame could not be located", error)
            session.outbox.say(type="problem", field="", message=f"this frame could not be located: {error!r}", asked={})
        return not self._ended

    def _next(self) -> Session | None:
        """The next in turn that has a frame, waited for."""
        with self._changed:
            if not any(session.ready for session in self._sessions) and not self._ended:
                self._changed.wait()
            count = len(self._sessions)
            for place in range(self._turn, self._turn + count):
                if self._sessions[place % count].ready:
                    self._turn = place % count + 1
                    return self._sessions[place % count]
        return None
