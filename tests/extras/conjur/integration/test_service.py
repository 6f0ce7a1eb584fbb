"""The service with secrets from Conjur: alone, and together with Vault, of which neither disturbs the other."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.processes import LIMITS, surroundings
from tests.extras.conjur.support import Conjur
from tests.support import DEADLINE, SECRETS, Service, Vault, environment, unique, until

FAST = {"VAULT_REFRESH_INTERVAL": "0.4", "VAULT_TIMEOUT": "0.5", "LOG_LEVEL": "DEBUG"}


def accepts(service: Service, api_key: str) -> bool:
    """Tell whether the service takes this API key, as it does where it holds it itself."""
    return service.post("/caller", headers={"X-API-Key": api_key}).status_code == 200


def events(service: Service, name: str) -> list[dict[str, Any]]:
    """Return the log lines of this event."""
    return [event for event in service.events if event["event"] == name]


def in_conjur(conjur: Conjur, values: dict[str, str], url: str = "") -> dict[str, str]:
    """Put values into Conjur; return the variables of a service that reads them as a host of its own."""
    folder = unique("service")
    ids = {name: conjur.variable(value, f"{folder}/{name}") for name, value in values.items()}
    login = conjur.host({variable: ["read", "execute"] for variable in ids.values()})
    more = {"CONJUR_APPLIANCE_URL": url} if url else {}
    return {**conjur.environment(login), **more, "CONJUR_VARIABLES": ",".join(ids.values())}


def in_vault(vault: Vault, url: str = "") -> dict[str, str]:
    """Put the declared secrets into Vault; return the variables of a service that reads them."""
    vault.write(path := unique("app"), SECRETS)
    return environment({**vault.app_role(path), **({"url": url} if url else {})})


def test_conjur_alone_is_enough(conjur: Conjur, tmp_path: Path) -> None:
    """Every declared secret comes from there, rotates, and shows up nowhere."""
    variables = in_conjur(conjur, SECRETS)
    with Service(tmp_path, {**variables, **FAST}) as service:
        assert service.get("/health/ready").json() == {"status": "ready"}
        assert accepts(service, SECRETS["api_key"])
        (api_key,) = (each for each in variables["CONJUR_VARIABLES"].split(",") if each.endswith("api_key"))
        conjur.set(api_key, "canary-rotated")
        until(lambda: accepts(service, "canary-rotated"), "the rotation")
        (rotated,) = until(lambda: events(service, "vault_secrets_rotated"), "the log line")
        assert (rotated["source"], rotated["path"], rotated["keys"]) == ("conjur", api_key, ["api_key"])
        assert list(service.post("/status/refresh").json()["ages"]) == ["conjur"]
        # extra: status
        (shown,) = service.get("/status.json").json()["sources"]
        assert (shown["connection"]["address"], shown["connection"]["method"]) == (conjur.url, "API key")
        assert 0 < shown["connection"]["token"]["left"] <= shown["connection"]["token"]["ttl"]
        # /extra
    assert "canary" not in service.output
    assert variables["CONJUR_AUTHN_API_KEY"] not in service.output


def test_names_of_both_are_merged_and_a_clash_is_reported_once(conjur: Conjur, vault: Vault, tmp_path: Path) -> None:
    """Conjur comes later, and wins."""
    variables = {**in_vault(vault), **in_conjur(conjur, {"api_key": "canary-of-conjur", "another": "x"})}
    with Service(tmp_path, {**variables, **FAST}) as service:
        until(lambda: accepts(service, "canary-of-conjur"), "Conjur's part")
        assert not accepts(service, SECRETS["api_key"])
        for _ in range(3):
            assert set(service.post("/status/refresh").json()["ages"]) >= {"vault", "conjur"}
        (clash,) = events(service, "vault_secrets_clash")
        assert (clash["level"], clash["names"], clash["winners"]) == ("warning", ["api_key"], ["api_key: conjur"])


def test_an_entry_that_is_asked_for_by_name_wins_over_both(conjur: Conjur, vault: Vault, tmp_path: Path) -> None:
    """And is no clash, whichever of them it refers to."""
    vault.write(path := unique("other"), {"key": "canary-referred"})
    policy = f'path "secret/data/*" {{{{ capabilities = ["read"] }}}} # {path}'
    variables = {
        **environment(vault.app_role(path, policy=policy)),
        "VAULT_SECRET_PATH": path,
        **in_conjur(conjur, SECRETS),
        "SECRET_API_KEY": f"{{vault://vault/{path}/key}}",
    }
    with Service(tmp_path, {**variables, **FAST}) as service:
        until(lambda: accepts(service, "canary-referred"), "both to answer")
        assert events(service, "vault_secrets_clash") == []


def test_conjur_down_does_not_disturb_vault(conjur: Conjur, vault: Vault, tmp_path: Path) -> None:
    """At the start: what Vault holds is served and rotates; Conjur's part arrives when it is there."""
    if conjur.standin is None:
        pytest.skip("the proxy is for the stand-in")
    proxy = FaultyProxy(conjur.url, lambda *_: Fault(hang=True))
    with proxy.running() as url:
        main = in_vault(vault)
        variables = {**main, **in_conjur(conjur, {"api_key": "canary-of-conjur"}, url)}
        with Service(tmp_path, {**variables, **FAST}) as service:
            ready = service.get("/health/ready")
            assert ready.status_code == 200
            cause = f"{url}: no answer within VAULT_TIMEOUT. Check CONJUR_APPLIANCE_URL"
            until(lambda: service.get("/health/ready").json()["warnings"][0].startswith(cause), "the cause to show")
            vault.write(main["VAULT_SECRET_PATH"], {**SECRETS, "api_key": "canary-rotated"})
            until(lambda: accepts(service, "canary-rotated"), "Vault's rotation")
            proxy.fault = lambda *_: None
            until(lambda: accepts(service, "canary-of-conjur"), "Conjur's part")
            until(lambda: "warnings" not in service.get("/health/ready").json(), "the end of the warning")
    assert "canary" not in service.output


