"""What may the token do, and what does it lack where Vault refuses something? Asked after a failure, and only then.

Rests on `POST sys/capabilities-self`.
"""

from collections.abc import Callable, Sequence

from app.core.errors import BackendError, PermissionDenied
from app.core.vault.answers import checked_capabilities
from app.core.vault.auth_methods.none import ADD_ONE, UNSEEN
from app.core.vault.mounts import VaultMount
from app.core.vault.slips import conditional


class VaultPermissions(VaultMount):
    """What the token may do below one mount point."""

    def capabilities(self, api_paths: Sequence[str]) -> dict[str, list[str]]:
        """Ask what the token may do at each of these paths (`POST sys/capabilities-self`)."""
        where = "sys/capabilities-self"
        answer = self._session.call(where, lambda client: client.sys.get_capabilities(list(api_paths)))
        return checked_capabilities(answer, where, api_paths)

    def _denied(
        self,
        where: str,
        api_path: str,
        capability: str,
        better: str = "",
        hint: str = "",
        *,
        is_new: Callable[[], bool] = lambda: False,
    ) -> PermissionDenied:
        """Say which capability is missing, and what the token has instead; `better` is a better remedy, if any.

        `is_new` tells whether a write would make a secret, which takes another capability.
        """
        cause = "permission denied"
        try:
            held = self.capabilities([api_path])[api_path]
        except PermissionDenied:
            if self._session.settings.auth_method == "none":
                return PermissionDenied(where, f"{cause}: {UNSEEN}, or it may do too little", ADD_ONE)
        except BackendError:
            pass
        else:
            if capability == "update" and "update" in held and "create" not in held and is_new():
                capability = "create"
            if capability in held:
                return conditional(where, api_path, capability)
            cause += f": the token lacks the capability {capability} (it has: {', '.join(held)})"
        grant = f'Grant it in the policy: path "{api_path}" {{ capabilities = ["{capability}"] }}.{hint}'
        return PermissionDenied(where, cause, better or grant)
