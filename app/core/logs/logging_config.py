"""How does the service log? One form for its own lines, uvicorn's and every library's."""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from app.core.logs.pipe import pipe_of
from app.core.logs.redaction import cut, mask_named, mask_shown

OWN: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)
SHARED: tuple[Processor, ...] = (structlog.stdlib.ExtraAdder(), *OWN)
PROCESSORS: list[Processor] = [
    structlog.stdlib.filter_by_level,
    *OWN,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]
LEVELS = {name.lower(): level for name, level in logging.getLevelNamesMapping().items()}
_encode = json.JSONEncoder(default=repr).encode


def configure_logging(level: str = "INFO", form: Literal["auto", "json", "console"] = "auto") -> None:
    """Send all log lines to standard error; `auto` means for people if that is a terminal, and JSON otherwise."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    rendering: tuple[Processor, ...] = (
        # plain tracebacks: the pretty ones show local variables, and those hold secrets
        (mask_named, structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback), mask_shown)
        if console
        else (structlog.processors.format_exc_info, mask_named, _as_json, mask_shown)
    )
    tidying = structlog.stdlib.ProcessorFormatter.remove_processors_meta, _drop_colours
    handler = _Handler(rendering)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=SHARED, processors=[*tidying, *rendering])
    )
    root = logging.getLogger()
    root.handlers = [handler, *_not_to_the_terminal(root)]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # they come with handlers of their own
        logger = logging.getLogger(name)
        logger.handlers = _not_to_the_terminal(logger)
        logger.propagate = name != "uvicorn.access"  # the access event is ours
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every retry; what comes of it, we tell
    for name in ("httpx", "httpx2"):  # they log every URL with its query, and a query may hold anything
        logging.getLogger(name).setLevel(logging.WARNING)
    _log_what_python_would_print()


def where_raised(error: BaseException) -> dict[str, Any]:
    """Describe an unexpected error without its message, which may repeat what a server sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "frames": [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]}


def get_logger(name: str | None = None) -> structlog.stdlib.BoundLogger:
    """Return a logger whose first argument is a constant event name and whose other arguments are named."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def written_at_once(logger: logging.Logger, level: str, event: str, fields: EventDict) -> bool:
    """Write the line that `get_logger` would, if nobody but our handler would hear of it: in a third of the time.

    Without structlog's processors, which do the same one by one, and without a record of `logging`. Returns whether
    nothing is left to do. For what is logged at each request; no exception comes with it.
    """
    if not logger.isEnabledFor(LEVELS[level]):
        return True
    if structlog.get_config()["processors"] != PROCESSORS:
        return False
    handler = _only_listener(logger)
    return handler is not None and handler.writes(logger.name, level, {**fields, "event": event})


log = get_logger(__name__)


class _Handler(logging.StreamHandler[Any]):
    """Writes to standard error; where that is a pipe which is full, lines are dropped, and counted."""

    def __init__(self, rendering: Sequence[Processor]) -> None:
        super().__init__()
        self._pipe = pipe_of(self.stream)
        self._rendering = rendering

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            self._write(self.format(record))
        except Exception:  # noqa: BLE001 - as logging's own handlers do
            self.handleError(record)

    def writes(self, logger: str, level: str, event: EventDict) -> bool:
        """Write the line of an event of ours, and return whether that went well."""
        try:
            line: Any = structlog.contextvars.merge_contextvars(None, level, event)
            line |= {
                "logger": logger,
                "level": level,
                "timestamp": f"{datetime.now(UTC).replace(tzinfo=None).isoformat()}Z",
            }
            for each in self._rendering:
                line = each(None, level, line)
            with self.lock or nullcontext():
                self._write(line)
        except Exception:  # noqa: BLE001 - `emit` will tell of it
            return False
        return True

    def _write(self, line: str) -> None:
        """Write a line; before it, how many were dropped."""
        if self._pipe is None:
            self.stream.write(line + self.terminator)
            self.stream.flush()
            return
        if self._pipe.dropped and self._pipe.is_writable:
            dropped, self._pipe.dropped = self._pipe.dropped, 0
            log.warning("log_lines_dropped", count=dropped)
        self._pipe.write(line + self.terminator)

    def flush(self) -> None:
        """Write what is left of a line that is written in part."""
        if self._pipe is None:
            super().flush()
        else:
            self._pipe.flush()

    def close(self) -> None:
        """End the last line."""
        if self._pipe is not None:
            self._pipe.finish()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Tell of a line that cannot be rendered or written; logging itself would print its arguments, unmasked."""
        error = sys.exception()
        if error is not None and record.name != __name__:  # or it would go round in circles
            with suppress(Exception):
                log.error(
                    "log_line_lost", of=record.name, file=record.pathname, line=record.lineno, **where_raised(error)
                )


def _only_listener(logger: WrappedLogger) -> _Handler | None:
    """Return our handler, if the logger's lines go nowhere else: to pytest, a crash reporter, a tracer.

    Those have handlers or filters, make the records, or have replaced one of `logging`'s own functions.
    """
    if logger.filters or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    for function in (logging.Logger.callHandlers, logging.Logger.handle):
        if type(function) is not FunctionType or function.__code__.co_filename != logging.__file__:
            return None
    found, each = None, logger
    while each is not None:
        for handler in each.handlers:
            if found is not None or not isinstance(handler, _Handler) or handler.filters or handler.level:
                return None
            found = handler
        each = each.parent if each.propagate else None
    return found


# From the import on: a script that only reads a secret prints nothing but warnings, and these not on its output.
structlog.configure(
    processors=[*PROCESSORS],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=False,  # or a later configuration would not reach loggers in use
)


def _write_traceback(to: TextIO, error: ExcInfo) -> None:
    """Write a plain traceback, but no more of it than of any other field."""
    whole = StringIO()
    structlog.dev.plain_traceback(whole, error)
    to.write(cut(whole.getvalue()))


def _not_to_the_terminal(logger: logging.Logger) -> list[logging.Handler]:
    """Return the handlers of others that stay, such as pytest's: those which would not say a line twice, unmasked."""
    shown = {sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__}
    return [
        each
        for each in logger.handlers
        if not isinstance(each, _Handler) and not (type(each) is logging.StreamHandler and each.stream in shown)
    ]


def _log_what_python_would_print() -> None:
    """Send warnings, and exceptions that nobody catches, through the log, which masks what they show."""
    logging.captureWarnings(capture=True)
    # a hook that somebody else has set stays
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), where)
    elif not issubclass(kind, SystemExit):  # a thread may end by it
        log.critical("exception_uncaught", exc_info=(kind, error or kind(), where))


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encode(event)


def _drop_colours(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second copy of the message."""
    event.pop("color_message", None)
    return event
