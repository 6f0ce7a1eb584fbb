"""Which files belong to the project, and what has been made of the template? `.blueprint.toml` remembers."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

MEMORY = ".blueprint.toml"
TABLE = "[blueprint]\n"


def project_files(root: Path) -> list[Path]:
    """Return the files that belong to the project: those that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    return [root / line for line in listed if (root / line).is_file()]


def text_of(file: Path) -> str | None:
    """Return the text of a file; None if it has none, as a picture."""
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError:
        return None


def remembered(root: Path) -> dict[str, Any]:
    """Return what was made of the template: `name`, `without`, and what others have noted."""
    file = root / MEMORY
    content = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    noted: dict[str, Any] = content.get("blueprint", {})
    return noted


def remember(root: Path, key: str, value: str | list[str]) -> None:
    """Note it; all else stays as it is."""
    file, line = root / MEMORY, f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if key in remembered(root):
        text = re.sub(rf"^{key} *= *(?:\[[^\]]*\]|.*)\n", lambda _: line, text, count=1, flags=re.MULTILINE)
    elif TABLE in text:
        text = text.replace(TABLE, TABLE + line, 1)
    else:
        text = "\n".join(filter(None, [text, TABLE + line]))
    file.write_text(text, encoding="utf-8")
