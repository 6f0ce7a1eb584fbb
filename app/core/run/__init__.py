"""How the service runs: as a server, and as what starts something else with its secrets."""
