"""How does a command run whose credentials are kept while it runs? As a child: signals pass through, so does its end.

It is started before any thread is, in our process group, with our standard input and output.
"""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from app.core.logs.logging_config import get_logger, where_raised
from app.core.store.rounds import AFTER_A_BUG
from app.core.threads import has_started

BY_TERMINAL = signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH  # a terminal sends these to the whole group
PASSED_ON = signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, *BY_TERMINAL

log = get_logger(__name__)


def run_child(words: Sequence[str], environment: Mapping[str, str], ticks: Mapping[str, Callable[[], float]]) -> int:
    """Run a command, call the `ticks` meanwhile, and return its exit code: -n if signal n has ended it.

    Each tick says in how many seconds it is due again. Raises `OSError` where the command cannot be started.
    """
    name_child = _pass_on()
    child = subprocess.Popen(words, env=environment, close_fds=False)  # noqa: S603 - it is asked for
    name_child(child)
    over = threading.Event()
    for name, tick in ticks.items():
        if not has_started(threading.Thread(target=again_and_again, args=(name, tick, over), daemon=True)):
            log.error("background_task_failed", task=name, error="no thread can be started")
    try:
        return child.wait()
    finally:
        over.set()


def end_as(code: int) -> NoReturn:
    """End this process as the command has ended: with its exit code, or by the same signal."""
    if code < 0:
        sys.stdout.flush()
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # not of us
        with suppress(OSError):  # some cannot be set, and need not be
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        code = 128 - code
    sys.exit(code)


def _pass_on() -> Callable[["subprocess.Popen[bytes]"], None]:
    """Pass signals on to the child, from when it is named; those that are ignored stay so, as `nohup` wants it.

    This lasts until our own end: no signal keeps us from giving back what was issued.
    """
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def begun(child: "subprocess.Popen[bytes]") -> None:
        children.append(child)
        for number in early:
            child.send_signal(number)

    def hear(number: int, _frame: FrameType | None) -> None:
        if number in BY_TERMINAL and is_in_foreground():
            return
        if not children:
            early.append(number)
        for child in children:
            with suppress(ProcessLookupError):  # it has just ended
                child.send_signal(number)

    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hear)
    return begun


def is_in_foreground() -> bool:
    """Tell whether Ctrl-C in our terminal reaches us, and the child with us."""
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def again_and_again(name: str, tick: Callable[[], float], over: threading.Event) -> None:
    """Call a tick whenever it is due; no failure ends that."""
    pause = 0.0
    while not over.wait(pause):
        try:
            pause = tick()
        except Exception as error:  # noqa: BLE001 - a bug must not end the renewals
            pause = AFTER_A_BUG
            if not over.is_set():
                log.error("background_task_failed", task=name, **where_raised(error))  # noqa: TRY400 - it may hold a value
