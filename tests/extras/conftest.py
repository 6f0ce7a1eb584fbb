"""What the tests of extras may ask for."""

from tests.pages import dev_vault

__all__ = ["dev_vault"]
