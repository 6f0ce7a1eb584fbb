"""What a developer's machine needs beside the service: a dev Vault, and secrets in it."""
