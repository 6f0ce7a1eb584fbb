"""The whole service with the handler of `benchmarks/bare.py`: what `benchmarks/throughput.py` serves."""

from benchmarks.bare import one
from tests.service import app

app.get("/one")(one)
