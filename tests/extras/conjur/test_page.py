"""What docs/conjur.md names exists."""

import re

from app.extras.conjur.writer import ConjurWriter
from tests.pages import blocks


def test_the_methods_of_the_writer_exist() -> None:
    """Those that are named beside `write`."""
    (block,) = blocks("docs/conjur.md", "python")
    named = re.search(r"writer\.write\(.*# also (.*)", block)
    assert named
    methods = re.sub(r"\(.*?\)", "", named[1]).replace(" ", "").split(",")
    assert methods
    assert [method for method in methods if not hasattr(ConjurWriter, method)] == []
