"""The tests, by owner. Those in a folder `integration` talk to a real server; see `conftest.py`."""
