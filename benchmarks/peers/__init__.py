"""How does this blueprint compare with what people use instead? `make bench-peers`."""
