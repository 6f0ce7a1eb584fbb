"""A FastAPI service whose secrets come from Vault."""

NAME = "fastapi-vault-blueprint"
TITLE = "FastAPI Vault Blueprint"
VERSION = "0.1.0"
DESCRIPTION = "Every error is a problem (RFC 9457). An API key goes in the header `X-API-Key`."
