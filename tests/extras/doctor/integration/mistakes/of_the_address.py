"""Mistakes in the settings, on the way to Vault, and in what answers there."""
# ruff: noqa: D103 - the names say what the mistake is

import datetime as dt
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import hvac
import pytest

from infrastructure.dev_vault import start_embedded
from infrastructure.faulty_proxy import Fault, FaultyProxy
from infrastructure.raft import Node
from tests.extras.doctor.integration.mistakes.world import World, mistake
from tests.pki import Authority
from tests.support import environment, free_port


@mistake("settings", "VAULT_AUTH_METHOD=approle needs VAULT_ROLE_ID", "Set VAULT_ROLE_ID in the env", "settings")
def a_credential_that_is_not_set(world: World) -> dict[str, Any]:
    return {**world.good(), "role_id": ""}


@mistake("settings", "must start with http:// or https://", "Fix VAULT_URL in the environment", "settings")
def an_address_without_scheme(world: World) -> dict[str, Any]:
    return {**world.good(), "url": "vault.example.com:8200"}


@mistake("settings", "must not carry credentials", "Fix VAULT_URL in .env", "settings")
def an_address_with_a_password_in_the_file(world: World) -> dict[str, Any]:
    (world.directory / ".env").write_text("VAULT_ENABLED=true\nVAULT_URL=https://app:canary@vault.example.com\n")
    return {"SECRET_X": "1"}


@mistake("settings", "Input should be 'token', 'approle'", "Fix VAULT_AUTH_METHOD", "settings")
def an_auth_method_that_does_not_exist(world: World) -> dict[str, Any]:
    return {**world.good(), "auth_method": "canary"}


@mistake("settings", ".env: cannot be read: line 2 is not UTF-8", "Make .env a text file", "settings")
def a_file_of_settings_that_is_not_utf_8(world: World) -> dict[str, Any]:
    (world.directory / ".env").write_bytes("# mine\nVAULT_ROLE_ID=canäry".encode("latin-1"))
    return world.good()


@mistake("settings", ".env: cannot be read: it is a directory", "Make .env a text file", "settings")
def a_directory_where_the_file_of_settings_should_be(world: World) -> dict[str, Any]:
    (world.directory / ".env").mkdir()
    return world.good()


@mistake("settings", ".env: line 3: a quote is not closed", "Fix that line", "settings")
def a_file_of_settings_with_a_quote_that_is_not_closed(world: World) -> dict[str, Any]:
    (world.directory / ".env").write_text("# mine\n\nVAULT_ROLE_ID='canary\n")
    return world.good()


@mistake("settings", "there is no path", "Fix SECRET_STRIPE_KEY", "settings")
def a_reference_that_is_none(world: World) -> dict[str, Any]:
    return {**environment(world.good()), "SECRET_STRIPE_KEY": "{vault://vault}"}


@mistake("settings", "there is no Vault named partner; there is: vault", "Fix SECRET_STRIPE_KEY", "settings")
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


@mistake("connection", "nobody.sock: there is no such socket", "Check VAULT_URL, and whether the Agent or Proxy")
def a_socket_that_is_not_there(world: World) -> dict[str, Any]:
    return {**world.good(), "url": f"unix://{world.directory}/nobody.sock"}


@mistake("settings", "must have an absolute path behind unix://", "Fix VAULT_URL", "settings")
def a_socket_with_a_relative_path(world: World) -> dict[str, Any]:
    return {**world.good(), "url": "unix://run/vault/agent.sock"}


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


@mistake("TLS", "signed by a CA that is not trusted", "Put this CA into VAULT_CACERT")
def a_private_ca_that_is_not_configured(world: World) -> dict[str, Any]:
    return world.over_tls(cacert="")


@mistake("TLS", "signed by a CA that is not trusted", "Put this CA into VAULT_CACERT")
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


@mistake("status", "no connection (", "Check VAULT_URL")
def a_vault_that_breaks_connections(world: World) -> dict[str, Any]:
    proxy = FaultyProxy(world.vault.url, lambda _method, _path: Fault(reset=True))
    return {**world.good(), "url": world.stack.enter_context(proxy.running())}


@mistake("status", "Vault has a fault of its own (HTTP 500)", "Look into Vault's log")
def a_vault_that_is_broken(world: World) -> dict[str, Any]:
    proxy = FaultyProxy(world.vault.url, lambda _method, _path: Fault(status=500))
    return {**world.good(), "url": world.stack.enter_context(proxy.running())}


HTML = (("Content-Type", "text/html"),)
NO_VAULT = "http://vault.invalid:8200"
IN_FRONT = "something in front of Vault, such as a load balancer,"


def on_the_way(world: World, fault: Callable[[str, str], Fault | None]) -> dict[str, Any]:
    """Return settings for what stands in front of Vault."""
    return {**world.good(), "url": world.stack.enter_context(FaultyProxy(world.vault.url, fault).running())}


def through_proxy(world: World, variable: str, proxy: str, url: str = NO_VAULT) -> dict[str, Any]:
    """Return variables with which requests go through a proxy."""
    return {**environment({**world.good(), "url": url}), "NO_PROXY": "127.0.0.1", variable: proxy}


def refusing(world: World, status: int) -> str:
    """Start a proxy that refuses; return where it is."""
    proxy = FaultyProxy(world.vault.url, lambda *_: Fault(status, HTML, b"<html>canary</html>"))
    return world.stack.enter_context(proxy.running()).removeprefix("http://")


@mistake("status", f"{IN_FRONT} answers with HTTP 502, not Vault itself", "Check whether Vault is up behind it")
def a_load_balancer_without_a_vault(world: World) -> dict[str, Any]:
    return on_the_way(world, lambda *_: Fault(502, HTML, b"<html>canary</html>"))


