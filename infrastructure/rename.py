"""How does the template become your own project? `make rename NAME=my-service`.

Replaces the distribution name, the titles, the secret path and the names of policy and role, in every file.
"""

import re
import subprocess
import sys
from pathlib import Path

from app import NAME, TITLE
from infrastructure.seed import POLICIES, SECRET_PATH


def rename(name: str, root: Path) -> list[Path]:
    """Rename everything below `root` to `name` (lower-case words joined by hyphens); return the files that changed.

    Raises `ValueError` for a name that a distribution, a Vault path or a title could not have.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError("NAME must be lower-case words joined by hyphens, like my-service")
    title = " ".join(word.capitalize() for word in name.split("-"))
    replacements = {NAME: name, TITLE: title, SECRET_PATH: name}
    changed = []
    for file in project_files(root):
        try:
            before = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        after = before
        for old, new in replacements.items():
            after = after.replace(old, new)
        if after != before:
            file.write_text(after, encoding="utf-8")
            changed.append(file)
    policy = root / POLICIES.relative_to(Path(__file__).parent.parent) / f"{SECRET_PATH}.hcl"
    return [*changed, policy.rename(policy.with_stem(name))]


def project_files(root: Path) -> list[Path]:
    """Return the files that belong to the project: those that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    return [root / line for line in listed if (root / line).is_file()]


def main() -> None:
    """Do what the command line says."""
    try:
        changed = rename(sys.argv[1] if len(sys.argv) > 1 else "", Path.cwd())
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(
        f"renamed in {len(changed)} files; look at `git diff`, then run `make format test` and, if it runs, `make seed`"
    )


if __name__ == "__main__":
    main()
