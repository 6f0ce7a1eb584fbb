"""Planted values that must not turn up in anything the service writes, sends or exposes."""
