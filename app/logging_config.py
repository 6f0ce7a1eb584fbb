"""How do I log? `get_logger(__name__)`; the code behind it is in `app/core/logs/`."""

from app.core.logs.logging_config import configure_logging, get_logger

__all__ = ["configure_logging", "get_logger"]
