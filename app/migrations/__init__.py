"""How did the tables come to be as they are? One step a file in `versions`; docs/database.md says how to go them."""
