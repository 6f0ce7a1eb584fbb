"""Mistakes in the settings, on the way to Vault, and in what answers there."""
# ruff: noqa: D103 - the names say what the mistake is

import datetime as dt
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import hvac
import pytest

from infrastructure.dev_vault import start_embedded
from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.raft import Node
from tests.contracts.pki import Authority
from tests.integration.mistakes.world import World, mistake
from tests.support import environment, free_port


@mistake("settings", "VAULT_AUTH_METHOD=approle needs VAULT_ROLE_ID", "Set VAULT_ROLE_ID in the env", "settings")
def a_credential_that_is_not_set(world: World) -> dict[str, Any]:
    return {**world.good(), "role_id": ""}


@mistake("settings", "must start with http:// or https://", "Mend VAULT_URL in the environment", "settings")
def an_address_without_scheme(world: World) -> dict[str, Any]:
    return {**world.good(), "url": "vault.example.com:8200"}


@mistake("settings", "must not carry credentials", "Mend VAULT_URL in .env", "settings")
def an_address_with_a_password_in_the_file(world: World) -> dict[str, Any]:
    (world.directory / ".env").write_text("VAULT_ENABLED=true\nVAULT_URL=https://app:canary@vault.example.com\n")
    return {"SECRET_X": "1"}


@mistake("settings", "Input should be 'token', 'approle'", "Mend VAULT_AUTH_METHOD", "settings")
def an_auth_method_that_does_not_exist(world: World) -> dict[str, Any]:
    return {**world.good(), "auth_method": "canary"}


@mistake("settings", ".env: is not UTF-8", "Save it so", "settings")
def a_file_of_settings_that_is_not_utf_8(world: World) -> dict[str, Any]:
    (world.directory / ".env").write_bytes("VAULT_ROLE_ID=canäry".encode("latin-1"))
    return world.good()


@mistake("settings", "there is no path", "Mend SECRET_STRIPE_KEY", "settings")
def a_reference_that_is_none(world: World) -> dict[str, Any]:
    return {**environment(world.good()), "SECRET_STRIPE_KEY": "{vault://vault}"}


@mistake("settings", "there is no Vault named partner; there is: vault", "Mend SECRET_STRIPE_KEY", "settings")
def a_reference_to_an_unknown_vault(world: World) -> dict[str, Any]:
    return {**environment(world.good()), "SECRET_STRIPE_KEY": "{vault://partner/stripe/key}"}


@mistake("settings", "VAULT_CLIENT_CERT needs VAULT_CLIENT_KEY", "Set VAULT_CLIENT_KEY", "settings")
def a_certificate_without_its_key(world: World) -> dict[str, Any]:
    return world.over_tls(client_cert=world.file())


@mistake("host name", "the host name does not resolve", "the host in VAULT_URL, and the name service: `getent hosts")
def a_host_that_does_not_exist(world: World) -> dict[str, Any]:
    return {**world.good(), "url": "http://vault.invalid:8200"}


@mistake("connection", "no connection (Connection refused)", "Check the port in VAULT_URL")
def a_wrong_port(world: World) -> dict[str, Any]:
    return {**world.good(), "url": f"http://127.0.0.1:{free_port()}"}


@mistake("connection", "no answer within VAULT_TIMEOUT", "the firewalls and routes")
def a_firewall_that_drops_everything(world: World) -> dict[str, Any]:
    if sys.platform != "linux":
        pytest.skip("only Linux drops what does not fit into the backlog")
    full = world.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(3):  # nobody accepts these, so that there is no room for another one
        waiting = world.stack.enter_context(socket.socket())
        waiting.settimeout(0)
        waiting.connect_ex(full.getsockname())
    return {**world.good(), "url": f"http://127.0.0.1:{full.getsockname()[1]}", "timeout": "0.2"}


@mistake("TLS", "no answer within VAULT_TIMEOUT", "Check VAULT_URL, the network")
def a_port_that_says_nothing(world: World) -> dict[str, Any]:
    silent = world.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return {**world.good(), "url": f"https://127.0.0.1:{silent.getsockname()[1]}", "timeout": "0.2"}


@mistake("TLS", "the port does not speak TLS", "Set VAULT_URL to http://")
def https_where_there_is_http(world: World) -> dict[str, Any]:
    return {**world.good(), "url": world.vault.url.replace("http:", "https:")}


@mistake("status", "the port speaks TLS", "Set VAULT_URL to https://")
def http_where_there_is_https(world: World) -> dict[str, Any]:
    return {**world.good(), "url": world.tls["good"].replace("https:", "http:")}


@mistake("TLS", "signed by a CA that is not trusted", "Set VAULT_CACERT")
def a_private_ca_that_is_not_configured(world: World) -> dict[str, Any]:
    return world.over_tls(cacert="")


