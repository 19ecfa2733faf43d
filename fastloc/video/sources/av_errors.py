"""Messages for PyAV's errors in terms of the source. Their own text is never used: it holds the address with its password."""

from __future__ import annotations

__all__ = ["reason"]

# by the names of PyAV's classes, so that this needs no PyAV
REASONS = {
    "FileNotFoundError": "is not there",
    "PermissionError": "there is no permission to read it",
    "IsADirectoryError": "is a folder",
    "ConnectionRefusedError": "the connection was refused",
    "ConnectionResetError": "the connection was broken off",
    "ConnectionAbortedError": "the connection was broken off",
    "BrokenPipeError": "the connection was broken off",
    "TimeoutError": "there was no answer in time",
    "ExitError": "there was no answer in time",
    "EOFError": "it ended before there was a picture",
    "InvalidDataError": "it is not a video, or is cut short before its index",
    "ProtocolNotFoundError": "this build of FFmpeg does not speak its protocol",
    "DemuxerNotFoundError": "this build of FFmpeg does not read its format",
    "DecoderNotFoundError": "this build of FFmpeg has no decoder for it",
    "OptionNotFoundError": "FFmpeg does not know one of the options",
    "HTTPBadRequestError": "the server calls the request wrong (400)",
    "HTTPUnauthorizedError": "the server wants a user and a password, or other ones (401)",
    "HTTPForbiddenError": "the server forbids it (403)",
    "HTTPNotFoundError": "the server does not have it (404)",
    "HTTPTooManyRequestsError": "the server was asked too often (429)",
    "HTTPOtherClientError": "the server refuses the request (4xx)",
    "HTTPServerError": "the server failed (5xx)",
    # FFmpeg's, also of a table that the file says has thousands of millions of rows
    "MemoryError": "FFmpeg finds no memory for what it says of itself; it is damaged, or there is too little memory",
    "ArgumentError": "it is a playlist, a list of files or a rare container, or an option has a value that FFmpeg does not take",
}
# by error number, where PyAV has no class of its own
NUMBERS = {
    5: "it cannot be reached or read: host or device are unknown or do not answer, or a file has its index at its end and the web server "
    "gives no ranges",
    16: "it is in use by another program",
    19: "there is no such device",
    101: "the network cannot be reached",
    113: "there is no way to the host",
}


def reason(error: BaseException) -> str:
    """The reason of an error, in words without names and addresses."""
    number = getattr(error, "errno", None)
    known = REASONS.get(type(error).__name__) or (NUMBERS.get(number) if isinstance(number, int) else None)
    return known or str(getattr(error, "strerror", None) or type(error).__name__)
