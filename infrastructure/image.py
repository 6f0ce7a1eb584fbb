"""Does the image do what it promises? `python -m infrastructure.image` (`make image`) builds it and tries it.

It is built from a copy with planted values where a developer has secrets; none may be in a layer. Then it runs as
production would run it: as a stranger's uid, with a read-only root and no capabilities, against a real Vault.
"""

import argparse
import io
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hvac
import requests

import app
from infrastructure.compose import docker_answers
from infrastructure.dev_vault import EmbeddedVault, start_embedded
from infrastructure.processes import free_port, until
from infrastructure.seed import seed_engine, seed_secret

STRANGER = "54321:54321"
PLANTED = (".env", ".env.local", "app/.env", ".dev/secret-id", ".dev/role-id", "app/core/.env.production", "key.pem")


class ImageError(Exception):
    """The image is not as it should be, or cannot be built; the message says what to do."""


def engine() -> str:
    """Return the program that builds and runs images here."""
    if docker_answers():
        return "docker"
    if shutil.which("podman"):
        return "podman"
    raise ImageError("no Docker engine answers, and there is no podman: an image needs one of them")


def build(program: str, tag: str, *more: str) -> str:
    """Build the image from a copy of the project with planted secrets; return what was planted."""
    canary = f"canary-{secrets.token_hex(16)}"
    with tempfile.TemporaryDirectory(prefix="image-") as directory:
        copy = Path(directory) / "context"
        for file in (".dockerignore", "Dockerfile", "pyproject.toml", "requirements/runtime.txt"):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy / file)
        for folder in ("app", "tests"):
            shutil.copytree(folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        for file in PLANTED:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_text(f"VAULT_TOKEN={canary}\n")
        labels = {"TITLE": app.TITLE, "VERSION": app.VERSION, "REVISION": _revision()}
        given = [f"--build-arg={name}={value}" for name, value in labels.items()]
        _run(program, "build", "--quiet", "--tag", tag, *given, *more, str(copy))
    return canary


def scan(program: str, tag: str, canary: str) -> int:
    """Look for what was planted, and for tests, in every layer (see `scan_archive`)."""
    with tempfile.TemporaryDirectory(prefix="image-") as directory:
        saved = Path(directory) / "image.tar"
        _run(program, "save", "--output", str(saved), tag)
        return scan_archive(saved, canary)


def scan_archive(saved: Path, canary: str) -> int:
    """Look through an image that was saved to a file; return how many files there are."""
    names = set()
    for layer, name, content in _files(saved):
        names.add(name)
        if canary.encode() in content:
            raise ImageError(f"{name} in layer {layer}: holds a planted secret; .dockerignore lets it in")
        if name.startswith("srv/tests/"):
            raise ImageError(f"{name} in layer {layer}: does not belong into the image")
    if "srv/app/main.py" not in names:
        raise ImageError("srv/app/main.py is in no layer: the scan does not understand this archive")
    return len(names)


def start(program: str, tag: str, vault: EmbeddedVault, token: str, *more: str) -> float:
    """Run it read-only as a stranger until it is ready, then end it; return the seconds to the first answer."""
    port, name = free_port(), f"image-{secrets.token_hex(4)}"
    variables = {
        "VAULT_ENABLED": "true",
        "VAULT_URL": vault.url,
        "VAULT_TOKEN": token,
        "VAULT_FAIL_FAST": "true",
        "PORT": str(port),
    }
    given = [f"--env={key}={value}" for key, value in variables.items()]
    hardened = ("--read-only", "--user", STRANGER, "--cap-drop=ALL", "--security-opt=no-new-privileges")
    begun = time.monotonic()
    _run(program, "run", "--detach", "--name", name, "--network=host", *hardened, *more, *given, tag)
    try:
        until(lambda: _is_ready(port) or _has_ended(program, name), "the service to be ready")
        took = time.monotonic() - begun
        if _has_ended(program, name):
            raise ImageError(f"the service ended:\n{_logs(program, name)}")
        _run(program, "stop", "--time", "10", name)
        code = int(_run(program, "inspect", "--format", "{{.State.ExitCode}}", name))
        if code != 0:
            raise ImageError(f"exit code {code} after SIGTERM, not 0:\n{_logs(program, name)}")
    finally:
        _run(program, "rm", "--force", name)
    return took


def main() -> None:
    """Build, scan and try it; say how large it is and how long the start took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tag", default=f"{app.NAME}:{app.VERSION}", help="the image's name (%(default)s)")
    parser.add_argument("--base", help="the image below it, instead of the Dockerfile's")
    given, more = parser.parse_known_args()
    try:
        program = engine()
        canary = build(program, given.tag, *(["--build-arg", f"BASE_IMAGE={given.base}"] if given.base else []), *more)
        files = scan(program, given.tag, canary)
        with _vault() as (vault, token):
            took = start(program, given.tag, vault, token)
        size = int(_run(program, "image", "inspect", "--format", "{{.Size}}", given.tag)) / 1e6
    except ImageError as error:
        sys.exit(f"error: {error}")
    print(f"image {given.tag}: {size:.0f} MB, {files} files without a planted secret; read-only, as uid {STRANGER}")
    print(f"       ready {took:.2f} s after the engine was told to start it, ended with 0")


@contextmanager
def _vault() -> Iterator[tuple[EmbeddedVault, str]]:
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="image-") as directory:
        vault = start_embedded(free_port(), Path(directory), token)
        try:
            client = hvac.Client(url=vault.url, token=token)
            seed_engine(client)
            seed_secret(client)
            client.adapter.close()
            yield vault, token
        finally:
            vault.stop()


def _files(saved: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield layer, name and content of each file in an archive of an image, whatever form it has."""
    with tarfile.open(saved) as image:
        for member in image:
            stream = image.extractfile(member) if member.isfile() else None
            content = stream.read() if stream else b""
            try:
                layer = tarfile.open(fileobj=io.BytesIO(content))  # noqa: SIM115 - closed below
            except tarfile.ReadError:
                yield member.name, member.name, content
                continue
            with layer:
                for file in layer:
                    inner = layer.extractfile(file) if file.isfile() else None
                    if inner:
                        yield member.name, file.name, inner.read()


def _is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health/ready", timeout=2).ok
    except requests.RequestException:
        return False


def _has_ended(program: str, name: str) -> bool:
    return _run(program, "inspect", "--format", "{{.State.Running}}", name).strip() == "false"


def _logs(program: str, name: str) -> str:
    done = subprocess.run([program, "logs", name], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(
            f"`{' '.join(command[:2])}` failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    return done.stdout


if __name__ == "__main__":
    main()