@mistake("status", f"{IN_FRONT} answers with HTTP 504", "Check whether Vault is up behind it")
def a_load_balancer_that_gave_up(world: World) -> dict[str, Any]:
    return on_the_way(world, lambda *_: Fault(504, HTML, b""))


@mistake("status", f"{IN_FRONT} answers with HTTP 503", "Check whether Vault is up behind it")
def a_gateway_that_speaks_json(world: World) -> dict[str, Any]:
    return on_the_way(world, lambda *_: Fault(503, body=b'{"message": "canary", "errors": [{"code": 1}]}'))


@mistake("status", "the answer is not Vault's (HTTP 403)", "and what is in front of it")
def a_firewall_in_front_of_vault(world: World) -> dict[str, Any]:
    return on_the_way(world, lambda *_: Fault(403, HTML, b"<html>canary</html>"))


@mistake("status", f"too many requests (HTTP 429), says {IN_FRONT} not Vault itself", "raise its limit")
def a_load_balancer_with_a_limit(world: World) -> dict[str, Any]:
    return on_the_way(world, lambda *_: Fault(429, HTML, b"<html>canary</html>"))


@mistake("status", "VAULT_URL redirects to https://vault.example.com", "Set VAULT_URL to https://vault.example.com.")
def a_load_balancer_that_wants_https(world: World) -> dict[str, Any]:
    return on_the_way(world, lambda _, path: Fault(301, (("Location", f"https://vault.example.com{path}"),), b""))


@mistake(
    "status", "the answer is not Vault's (HTTP 302, a redirect to https://login.example.com)", "Check that VAULT_URL"
)
def a_login_page_in_front_of_vault(world: World) -> dict[str, Any]:
    return on_the_way(world, lambda *_: Fault(302, (("Location", "https://login.example.com/?canary"),), b""))


@mistake("login", "it redirects to http://127.0.0.1:", "Check api_addr of Vault's nodes")
def a_standby_that_redirects_to_a_dead_node(world: World) -> dict[str, Any]:
    dead = f"http://127.0.0.1:{free_port()}"
    return on_the_way(
        world, lambda _, path: None if "sys/health" in path else Fault(307, (("Location", f"{dead}{path}"),), b"")
    )


@mistake("login", "it redirects to http://vault.example.com:8200, where nothing secret is sent", "Check api_addr of")
def a_standby_that_redirects_without_tls(world: World) -> dict[str, Any]:
    location = "http://vault.example.com:8200"
    return on_the_way(
        world, lambda _, path: None if "sys/health" in path else Fault(307, (("Location", f"{location}{path}"),), b"")
    )


@mistake("connection", "no connection to the proxy 127.0.0.1:", "Check HTTP_PROXY, or set NO_PROXY=vault.invalid")
def a_proxy_that_is_down(world: World) -> dict[str, Any]:
    return through_proxy(world, "HTTP_PROXY", f"http://app:canary@127.0.0.1:{free_port()}")


@mistake("connection", "of HTTPS_PROXY (Connection refused)", "Check HTTPS_PROXY, or set NO_PROXY=vault.invalid")
def a_proxy_for_tls_that_is_down(world: World) -> dict[str, Any]:
    return through_proxy(world, "HTTPS_PROXY", f"127.0.0.1:{free_port()}", "https://vault.invalid")


@mistake("status", "of HTTP_PROXY wants to know who asks (HTTP 407)", "Put a user and a password")
def a_proxy_that_wants_credentials(world: World) -> dict[str, Any]:
    return through_proxy(world, "HTTP_PROXY", f"http://{refusing(world, 407)}")


@mistake("TLS", "of HTTPS_PROXY wants to know who asks (HTTP 407)", "Put a user and a password")
def a_proxy_for_tls_that_wants_credentials(world: World) -> dict[str, Any]:
    return through_proxy(world, "HTTPS_PROXY", f"http://app:canary@{refusing(world, 407)}", "https://vault.invalid")


@mistake(
    "status", "of ALL_PROXY, or something behind it, answers with HTTP 503, not Vault itself", "Check whether Vault"
)
def a_proxy_that_does_not_get_through(world: World) -> dict[str, Any]:
    return through_proxy(world, "ALL_PROXY", f"http://{refusing(world, 503)}")


@mistake("TLS", "of ALL_PROXY does not get through to vault.invalid:8200 (HTTP 503)", "whether the proxy may reach")
def a_proxy_for_tls_that_does_not_get_through(world: World) -> dict[str, Any]:
    return through_proxy(world, "ALL_PROXY", f"http://{refusing(world, 503)}", "https://vault.invalid:8200")


@mistake("TLS", "of HTTPS_PROXY refuses (HTTP 403)", "Have it let this service through to vault.invalid:8200")
def a_proxy_that_refuses(world: World) -> dict[str, Any]:
    return through_proxy(world, "HTTPS_PROXY", f"http://{refusing(world, 403)}", "https://vault.invalid:8200")


@mistake("host name", "of ALL_PROXY speaks SOCKS", "Set ALL_PROXY to a proxy with http://, set NO_PROXY=vault.invalid")
def a_proxy_that_speaks_socks(world: World) -> dict[str, Any]:
    return through_proxy(world, "ALL_PROXY", f"socks5://app:canary@{refusing(world, 200)}")


@mistake(
    "host name", "HTTP_PROXY is not the address of a proxy", "Write http://HOST:PORT, or set NO_PROXY=vault.invalid"
)
def a_proxy_without_a_host(world: World) -> dict[str, Any]:
    return through_proxy(world, "HTTP_PROXY", "http://:3128")


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
