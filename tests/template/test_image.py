"""The image holds no secret and runs as a stranger. It is built where an engine answers; the scan is tried anywhere."""

import io
import tarfile
from pathlib import Path

import pytest

from infrastructure.compose import docker_answers
from infrastructure.image import ImageError, scan_archive
from tests.support import ROOT
from tests.template.clone import Clone

CANARY = "canary-of-this-test"


def archive(directory: Path, **files: str) -> Path:
    """Return an image as an engine saves it, with one layer; `__` in a name is a slash."""
    layer = packed({name.replace("__", "/"): content.encode() for name, content in files.items()})
    saved = directory / "image.tar"
    saved.write_bytes(packed({"manifest.json": b"[]", "0123/layer.tar": layer}))
    return saved


def packed(files: dict[str, bytes]) -> bytes:
    """Return a tar archive of these files."""
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return buffer.getvalue()


def test_an_image_without_secrets_is_good(tmp_path: Path) -> None:
    """The files of the layer, and those of the archive itself."""
    assert scan_archive(archive(tmp_path, srv__app__main="code", **{"srv__app__main.py": "code"}), CANARY) == 3


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"srv__app__main.py": "code", "srv__app__.env": f"TOKEN={CANARY}"}, r"srv/app/\.env in layer 0123"),
        ({"srv__app__main.py": "code", "srv__tests__x.py": "code"}, "does not belong"),
        ({"elsewhere": "code"}, "does not understand"),
    ],
)
def test_what_must_not_be_in_it_is_found(tmp_path: Path, files: dict[str, str], said: str) -> None:
    """A secret, tests, and an archive in which the scan finds nothing at all."""
    with pytest.raises(ImageError, match=said):
        scan_archive(archive(tmp_path, **files), CANARY)


def test_nothing_gets_into_the_image_unless_it_is_named() -> None:
    """What the file lets in starts with nothing; secrets are kept out of the folders that are let in."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    named = {rule for rule in rules if rule.startswith("!")}
    assert named == {"!app", "!pyproject.toml", "!requirements/runtime.txt", "!requirements/tracing.txt"}
    assert rules[-1] == "**/.env*"


if docker_answers():  # elsewhere one line says that containers were not tried

    @pytest.mark.slow
    def test_the_image_runs_as_production_runs_it(clone: Clone) -> None:
        """Read-only, as a stranger, against a real Vault."""
        made = clone.make("image")
        assert made.returncode == 0, made.stderr
        assert "without a planted secret" in made.stdout
