"""Log in with nothing: an Agent or Proxy with auto-auth, at `VAULT_URL`, adds its token to each request.

That token is not ours: it is neither looked up, nor renewed, nor revoked, which would end it for everybody behind the
Proxy. How long it lives is the Proxy's matter.
"""

import hvac

from app.core.vault.auth_methods.protocol import Auth

UNSEEN = "no token comes with the requests, or Vault does not accept it"  # what may be so where all is denied
ADD_ONE = (
    "Set VAULT_URL to an Agent or Proxy that adds one (api_proxy { use_auto_auth_token = true }), and look into its "
    "log: has it logged in?"
)


class NoMethod:
    """Send no token."""

    def login(self, client: hvac.Client) -> Auth:  # noqa: ARG002 - nothing to ask Vault
        """Return that there is none."""
        return Auth("")
