"""What does one mistake need? A service that is good, a Vault to make it in, and what the doctor must say."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.core.integration.arrangements import arranged
from tests.pki import Authority
from tests.support import READ_POLICY, SECRETS, Vault, environment, unique

Variables = dict[str, str]


@dataclass
class World:
    """A good service and a real Vault with TLS, for one mistake."""

    vault: Vault
    tls: dict[str, str]  # the addresses of its other listeners, by what is special about them
    authority: Authority
    directory: Path
    stack: ExitStack
    path: str = field(default_factory=lambda: unique("app"))
    canaries: list[str] = field(default_factory=lambda: [*SECRETS.values(), "canary"])

    def __post_init__(self) -> None:
        self.vault.write(self.path, SECRETS)

    def good(self, policy: str = READ_POLICY, **role: Any) -> dict[str, Any]:
        """Return settings with which all is well, but for the roles' options."""
        return self.secretly(self.vault.app_role(self.path, policy=policy, **role))

    def secretly(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Make sure that the credentials in these settings will not be shown."""
        self.canaries += [
            str(settings[name]) for name in ("role_id", "secret_id", "token", "jwt", "password") if name in settings
        ]
        return settings

    def with_token(self, **options: Any) -> dict[str, Any]:
        """Return settings with a token that may do everything below the mount point `secret`."""
        policy = unique("policy")
        self.vault.client.sys.create_or_update_policy(policy, 'path "secret/*" { capabilities = ["read", "list"] }')
        token = self.vault.client.auth.token.create(policies=[policy], **options)["auth"]["client_token"]
        return self.secretly({"enabled": "true", "url": self.vault.url, "token": token, "secret_path": self.path})

    def over_tls(self, listener: str = "good", **more: Any) -> dict[str, Any]:
        """Return settings for one of the listeners with TLS."""
        return {**self.good(), "url": self.tls[listener], "cacert": self.authority.file, **more}

    def file(self, content: str = "", name: str = "file") -> Path:
        """Write a file."""
        (self.directory / name).write_text(content)
        return self.directory / name

    def logging_in(self, method: str) -> tuple[Any, dict[str, Any]]:
        """Prepare another auth method; return it and the settings that use it."""
        made = self.stack.enter_context(arranged(method, self.vault.client, self.directory, self.path, self.authority))
        return made, self.over_tls(**made.settings, role_id="", secret_id="")


@dataclass(frozen=True)
class Mistake:
    """One mistake, and the step, the cause and the remedy that the doctor must name."""

    make: Callable[[World], Variables | dict[str, Any]]
    step: str
    cause: str
    remedy: str
    source: str = "vault"

    def variables(self, world: World) -> Variables:
        """Make the mistake; return the environment of the service."""
        made = self.make(world)
        return made if all(name.isupper() for name in made) else environment(made)


MISTAKES: dict[str, Mistake] = {}
Maker = Callable[[World], dict[str, Any]]


def mistake(step: str, cause: str, remedy: str, source: str = "vault") -> Callable[[Maker], Maker]:
    """Add a mistake to the list; its function makes it, and returns settings, or variables, of the service."""

    def add(make: Maker) -> Maker:
        MISTAKES[make.__name__] = Mistake(make, step, cause, remedy, source)
        return make

    return add
