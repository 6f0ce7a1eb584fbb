"""Your HTTP: one module a subject; `app/main.py` includes its router."""

from typing import Annotated

from fastapi import Depends

from app.app_secrets import AppSecrets
from app.core.web.dependencies import get_declared

# what a handler asks for to have the declared secrets with their types: `declared.database_url`
Declared = Annotated[AppSecrets, Depends(get_declared)]
