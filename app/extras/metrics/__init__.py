"""Adds `/metrics`, for Prometheus."""

from app.extras.metrics.metrics import install

__all__ = ["install"]
