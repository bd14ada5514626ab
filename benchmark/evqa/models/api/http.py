"""The HTTP client below the APIs' own: a reply has a deadline and a largest size, and goes to one address only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import httpx2

MAX_REPLY_BYTES = 4 * 2**20
"""A longer reply is refused: the longest honest one (a few thousand tokens) is far below."""

CONNECT_SECONDS = 20.0

MAX_SECONDS = 86400.0
"""The longest timeout: sockets take no endless one."""

DEADLINE = "evqa_deadline"


class StatusError(Exception):
    """An HTTP answer that is no success, with its body."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.content = status, headers, content


class ReplyTooLongError(httpx2.TransportError):
    """A reply that does not end within the bytes that a reply may have."""


def http_client(timeout: float, max_bytes: int = MAX_REPLY_BYTES) -> httpx2.Client:
    """HTTP client that ends a response about `timeout` seconds after the request, or above `max_bytes`.

    httpx's own timeout starts again with every byte, so that a slow sender is never timed out. Redirects are not
    followed: a request with a key and a video goes where it was sent. An answer that is no success raises
    `StatusError`, so that its body reaches us as it came.
    """
    if not 0 < timeout <= MAX_SECONDS:
        raise ValueError(f"timeout is in seconds, above 0 and at most {MAX_SECONDS:.0f} (a day), got {timeout}")

    def start(request: httpx2.Request) -> None:
        request.extensions[DEADLINE] = time.monotonic() + timeout

    def bound(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.RemoteProtocolError("a packed reply, where none was asked for")
        deadline = response.request.extensions[DEADLINE]
        assert isinstance(response.stream, httpx2.SyncByteStream), response.stream
        response.stream = _BoundedStream(response.stream, deadline, max_bytes)
        if not response.is_success:
            raise StatusError(response.status_code, response.headers, _content(response))

    return httpx2.Client(
        timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        headers={"accept-encoding": "identity"},
        event_hooks={"request": [start], "response": [bound]},
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        follow_redirects=False,
    )


def check_base_url(url: str) -> str:
    """A base URL that holds no secret; a user name or a query in it is refused."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"a base URL is like http://localhost:8000/v1, got one without scheme or host: {url!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            f"the base URL of {parts.hostname} holds a user name, a query or a fragment: give the bare address; "
            f"keys come from the environment"
        )
    return url.rstrip("/")


def _content(response: httpx2.Response) -> bytes:
    """The body of an error answer; empty where it breaks off."""
    try:
        return response.read()
    except httpx2.HTTPError:
        return b""


class _BoundedStream(httpx2.SyncByteStream):
    """The bytes of a reply, up to a time and a number."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: float, max_bytes: int) -> None:
        self._stream, self._deadline, self._left = stream, deadline, max_bytes

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise ReplyTooLongError("the reply is longer than a reply may be")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the reply did not end in time")
            yield chunk

    def close(self) -> None:
        self._stream.close()
