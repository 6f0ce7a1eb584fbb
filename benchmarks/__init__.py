"""Measurements. They print ratios and shapes, since machines differ; none is a test."""
