"""Are the Kubernetes manifests in order? `make check` renders each overlay and checks it against the API's schemas."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

OVERLAYS = Path("infrastructure/kubernetes/overlays")
VERSIONS = 3  # the newest minor ones, which is what Kubernetes supports


def rendered(overlay: Path) -> list[dict[str, Any]]:
    """Return what `kubectl apply -k` would send."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{overlay}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def faults(overlay: Path) -> Iterator[str]:
    """Yield what is wrong with each object, for each version."""
    major, minor = map(int, kubernetes_validate.latest_version().split(".")[:2])
    for found in rendered(overlay):
        name = f"{overlay.name}: {found['kind']}"
        if found["kind"] == "Secret":
            yield f"{name}: secrets come from Vault, not from the cluster"
        for version in (f"{major}.{minor - n}" for n in range(VERSIONS)):
            try:
                kubernetes_validate.validate(found, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{name}: {error.message} (Kubernetes {version})"


def main() -> None:
    """Say what is wrong with any of them."""
    if found := [fault for overlay in sorted(OVERLAYS.iterdir()) for fault in faults(overlay)]:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
