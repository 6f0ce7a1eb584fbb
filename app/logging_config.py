"""How does the service log? One form for its own lines, uvicorn's and every library's."""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


# From the import on: a script that only reads a secret prints nothing but warnings, and these not on its output.
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *SHARED,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=False,  # or a later configuration would not reach loggers in use
)


def configure_logging(level: str = "INFO", form: Literal["auto", "json", "console"] = "auto") -> None:
    """Send all log lines to standard error; `auto` means for people if that is a terminal, and JSON otherwise."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    rendering: tuple[Processor, ...] = (
        # plain tracebacks: the pretty ones show local variables, and those hold secrets
        (structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),)
        if console
        else (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _drop_colours, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # they come with handlers of their own
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], name != "uvicorn.access"  # the access event is ours
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every retry; what comes of it, we tell
    for name in ("httpx", "httpx2"):  # they log every URL with its query, and a query may hold anything
        logging.getLogger(name).setLevel(logging.WARNING)


def where_raised(error: BaseException) -> dict[str, Any]:
    """Describe an unexpected error without its message, which may repeat what a server sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "frames": [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]}


def get_logger(name: str | None = None) -> structlog.stdlib.BoundLogger:
    """Return a logger whose first argument is a constant event name and whose other arguments are named."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _drop_colours(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Drop uvicorn's second copy of the message."""
    event.pop("color_message", None)
    return event
