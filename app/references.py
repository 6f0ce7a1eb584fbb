"""How do I read a reference? `parse_reference(text)`; its grammar is in `app/core/settings/references.py`."""

from app.core.settings.references import is_reference, parse_reference

__all__ = ["is_reference", "parse_reference"]
