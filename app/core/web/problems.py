"""What does a caller see when something is wrong? One form for every error: RFC 9457 `application/problem+json`."""

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from app.core.errors import BackendError, BadReference, BadSettings, BlueprintError, NotStarted, SecretUnavailable
from app.core.logs.logging_config import get_logger
from app.core.logs.redaction import cut, redact
from app.core.web.dependencies import sees_details

MEDIA_TYPE = "application/problem+json"
OURS = (
    BackendError,
    BadSettings,
    BadReference,
)  # they name paths, addresses and variables, which is no stranger's business
MOST = 100  # errors that a 422 lists, and characters of a name in it: a caller chooses both
RETRY_AFTER = 5  # seconds; about what a background reload needs once Vault is back

log = get_logger(__name__)


class InvalidField(BaseModel):
    """One thing that is wrong with a request; what was sent is not repeated."""

    loc: list[str | int] = Field(description="Where: body, query, path or header, then the names down to the field.")
    msg: str
    type: str


class Problem(BaseModel):
    """RFC 9457: a machine-readable error."""

    type: str = Field("about:blank", description="A URI that names the kind of problem.")
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The HTTP status, repeated.")
    detail: str | None = Field(None, description="What is wrong in this case, and what to do.")
    errors: list[InvalidField] | None = Field(None, description="With 422: every field that is wrong.")


def problem(status: int, detail: object = None, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a problem response. The detail is masked like a log line: the code that raised it may have been careless.

    FastAPI takes anything for the detail of an `HTTPException`; RFC 9457 takes a text: anything else becomes JSON.
    """
    text = detail if detail is None or isinstance(detail, str) else json.dumps(detail, default=str, ensure_ascii=False)
    shown = None if text is None else redact(cut(text))
    body = Problem(title=_phrase(status), status=status, detail=shown, **more)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, MEDIA_TYPE)


def _phrase(status: int) -> str:
    """Return what the status is called; one that a handler has made up has no name."""
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unnamed status"


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of a route's errors."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install_problems(app: FastAPI) -> None:
    """Make every error of `app` a problem, in what it answers and in what its OpenAPI says."""
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    app.add_exception_handler(BlueprintError, _blueprint_problem)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign] # FastAPI's documented way


async def _http_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    detail = None if error.detail in ("", _phrase(error.status_code)) else error.detail
    headers = dict(error.headers or {})
    if "Allow" in headers:  # starlette names the methods of the first function only
        path = getattr(request.scope.get("route"), "path", "")
        same = [route for route in iter_route_contexts(request.app.routes) if route.path == path]
        allowed = {method for route in same for method in route.methods or ()}
        headers["Allow"] = ", ".join(sorted(allowed.union(headers["Allow"].split(", "))))
    return problem(error.status_code, detail, headers)


async def _validation_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    errors = [
        InvalidField(loc=[_short(part) for part in each["loc"]], msg=cut(each["msg"], MOST), type=each["type"])
        for each in error.errors()[:MOST]
    ]
    return problem(422, "The request is not what this route takes.", errors=errors)


def _short(part: str | int) -> str | int:
    return cut(part, MOST) if isinstance(part, str) else part


async def _blueprint_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BlueprintError)  # noqa: S101 - registered for it
    if isinstance(error, SecretUnavailable) and (idle := request.app.state.refresher.idle()):
        error = NotStarted(error.subject, idle.cause, idle.remedy)
    headers = {"Retry-After": str(RETRY_AFTER)} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    text = str(error)
    if isinstance(error, OURS) and not sees_details(request):
        log.warning("request_refused", error=type(error).__name__, reason=text)
        text = "Something between the service and its secrets is wrong; the log says what."
    return problem(error.status, text, headers)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        tags = [{"name": name, "description": text} for name, text in getattr(app.state, "tags", {}).items()]
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=tags
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem_schema.pop("$defs"), Problem=problem_schema)
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of a 422
            schemas.pop(name, None)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"]["default"] = responses(500)[500] | {"description": "Any other error"}
                if "requestBody" in operation:
                    operation["responses"] |= {str(status): each for status, each in responses(400, 408, 413).items()}
                if "422" in operation["responses"]:
                    operation["responses"]["422"] = responses(422)[422]
        app.openapi_schema = schema
    return app.openapi_schema
