"""Can a thread be started? A limit on processes or on memory may prevent it, in several of Python's words."""

import threading


def has_started(thread: threading.Thread) -> bool:
    """Start a thread; tell whether the system let it."""
    try:
        thread.start()
    except (RuntimeError, OSError, MemoryError):
        return False
    return True
