"""The tests. `unit` needs nothing, `contracts` and `integration` talk to a real server; see `conftest.py`."""
