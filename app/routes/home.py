"""Where does somebody land who only knows the address?"""

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home() -> RedirectResponse:
    """Lead to the interactive documentation."""
    return RedirectResponse("/docs")
