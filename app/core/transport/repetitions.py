"""Which requests are sent once more? A few of those that may be, within the deadline of their call."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ReadTimeoutError, SSLError
from urllib3.util import Retry

from app.core.transport.deadline import time_left

_is_once: ContextVar[bool] = ContextVar("is_once", default=False)


@contextmanager
def once() -> Iterator[None]:
    """Have a request in the block not repeated once it was sent: what it asks for may have been done."""
    before = _is_once.set(True)
    try:
        yield
    finally:
        _is_once.reset(before)


class _Retry(Retry):
    """Repeats nothing for which the time of the call would not suffice, nor what timed out itself."""

    def increment(self, *args: Any, **context: Any) -> Any:
        match context.get("error"):
            case error if _is_once.get() and not isinstance(error, ConnectTimeoutError | NewConnectionError):
                raise MaxRetryError(context["_pool"], args[1], error)
            case ReadTimeoutError() as timeout:
                raise timeout
            case ConnectTimeoutError() as timeout:
                raise MaxRetryError(context["_pool"], args[1], timeout)
            case SSLError(args=(ssl.SSLCertVerificationError(), *_)) as refused:  # it would be the same certificate
                raise MaxRetryError(context["_pool"], args[1], refused)
        following = super().increment(*args, **context)
        response = context.get("response")
        pause = (following.get_retry_after(response) if response else None) or following.get_backoff_time()
        if not _suffices(pause):  # the last answer counts, or the last error
            raise MaxRetryError(context["_pool"], args[1], context.get("error"))
        return following


def _suffices(pause: float) -> bool:
    try:
        left = time_left()
    except TimeoutError:
        return False
    return left is None or pause < left


# Only what is safe to repeat (reads) is repeated after an answer; a connection that never came about always is.
# 412: a replica has not caught up; 472 and 473: a standby that cannot serve.
RETRIES = _Retry(
    total=3,
    connect=1,
    read=1,
    redirect=None,
    status_forcelist=(412, 429, 472, 473, *range(500, 600)),
    allowed_methods=("GET", "HEAD", "LIST"),
    backoff_factor=0.1,
    backoff_jitter=0.1,
    backoff_max=1.0,
    retry_after_max=1,
    raise_on_status=False,
)
