"""Limits of a service and of its requests, and how it makes batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from fastloc.errors import FastlocError
from fastloc.imaging.reduced_picture import check_decode

__all__ = ["Refused", "Settings", "ending"]

# seconds for a connection's end beyond those for a request and its body
SPARE = 10.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits of a request and of the service.

    Attributes:
        methods: methods beside the localizer's own that a request may ask for
        pixels: of one picture
        decode: "full", or "reduced" for JPEG files: see a call of `fastloc.Localizer`
        cells: pixels of one picture times the texts to look for in it
        size: bytes of a request
        pictures: of one request
        texts: of one request
        letters: of one text
        queue: pictures that may wait or be worked on, of all requests together; beyond it requests are refused with 429
        batch: pictures of one input size that the model takes at once; None: as many as the localizer does
        wait: seconds that a picture waits for others to fill a batch
        seconds: for a request, from its last byte to its answer
        body: seconds for sending a request
        addresses: True if a request may name a picture by an http(s) address, which the service then fetches
        head: seconds for a request's head, a TLS handshake, and between two requests of a connection
        drain: seconds for the requests that are there when the service is asked to end
        clients, connections: connections that one address may have at least, and all together
    """

    methods: tuple[str, ...] = ()
    pixels: int = 16_000_000
    decode: str = "full"
    cells: int = 256_000_000
    size: int = 32_000_000
    pictures: int = 16
    texts: int = 64
    letters: int = 500
    queue: int = 64
    batch: int | None = None
    wait: float = 0.005
    seconds: float = 30.0
    body: float = 20.0
    addresses: bool = False
    head: float = 10.0
    drain: float = 30.0
    clients: int = 64
    connections: int = 512

    def __post_init__(self) -> None:
        check_decode(self.decode)
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= 0 and (value or name in ("wait", "addresses"))):
                raise FastlocError(f"{name} must be a number above 0, got {value!r}")

    @property
    def stuck(self) -> float:
        """Seconds after which a request's connection is ended, whatever it waits for."""
        return self.body + self.seconds + SPARE


class Refused(FastlocError):
    """A request that is not answered. status: HTTP's; after: seconds after which it may be sent again."""

    def __init__(self, status: int, message: str, after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.after = status, after


def ending() -> Refused:
    """The refusal of a service that ends."""
    return Refused(503, "the service is about to end; ask another one", 1)
