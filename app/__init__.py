"""A FastAPI service whose secrets come from Vault."""

NAME = "fastapi-vault-blueprint"
TITLE = "FastAPI Vault Blueprint"
VERSION = "0.1.0"
