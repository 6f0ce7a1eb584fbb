"""The service that tests start as a process: `tests.service:app`."""

from tests.declared import create_app

app = create_app()
