"""A line of ours that nobody else would hear of takes a shorter way, and is the same."""

import json
import subprocess
import sys
from typing import Any

import pytest

from infrastructure.processes import ROOT

SCRIPT = """
import logging, sys
import structlog
from pydantic import SecretStr
from app.core.logs.logging_config import configure_logging, get_logger, written_at_once
from app.core.logs.redaction import mask_from_now_on

class Broken:
    def __repr__(self):
        raise RuntimeError("not to be shown")

def say(level, event, **fields):
    if not written_at_once(logging.getLogger("app.test"), level, event, fields):
        ways.append(event)
        getattr(log, level)(event, **fields)

class Heard(logging.Handler):
    def emit(self, record):
        heard.append(record)

heard, ways = [], []
form, way = sys.argv[1:]
configure_logging("INFO", form)
mask_from_now_on("test", ["s3cr3t-value", 'with "quotes"'])
log = get_logger("app.test")
match way:
    case "handler of the root":
        logging.getLogger().addHandler(Heard())
    case "handler of its own":
        logging.getLogger("app.test").addHandler(Heard())
    case "filter of its own":
        logging.getLogger("app.test").addFilter(lambda record: heard.append(record) or True)
    case "filter of the handler":
        logging.getLogger().handlers[0].addFilter(lambda record: heard.append(record) or True)
    case "function of logging":  # as Sentry has it
        call = logging.Logger.callHandlers
        logging.Logger.callHandlers = lambda self, record: (heard.append(record), call(self, record))[1]
    case "records":
        logging.setLogRecordFactory(lambda *args, **more: heard.append(args) or logging.LogRecord(*args, **more))
    case "processor of structlog":  # as a tracer has it
        first, *others = structlog.get_config()["processors"]
        structlog.configure(processors=[first, lambda logger, name, event: heard.append(event) or event, *others])
    case "no propagation":
        logging.getLogger("app.test").propagate = False
        logging.getLogger("app.test").addHandler(Heard())
structlog.contextvars.bind_contextvars(who="them")
say("info", "plain", path="/a", status=200, share=0.5, none=None, yes=True, text="ü\\u2028 \\" \\\\")
say("debug", "below_the_level")
say("warning", "shown", text="it is s3cr3t-value", more=["s3cr3t-value", {"deep": 'with "quotes"'}], who="us")
say("info", "named", api_key="abc", headers=[("Authorization", "abc"), ("Accept", "*/*")], inner={"password": "abc"})
say("error", "odd", what=SecretStr("abc"), of={1: 2}, several=(1, 2), long="x" * 20_000)
say("info", "broken", what=Broken())
log.bind(bound="yes").info("bound")
log.info("with_a_stack", stack_info=True)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", text="s3cr3t-value")
    log.info("failed_too", exc_info=True)
print(len(heard), len(ways))
"""
WAYS = ["handler of the root", "handler of its own", "filter of its own", "filter of the handler"]
WAYS += ["function of logging", "records", "processor of structlog"]
EVENTS = 8  # that can be rendered, and are not below the level


def logged(form: str, way: str) -> tuple[list[str], int, int]:
    """Return the lines, how many events others have heard of, and how many could not be written at once."""
    command = [sys.executable, "-c", SCRIPT, form, way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    heard, others = map(int, done.stdout.split())
    return done.stderr.splitlines(), heard, others


def without_time(line: str) -> dict[str, Any]:
    """Return what a line says, as pairs in order, but for what differs."""
    event: dict[str, Any] = json.loads(line)
    event.pop("timestamp")
    event.pop("stack", None)  # the frames of the way
    return event


@pytest.mark.parametrize("way", WAYS)
def test_the_line_is_the_same_where_others_listen(way: str) -> None:
    """A handler or a filter of somebody's hears of each event; what is written does not change by that."""
    (alone, nobody, lost), (watched, heard, others) = logged("json", "alone"), logged("json", way)
    assert [list(without_time(line).items()) for line in alone] == [
        list(without_time(line).items()) for line in watched
    ]
    events = [json.loads(line)["event"] for line in alone]
    assert events == [
        "plain", "shown", "named", "odd", "log_line_lost", "bound", "with_a_stack", "failed", "failed_too",
    ]  # fmt: skip
    assert (nobody, lost, heard >= EVENTS, others) == (0, 1, True, 5)
    assert "s3cr3t" not in "".join(alone)
    assert "not to be shown" not in "".join(alone)


def test_a_logger_that_does_not_propagate_is_heard_by_its_own_handlers_only() -> None:
    """As with `logging`; nothing is written to standard error."""
    lines, heard, _ = logged("json", "no propagation")
    assert (lines, heard) == ([], EVENTS + 1)


def test_lines_for_people_are_the_same_too() -> None:
    """Without the time, which stands first."""
    (alone, *_), (watched, *_) = logged("console", "alone"), logged("console", "handler of the root")
    shown = [
        [line.partition(" ")[2] for line in lines if "plain" in line or "shown" in line] for lines in (alone, watched)
    ]
    assert shown[0] == shown[1]
    assert len(shown[0]) == 2
