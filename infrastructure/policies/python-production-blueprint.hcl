# What the service may do in the Vault vault: a policy.

# the secrets that the service reads
path "secret/data/python-production-blueprint" {
  capabilities = ["read"]
}

# the secrets that it writes, and the API keys that it issues
path "secret/data/python-production-blueprint/api-keys/*" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}
path "secret/metadata/python-production-blueprint/api-keys/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}
path "secret/undelete/python-production-blueprint/api-keys/*" {
  capabilities = ["update"]
}
path "secret/destroy/python-production-blueprint/api-keys/*" {
  capabilities = ["update"]
}

# its own token, and which capability it lacks when Vault refuses something
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
