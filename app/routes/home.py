"""Where does somebody land who only knows the address?"""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from starlette.routing import NoMatchFound

router = APIRouter(include_in_schema=False)


@router.head("/")
@router.get("/")
async def home(request: Request) -> RedirectResponse:
    """Lead to the interactive documentation; where there is none, to what says that the service is there."""
    root = request.scope.get("root_path", "")  # where another application has mounted this one
    try:
        return RedirectResponse(root + request.app.url_path_for("docs"))
    except NoMatchFound:
        return RedirectResponse(f"{root}/health/live")
