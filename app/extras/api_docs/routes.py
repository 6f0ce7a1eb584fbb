"""How do people try the API? Swagger UI, from a package: it works offline, and no CDN runs scripts or sees who reads.

The page loads its own files only, and no inline script: its Content-Security-Policy says so.
"""

from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Literal

from fastapi.responses import FileResponse, HTMLResponse, Response

from app.core.web.dependencies import CurrentSettings
from app.core.web.quick_router import QuickRouter

PACKAGE = Path(str(files("fastapi_offline"))) / "static"

# all addresses are relative: the service may be mounted somewhere
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KEPT = {"Cache-Control": "max-age=3600"}  # seconds; they change with the package only

router = QuickRouter(prefix="/docs", include_in_schema=False)


@router.head("")
@router.get("", name="docs")
async def page(settings: CurrentSettings) -> HTMLResponse:
    """Show the page."""
    return HTMLResponse(PAGE.format(title=escape(settings.service.title)), headers={"Content-Security-Policy": POLICY})


@router.head("/start.js")
@router.get("/start.js")
async def start() -> Response:
    """Return what starts Swagger UI."""
    return Response(START, media_type="text/javascript", headers=KEPT)


@router.head("/{name}")
@router.get("/{name}")
async def file(name: Literal["swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"]) -> FileResponse:
    """Return one of the package's files."""
    return FileResponse(PACKAGE / name, headers=KEPT)
