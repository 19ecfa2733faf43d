"""Addresses without what they keep secret, for names, messages and logs."""

from __future__ import annotations

import re

__all__ = ["is_address", "redact", "redact_address"]

HIDDEN = "***"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
# "user:password@" to the last @ of the authority; where the password holds a / that nobody encoded, what comes before it is no port
_USER = re.compile(r"^(?:[^/?#]*:(?!\d{0,5}(?:[/?#]|$)).*@|[^/?#]*@)")
# an address within an address, percent-encoded
_INNER = re.compile(r"(?i)%3A%2F%2F.*%40")
# cameras that take user and password in the path: user=admin_password=1234_channel=1
_NAMED = re.compile(r"(?i)((?:user|login|pass|pwd|token|key|secret|sig|auth|cred|session)[^/=%]*(?:=|%3D)).*$")
_WORDS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def is_address(text: str) -> bool:
    """True for a text that begins with a scheme, as in "rtsp://"."""
    return _SCHEME.match(text) is not None


def redact_address(address: str) -> str:
    """An address as it may be shown: no user, password, query or fragment; another text without what is before an @ behind a colon.

    >>> redact_address("rtsp://admin:pa@ss@10.0.0.7:554/ch1?token=abc")
    'rtsp://***@10.0.0.7:554/ch1?***'
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return re.sub(r"^.*:.*@", HIDDEN + "@", address, flags=re.DOTALL)
    rest = _USER.sub(HIDDEN + "@", address[scheme.end() :])
    # the query may hold tokens under any name, encoded in any way
    place, mark, _ = re.match(r"(?s)([^?#]*)([?#]?)(.*)", rest).groups()  # type: ignore[union-attr]
    place = _INNER.sub("%3A%2F%2F" + HIDDEN + "%40", place)
    place = "/".join(_NAMED.sub(r"\1" + HIDDEN, part) for part in place.split("/"))
    return scheme[0] + place + (mark + HIDDEN if mark else "")


def redact(text: str) -> str:
    """A text with every address in it as it may be shown.

    >>> redact("cannot open 'http://me:pw@host/x.m3u8?sig=1'")
    "cannot open 'http://***@host/x.m3u8?***'"
    """
    return _WORDS.sub(lambda found: redact_address(found[0]), text)