def test_vault_down_does_not_disturb_conjur(conjur: Conjur, vault: Vault, tmp_path: Path) -> None:
    """Likewise."""
    proxy = FaultyProxy(vault.url, lambda *_: Fault(hang=True))
    with proxy.running() as url:
        held = in_conjur(conjur, SECRETS)
        with Service(tmp_path, {**in_vault(vault, url), **held, **FAST}) as service:
            ready = service.get("/health/ready")
            assert ready.status_code == 200
            assert "Check VAULT_URL" in ready.json()["warnings"][0]
            (api_key,) = (each for each in held["CONJUR_VARIABLES"].split(",") if each.endswith("api_key"))
            conjur.set(api_key, "canary-rotated")
            until(lambda: accepts(service, "canary-rotated"), "Conjur's rotation")


# extra: api_keys
def test_keys_that_are_issued_side_by_side_are_all_issued(conjur: Conjur, tmp_path: Path) -> None:
    """Though Conjur refuses a policy load while another one is in progress, and each key takes two."""
    branch = unique("keys")
    below = f"{conjur.branch}/{branch}"
    login = conjur.host(owns=branch)
    literals = {f"SECRET_{name.upper()}": value for name, value in SECRETS.items()}
    writing = {"CONJUR_POLICY_BRANCH": below, "VAULT_WRITE_PREFIX": below, "VAULT_ACCESS_MODE": "read_and_write"}
    if conjur.standin:
        conjur.standin.set_load_seconds(0.06)
        conjur.standin.set_retry_after(8)  # the longest pause that a real one asks for
    try:
        variables = {**conjur.environment(login), **literals, **writing}
        with Service(tmp_path, variables) as service, ThreadPoolExecutor(10) as ten:

            def issue(number: int) -> int:
                admin = {"X-API-Key": SECRETS["api_key"]}
                return service.post("/api-keys", json={"name": f"client-{number}"}, headers=admin).status_code

            assert Counter(ten.map(issue, range(60))) == {201: 60}
    finally:
        if conjur.standin:
            conjur.standin.set_load_seconds(0.02)
            conjur.standin.set_retry_after(1)


# /extra


def test_a_broken_rotation_in_conjur_is_refused(conjur: Conjur, tmp_path: Path) -> None:
    """The last good secrets stay in force, and the next good ones are taken in."""
    variables = in_conjur(conjur, SECRETS)
    (jwt_secret,) = (each for each in variables["CONJUR_VARIABLES"].split(",") if each.endswith("jwt_secret"))
    with Service(tmp_path, {**variables, **FAST}) as service:
        conjur.set(jwt_secret, "canary-too-short")
        until(lambda: events(service, "vault_secrets_refused"), "the refusal")
        assert accepts(service, SECRETS["api_key"])
        assert "jwt_secret" in service.get("/health/ready").json()["warnings"][0]
        conjur.set(jwt_secret, "canary-long-enough-" * 3)
        until(lambda: events(service, "vault_secrets_fresh_again"), "the next good one")
    assert "canary" not in service.output


def test_fail_fast_counts_for_conjur_too(conjur: Conjur, tmp_path: Path) -> None:
    """The process ends, and says which variables it may not read."""
    variables = in_conjur(conjur, SECRETS) | {"VAULT_FAIL_FAST": "true"}
    hidden = conjur.variable("canary")
    variables["CONJUR_VARIABLES"] += f",{hidden},more={conjur.variable()}"
    command = [sys.executable, "-m", "uvicorn", "tests.service:app", "--port", "0", *LIMITS]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=surroundings(variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode != 0
    assert "2 failures" in ended.stderr
    assert f"{hidden}: it is missing, or cannot be seen" in ended.stderr
    assert "canary" not in ended.stderr
