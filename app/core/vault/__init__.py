"""How does the service talk to Vault and OpenBao?"""
