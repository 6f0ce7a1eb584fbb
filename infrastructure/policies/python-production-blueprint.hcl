# What the service may do, and nothing more. The role is created without Vault's `default` policy, so the few things
# that the service does with its own token are listed too.

# the secrets that the service reads (KV version 2)
path "secret/data/python-production-blueprint" {
  capabilities = ["read"]
}

# keep its token alive, ask whether it still is, and give it back at shutdown
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# say which capability is missing when Vault refuses something
path "sys/capabilities-self" {
  capabilities = ["update"]
}
