"""What is logged and remembered, and what is masked in it?"""

import sys
from importlib import import_module

# structlog imports rich where that is installed, a fifteenth of the start, for tracebacks that show local variables
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment] # Python's own way to say that there is none
    try:
        import_module("structlog.dev")
    finally:
        del sys.modules["rich"]
