"""What do the files hold that `SECRET_<NAME>_FILE` names? Docker and Kubernetes deliver secrets so.

They are read once, at the start: what they hold may refer to a Vault, so the settings depend on it.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

SUFFIX = "_file"
LARGEST = 1 << 20  # bytes; Docker and Kubernetes deliver no larger ones


def with_files_read(entries: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the entries with what their files hold, and what prevents that, by the entry.

    Neither a value nor a path is in what it says: what was meant as a secret may stand where a path is expected.
    """
    read = {name: text for name, text in entries.items() if not _names_file(name)}
    faults: dict[str, str] = {}
    for name in filter(_names_file, entries):
        entry = name.removesuffix(SUFFIX)
        if entry in entries:
            both = f"SECRET_{entry.upper()} and SECRET_{name.upper()}"
            faults[entry] = f"{both} are both set: unset one of them"
            continue
        try:
            read[entry] = _content_of(entries[name])
        except OSError as error:
            faults[name] = f"the file cannot be read ({error.strerror}): check its path, its owner and its mode"
        except ValueError as error:
            faults[name] = str(error)
    return read, faults


def other_name(variable: str) -> str:
    """Return the name of the variable that sets the same entry; names in lower case, with `secret_`."""
    return variable.removesuffix(SUFFIX) if _names_file(variable.removeprefix("secret_")) else f"{variable}{SUFFIX}"


def _names_file(name: str) -> bool:
    return name.endswith(SUFFIX) and name != SUFFIX


def _content_of(path: Any) -> SecretStr:
    text = (path.get_secret_value() if isinstance(path, SecretStr) else str(path)).strip()
    if "\0" in text:
        raise ValueError("this is not the path of a file")
    opened = os.open(Path(text), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # or a FIFO would keep us waiting
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ValueError("this is not a regular file")
        with os.fdopen(opened, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    finally:
        os.close(opened)
    if len(content) > LARGEST:
        raise ValueError(f"the file is larger than {LARGEST} bytes")
    try:
        held = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        held = "\0"
    if "\0" in held:
        raise ValueError("the file is not text in UTF-8") from None
    held = held.removesuffix("\n").removesuffix("\r")
    if not held:
        raise ValueError("the file is empty: check what should fill it")
    return SecretStr(held)
