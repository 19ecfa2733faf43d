"""Limits of wrong tokens, from one network and from all together."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable

from fastloc.web_server.rate import Rate

__all__ = ["Attempts", "network"]

# at once, and a second; a person mistypes, a program tries all there are
EACH, EACH_RATE = 10, 1 / 6
EVERYBODY, EVERYBODY_RATE = 100, 100 / 60
# bits of an IPv6 address that one subscriber has for himself
PREFIX = 64


class Attempts:
    """Counts wrong tokens. A network that has used up its share gets no comparison, right or wrong, until there is room again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._everybody = Rate(EVERYBODY_RATE, burst=EVERYBODY, clock=clock)
        self._each: dict[str, Rate] = {}

    def wait(self, address: str) -> int:
        """Seconds until a token from this address is looked at, 0 for at once."""
        rates = [self._everybody, *([found] if (found := self._each.get(network(address))) else [])]
        return max(0 if rate.left >= 1 else math.ceil((1 - rate.left) / rate.rate) for rate in rates)

    def failed(self, address: str) -> None:
        """Count a wrong token from this address."""
        # a network at its full share again is forgotten, so that there are never more of them than recent wrong tokens
        self._each = {name: rate for name, rate in self._each.items() if rate.left < EACH}
        self._everybody.allows()
        self._each.setdefault(network(address), Rate(EACH_RATE, burst=EACH, clock=self._clock)).allows()


def network(address: str) -> str:
    """The addresses that one person has: an IPv4 address, or a /64 of IPv6 ones. What is no address stands for itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), PREFIX), strict=False))
