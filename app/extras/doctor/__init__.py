"""Adds `python -m app doctor`: what is wrong between the settings and the secrets, and what fixes it."""
