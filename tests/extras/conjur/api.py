"""What does Conjur answer to which request? The routes, who may use them, and what is loaded and rotated."""

import base64
import ipaddress
import threading
import time
from contextlib import nullcontext
from urllib.parse import parse_qs

from tests.extras.conjur import rack, variables, wire
from tests.extras.conjur.jwt_logins import JwtService, authenticate
from tests.extras.conjur.policy import Load
from tests.extras.conjur.policy_syntax import PolicyInvalid, effective
from tests.extras.conjur.records import ACTORS, KINDS, Record, Records, timestamp
from tests.extras.conjur.tokens import Clock, Tokens, new_api_key
from tests.extras.conjur.wire import Answer, Refused, Request

AUTHENTICATORS = [f"authn{kind}" for kind in ("", "-azure", "-gcp", "-iam", "-jwt", "-k8s", "-ldap", "-oidc")]


class Api:
    """One account, and the answers that it gives."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.clock = Clock()
        self.tokens = Tokens(self.clock)
        self.policy_lock = threading.Lock()
        self.load_seconds = 0.02  # so that parallel loads meet; a real one takes some 60 ms
        self.write_seconds = 0.005  # so that parallel writes of one variable meet
        self.retry_after = 1  # a real server says 1 to 8, at random
        self.jwt_services: dict[str, JwtService] = {}
        self.records = Records(account)
        self._factory_tokens: dict[str, str] = {}
        self._written: set[str] = set()  # variables that are being written just now
        self._lock = threading.RLock()
        self._admin = f"{account}:user:admin"
        for full in (self._admin, f"{account}:policy:root"):
            self._add(Record(full, self._admin, None, self.clock.now()))

    @property
    def admin_api_key(self) -> str:
        """The key of user `admin`, as it is now."""
        return self.records.records[self._admin].api_key or ""

    def jwt_service(self, service_id: str) -> JwtService:
        """Return the webservice of this id, made where there is none."""
        full = f"{self.account}:webservice:conjur/authn-jwt/{service_id}"
        if full not in self.records.records:
            self._add(Record(full, self._admin, None, self.clock.now()))
        return self.jwt_services.setdefault(service_id, JwtService(service_id))

    def permit_login(self, service_id: str, login: str) -> None:
        """Let a host log in at a webservice."""
        service = f"{self.account}:webservice:conjur/authn-jwt/{service_id}"
        key = (service, "authenticate", self._role_id(self.account, login))
        self.records.permissions[key] = f"{self.account}:policy:root"

    def answer(self, request: Request) -> Answer:
        """Answer one request; several threads may ask."""
        try:
            request = rack.received(request)
            segments = request.segments
            if request.method == "POST" and segments[:1] == ["secrets"]:
                self._pass_or_clash("/".join(segments))
            # one at a time, but for policies: two loads at once is what a 409 is about
            with nullcontext() if segments[:1] == ["policies"] else self._lock:
                return self._open(request, segments) or self._guarded(request, segments)
        except Refused as refused:
            return refused.answer

    def _pass_or_clash(self, variable: str) -> None:
        """Take a moment for a write; refuse one of the same variable in this moment: both pick the same version."""
        with self._lock:
            if variable in self._written:
                raise Refused(wire.unrouted(500))
            self._written.add(variable)
        time.sleep(self.write_seconds)
        with self._lock:
            self._written.remove(variable)

    def _open(self, request: Request, segments: list[str]) -> Answer | None:
        """Answer what needs no token."""
        match request.method, *segments:
            case ["GET"]:
                return wire.as_json({"version": "1.22.3"})
            case "GET", "authenticators":
                return self._authenticators()
            case "GET", "authn", account, "login":
                return wire.text(self._basic(request, account).api_key or "")
            case "POST", "authn", account, login, "authenticate":
                return self._token(request, self._with_key(request, account, login, request.body))
            case "POST", "authn-jwt", service, account, *login, "authenticate" if len(login) < 2:
                return self._with_jwt(request, service, account, "".join(login))
            case "POST", authenticator, _, _, _, "authenticate" if authenticator.startswith("authn"):
                return wire.bare(401)
            case "PUT", "authn", account, "api_key":
                return self._rotate(request, account)
            case "POST", "host_factories", "hosts":
                return self._create_host(request)
            case _, authenticator, *_ if authenticator.startswith("authn"):
                return wire.unrouted(404)
        return None

    def _authenticators(self) -> Answer:
        services = {f"authn-jwt/{name}": service for name, service in sorted(self.jwt_services.items())}
        enabled = [name for name, service in services.items() if service.enabled]
        known = {"configured": ["authn", *services], "enabled": ["authn", *enabled]}
        return wire.as_json({"installed": AUTHENTICATORS, **known})

    def _with_jwt(self, request: Request, service: str, account: str, login: str) -> Answer:
        if account != self.account:
            return wire.bare(401)
        known = self.jwt_services.get(service) or JwtService(service, enabled=False)
        return self._token(request, authenticate(self.records, known, login, request, self.clock.now()))

    def _guarded(self, request: Request, segments: list[str]) -> Answer:
        """Answer what needs a token."""
        login, issued = self.tokens.check(request.headers.get("Authorization"))
        role = self._role_id(self.account, login)
        if (request.method, segments) == ("GET", ["whoami"]):
            who = {"client_ip": request.client_ip, "user_agent": request.header("User-Agent"), "account": self.account}
            return wire.as_json({**who, "username": login, "token_issued_at": timestamp(issued)})
        if role not in self.records.records:
            return wire.bare(403)
        match "GET" if request.method == "HEAD" else request.method, *segments:
            case "GET" | "POST" | "PATCH" | "PUT", "policies", account, "policy", *branch:
                return self._policy(request, role, account, "/".join(branch))
            case "GET", "secrets":
                return variables.read_batch(self.records, role, request)
            case "GET", "secrets", account, "variable", *rest:
                return variables.read(self.records, role, request, f"{account}:variable:{'/'.join(rest)}")
            case "POST", "secrets", account, "variable", *rest:
                return variables.write(self.records, role, request, account, "/".join(rest))
            case "GET", "resources", account, kind if kind in KINDS:
                return variables.listed(self.records, role, request, account, kind)
            case "GET", "resources", account, kind, *rest if kind in KINDS:
                return variables.resource(self.records, role, request, f"{account}:{kind}:{'/'.join(rest)}")
            case "POST", "host_factory_tokens":
                return self._factory_token(request, role)
        return wire.unrouted(404)

    def _role_id(self, account: str, login: str) -> str:
        kind, identifier = ("host", login[5:]) if login.startswith("host/") else ("user", login)
        return f"{account}:{kind}:{identifier}"

    def _actor(self, account: str, login: str) -> Record:
        if not (actor := self.records.records.get(self._role_id(account, login))):
            raise Refused(wire.bare(401))
        return actor

    def _with_key(self, request: Request, account: str, login: str, key: bytes) -> Record:
        actor = self._actor(account, login)
        networks = [ipaddress.ip_network(network) for network in actor.restricted_to]
        outside = networks and not any(ipaddress.ip_address(request.client_ip) in network for network in networks)
        if outside or key != (actor.api_key or "").encode():
            raise Refused(wire.bare(401))
        return actor

    def _basic(self, request: Request, account: str) -> Record:
        scheme, _, encoded = request.header("Authorization").partition(" ")
        try:
            login, _, key = base64.b64decode(encoded if scheme == "Basic" else "").decode().partition(":")
        except ValueError as cause:
            raise Refused(wire.bare(401)) from cause
        return self._with_key(request, account, login, key.encode())

    def _token(self, request: Request, actor: Record) -> Answer:
        token = self.tokens.issue(actor.identifier if actor.kind == "user" else f"host/{actor.identifier}")
        if "base64" in request.header("Accept-Encoding"):
            return wire.text(base64.b64encode(token), wire.BASE64)
        return wire.content(token, "application/json")

    def _rotate(self, request: Request, account: str) -> Answer:
        if not request.header("Authorization").startswith("Token "):
            actor = self._basic(request, account)
        else:
            login, _ = self.tokens.check(request.header("Authorization"))
            own = self._role_id(account, login)
            asked = request.query.get("role", own)
            full = asked if asked.startswith(f"{account}:") else f"{account}:{asked}"
            if full == own:
                return wire.error(401, "unauthorized", "Credential strength is insufficient")
            found = self.records.records.get(full)
            if not found or not self.records.is_visible(own, found):
                message = f"CONJ00123E Resource '{full if found else asked}' requested by role '{own}' not found"
                return wire.error(404, "not_found", message)
            if found.kind not in ACTORS or not self.records.is_allowed(own, "update", found):
                return wire.bare(403)
            actor = found
        actor.api_key = new_api_key()
        return wire.text(actor.api_key)

    def _policy(self, request: Request, role: str, account: str, identifier: str) -> Answer:
        if account != self.account:
            _, kind, login = role.split(":", 2)
            return wire.not_found(kind, login, account)
        privilege = {"POST": "create", "GET": "read"}.get(request.method, "update")
        with self._lock:
            branch = variables.permitted(self.records, role, privilege, "policy", identifier)
            if request.method == "GET":
                return wire.content(effective(self.records, branch).encode(), "application/x-yaml")
        if not self.policy_lock.acquire(blocking=False):
            return wire.conflict(self.retry_after)
        try:
            time.sleep(self.load_seconds)
            with self._lock:
                return self._load(request, identifier)
        finally:
            self.policy_lock.release()

    def _load(self, request: Request, identifier: str) -> Answer:
        load = Load(self.records, identifier, request.method, self.clock.now)
        try:
            load.run(request.body)
        except PolicyInvalid as invalid:
            return wire.error(422, invalid.code, str(invalid), **invalid.more)
        if request.query.get("dryRun") == "true":
            return wire.as_json(load.forecast())
        self.records = load.records
        created = {record.id: {"id": record.id, "api_key": record.api_key} for record in load.created if record.api_key}
        return wire.as_json({"created_roles": created, "version": load.branch.loads}, 201)

    def _factory_token(self, request: Request, role: str) -> Answer:
        form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        identifier = form.get("host_factory", "").removeprefix(f"{self.account}:host_factory:")
        factory = variables.permitted(self.records, role, "execute", "host_factory", identifier)
        token = new_api_key()
        self._factory_tokens[token] = factory.id
        return wire.as_json([{"expiration": form.get("expiration"), "cidr": [], "token": token}])

    def _create_host(self, request: Request) -> Answer:
        presented = request.header("Authorization").removeprefix('Token token="').removesuffix('"')
        if not (factory := self._factory_tokens.get(presented)):
            return wire.unauthorized("Unauthorized: Invalid token")
        identifier = parse_qs(request.body.decode())["id"][-1]
        host = Record(f"{self.account}:host:{identifier}", factory, None, self.clock.now())
        self._add(host)
        for layer in self.records.records[factory].layers:
            self.records.memberships[layer, host.id] = factory
        return wire.as_json({**self.records.described(host), "api_key": host.api_key}, 201)

    def _add(self, record: Record) -> None:
        self.records.records[record.id] = record
