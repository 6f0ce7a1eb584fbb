"""Forks while secrets are read: `python -m tests.core.integration.forking <how>`, with the settings of a service.

Standard input names the references, one a line. The parent reads the first; then each child
reads another one, several times. Standard output tells, as JSON, what each process read and by which login.
With `settings`, only these are read, by children of a process whose other threads read them, too.
"""

import ctypes
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from app.config import PROVIDERS, get_settings
from app.core.settings.references import parse_reference
from app.vault import close_sessions, get_vault_client, read_reference

READS = int(os.environ.get("READS", "5"))  # by each child
CHILD_TIMEOUT = 60.0  # seconds that a child may take


def main(how: str, references: list[str]) -> list[dict[str, Any]]:
    """Return what every process read: first the parent before it forked, last the parent afterwards."""
    if how == "settings":
        read_settings_in_children()
        return []
    found = [read(references[0])]
    kept = get_vault_client() if get_settings().vault.enabled else None  # as somebody might who knows no better

    def in_child(reference: str) -> dict[str, Any]:
        if kept is not None:
            assert kept.auth.token.lookup_self()["data"]["id"] == kept.token
        return read(reference)

    with busy_threads(references[0]) if how == "threads" else read_once(references[0]):
        fork = FORKS.get(how, through_os)
        children = [fork(in_child, reference) for reference in references[1:]]
        found += [child() for child in children]
    return [*found, read(references[0])]


def read(reference: str) -> dict[str, Any]:
    """Read a reference several times; return the values, and what tells this process's login from others."""
    values = {read_reference(parse_reference(reference))[0] for _ in range(READS)}
    source: Any = PROVIDERS.source(get_settings(), parse_reference(reference).name)
    login = source.session.current()
    token = login.token if hasattr(login, "token") else login.auth.client_token
    return {"values": sorted(values), "login": hashlib.sha256(token.encode()).hexdigest(), "process": os.getpid()}


def read_settings_in_children() -> None:
    """Fork a hundred times while four threads read the settings; raise if a child does not end."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            get_settings()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(work)
        try:
            for _ in range(100):
                child = os.fork()
                if child == 0:
                    signal.alarm(int(CHILD_TIMEOUT))  # ends a child that hangs
                    get_settings()
                    os._exit(7)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        finally:
            stop.set()


@contextmanager
def read_once(reference: str) -> Iterator[None]:
    """Leave a connection open that a child could take for its own."""
    read(reference)
    yield


@contextmanager
def busy_threads(reference: str) -> Iterator[None]:
    """Read without pause in other threads: at the fork some hold locks and connections, whichever."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            read(reference)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def through_os(work: Callable[[str], dict[str, Any]], reference: str) -> Callable[[], dict[str, Any]]:
    """Fork as os.fork does; the child ends as a script does, at its exit handlers."""
    return _forked(os.fork, work, reference)


def ctypes_fork(work: Callable[[str], dict[str, Any]], reference: str) -> Callable[[], dict[str, Any]]:
    """Fork behind Python's back, as a server that embeds it may."""
    return _forked(ctypes.PyDLL(None).fork, work, reference)


def _forked(
    fork: Callable[[], int], work: Callable[[str], dict[str, Any]], reference: str
) -> Callable[[], dict[str, Any]]:
    receiving, sending = os.pipe()
    child = fork()
    if child == 0:
        status = 1
        try:
            os.write(sending, json.dumps(work(reference)).encode())
            close_sessions()  # as at exit
            status = 0
        finally:
            os._exit(status)
    os.close(sending)

    def result() -> dict[str, Any]:
        with os.fdopen(receiving) as answer:
            found: dict[str, Any] = json.loads(answer.read() or "{}")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return found

    return result


def result_of(child: BaseProcess, receiving: Connection) -> dict[str, Any]:
    """Wait for what a child of multiprocessing has read, and for its end."""
    assert receiving.poll(CHILD_TIMEOUT)
    found: dict[str, Any] = receiving.recv()
    child.join(CHILD_TIMEOUT)
    assert child.exitcode == 0
    return found


def through_multiprocessing(work: Callable[[str], dict[str, Any]], reference: str) -> Callable[[], dict[str, Any]]:
    """Fork as a pool of processes does."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send(work(reference)))
    child.start()

    return partial(result_of, child, receiving)


def through_spawn(_work: Callable[[str], dict[str, Any]], reference: str) -> Callable[[], dict[str, Any]]:
    """Start a process that shares nothing, as a pool does on other systems."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=send, args=(sending, reference))
    child.start()

    return partial(result_of, child, receiving)


def send(sending: Connection, reference: str) -> None:
    """Read in a process that was spawned."""
    sending.send(read(reference))


def through_a_thread(work: Callable[[str], dict[str, Any]], reference: str) -> Callable[[], dict[str, Any]]:
    """Fork in a thread, which is the only one that the child has."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(through_os, work, reference).result()


FORKS = {
    "multiprocessing": through_multiprocessing,
    "libc": ctypes_fork,
    "spawn": through_spawn,
    "in a thread": through_a_thread,
}

if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.stdin.read().split())))  # noqa: T201 - its answer