@mistake("TLS", "signed by a CA that is not trusted", "Set VAULT_CACERT")
def another_ca(world: World) -> dict[str, Any]:
    return world.over_tls(cacert=Authority(world.directory / "other", "Another CA").file)


@mistake("TLS", "the server's certificate is for another host", "Set VAULT_URL to a name that it is for")
def a_name_that_is_not_in_the_certificate(world: World) -> dict[str, Any]:
    return world.over_tls("elsewhere")


@mistake("TLS", "the server's certificate has expired", "Renew the certificate of Vault's listener")
def a_server_certificate_that_has_expired(world: World) -> dict[str, Any]:
    return world.over_tls("expired")


@mistake("TLS", "VAULT_CACERT=nowhere.pem: cannot be loaded (No such file", "Set VAULT_C")
def a_ca_file_that_is_missing(world: World) -> dict[str, Any]:
    return world.over_tls(cacert="nowhere.pem")


@mistake("TLS", "cannot be loaded", "Set VAULT_CACERT to PEM")
def a_ca_file_that_is_none(world: World) -> dict[str, Any]:
    return world.over_tls(cacert=world.file("canary"))


@mistake("TLS", "the client certificate has expired, on 20", "write a new one to this file")
def a_client_certificate_that_has_expired(world: World) -> dict[str, Any]:
    pair = world.authority.issue("late", dt.timedelta(hours=-1))
    return world.over_tls("mutual", client_cert=pair[0], client_key=pair[1])


@mistake("TLS", "the key belongs to another certificate", "Set VAULT_CLIENT_KEY")
def a_key_of_another_certificate(world: World) -> dict[str, Any]:
    return world.over_tls(client_cert=world.authority.issue("one")[0], client_key=world.authority.issue("two")[1])


@mistake("TLS", "VAULT_CLIENT_KEY=nowhere.pem: cannot be loaded (No such file", "Set VAULT_C")
def a_key_that_is_missing(world: World) -> dict[str, Any]:
    return world.over_tls(client_cert=world.authority.issue("one")[0], client_key="nowhere.pem")


@mistake("TLS", "the server wants a client certificate", "Set VAULT_CLIENT_CERT and its key")
def no_client_certificate_where_one_is_wanted(world: World) -> dict[str, Any]:
    return world.over_tls("mutual")


@mistake("TLS", "the server does not trust the CA of the client certificate", "Set VAULT_CLIENT_CERT to a certificate")
def a_client_certificate_of_another_ca(world: World) -> dict[str, Any]:
    pair = Authority(world.directory / "other", "Another CA").issue("app")
    return world.over_tls("mutual", client_cert=pair[0], client_key=pair[1])


@mistake("status", "Vault is sealed", "`vault operator unseal`")
def a_vault_that_is_sealed(world: World) -> dict[str, Any]:
    server = start_embedded(free_port(), world.directory / "vault", "root-for-this-test")
    world.stack.callback(server.stop)
    client = hvac.Client(url=server.url, token="root-for-this-test")
    client.sys.seal()
    client.adapter.close()
    return {**world.good(), "url": server.url}


@mistake("status", "Vault is not initialised", "`vault operator init`")
def a_vault_that_was_never_initialised(world: World) -> dict[str, Any]:
    node = Node("fresh", world.directory)
    world.stack.callback(node.stop)
    node.start()
    return {**world.good(), "url": node.url}


@mistake("status", "the answer is not Vault's", "Check that VAULT_URL is Vault's address")
def something_that_is_not_vault(world: World) -> dict[str, Any]:
    return {**world.good(), "url": world.stack.enter_context(web_page())}


@mistake("status", "no answer within VAULT_TIMEOUT", "Check VAULT_URL, the network")
def a_vault_that_hangs(world: World) -> dict[str, Any]:
    proxy = FaultyProxy(world.vault.url, lambda _method, _path: Fault(hang=True))
    return {**world.good(), "url": world.stack.enter_context(proxy.running()), "timeout": "0.2"}


@mistake("status", "no connection (connection broken)", "Check VAULT_URL")
def a_vault_that_breaks_connections(world: World) -> dict[str, Any]:
    proxy = FaultyProxy(world.vault.url, lambda _method, _path: Fault(reset=True))
    return {**world.good(), "url": world.stack.enter_context(proxy.running())}


@mistake("status", "Vault has a fault of its own (HTTP 500)", "Look into Vault's log")
def a_vault_that_is_broken(world: World) -> dict[str, Any]:
    proxy = FaultyProxy(world.vault.url, lambda _method, _path: Fault(status=500))
    return {**world.good(), "url": world.stack.enter_context(proxy.running())}


@contextmanager
def web_page() -> Iterator[str]:
    """Answer every request with a page that repeats the request's headers."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<html>{self.headers}</html>".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
