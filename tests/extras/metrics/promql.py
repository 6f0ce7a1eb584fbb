"""Enough of PromQL to try alerts on what a service really tells; what is not understood raises.

One scrape stands for one minute. Without Prometheus's extrapolation an increase is what was counted, so an alert that
fires here fires there.
"""

import operator
import re
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Scrape = dict[tuple[str, Labels], float]  # by name and labels
Value = float | Vector
Query = Callable[[int], Value]  # at the scrape of this number

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)(?![\w.])|(?P<word>[a-zA-Z_:][\w:]*)|(?P<range>\[\d+m\])"""
    r"""|(?P<text>"[^"]*")|(?P<sign>=~|!~|[=!<>]=|[-+*/<>(){},=]))"""
)
COMPARISONS: dict[str, Callable[[float, float], float]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
SUMS: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub}
PRODUCTS: dict[str, Callable[[float, float], float]] = {"*": operator.mul, "/": operator.truediv}
AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {"sum": sum, "min": min, "max": max, "count": len}
MATCHES: dict[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "=~": lambda text, pattern: re.fullmatch(pattern, text) is not None,
    "!~": lambda text, pattern: re.fullmatch(pattern, text) is None,
}


def minutes(duration: str) -> int:
    """Return how many scrapes a duration is."""
    return int(duration.strip("[]").removesuffix("m"))


def is_firing(expression: str, duration: str, scrapes: Sequence[Scrape]) -> list[dict[str, str]]:
    """Return the labels for which the expression has held for the duration, up to the last scrape."""
    needed = minutes(duration) + 1
    if len(scrapes) < needed:
        return []
    query = Parser(expression, scrapes).parse()
    found = [query(at) for at in range(len(scrapes) - needed, len(scrapes))]
    assert all(isinstance(each, dict) for each in found), "an alert is a vector"
    return [dict(labels) for labels in reduce(operator.and_, (set(each) for each in found if isinstance(each, dict)))]


class Parser:
    """Reads one expression; each method reads one level of precedence."""

    def __init__(self, expression: str, scrapes: Sequence[Scrape]) -> None:
        self._scrapes = scrapes
        self._tokens: list[str] = []
        at = 0
        expression = expression.strip()
        while at < len(expression):
            found = TOKEN.match(expression, at)
            if found is None:
                raise SyntaxError(f"not understood: {expression[at:]}")
            self._tokens.append(found.group().strip())
            at = found.end()

    def parse(self) -> Query:
        """Read all of it."""
        query = self._sets()
        if self._tokens:
            raise SyntaxError(f"not understood: {self._tokens}")
        return query

    def _next(self, expected: str | None = None) -> str:
        token = self._tokens.pop(0)
        if expected not in {None, token}:
            raise SyntaxError(f"{expected} expected, not {token}")
        return token

    def _is_next(self, *tokens: str) -> bool:
        return bool(self._tokens) and self._tokens[0] in tokens

    def _sets(self) -> Query:
        left = self._comparison()
        while self._is_next("and", "or", "unless"):
            kind, right, former = self._next(), self._comparison(), left
            left = lambda at, a=former, b=right, kind=kind: _set(kind, a(at), b(at))  # type: ignore[misc] # noqa: E731
        return left

    def _comparison(self) -> Query:
        return self._binary(COMPARISONS, self._sum, compares=True)

    def _sum(self) -> Query:
        return self._binary(SUMS, self._product)

    def _product(self) -> Query:
        return self._binary(PRODUCTS, self._one)

    def _binary(
        self, kinds: dict[str, Callable[[float, float], float]], operand: Callable[[], Query], *, compares: bool = False
    ) -> Query:
        left = operand()
        while self._is_next(*kinds):
            work, right, former = kinds[self._next()], operand(), left
            left = lambda at, a=former, b=right, work=work: _pairs(work, a(at), b(at), compares=compares)  # type: ignore[misc] # noqa: E731
        return left

    def _one(self) -> Query:
        token = self._next()
        if re.fullmatch(r"[\d.]+", token):
            return lambda _: float(token)
        if token == "(":
            query = self._sets()
            self._next(")")
            return query
        if token in AGGREGATIONS:
            return self._aggregation(AGGREGATIONS[token])
        if token == "absent":
            self._next("(")
            query = self._sets()
            self._next(")")
            return lambda at: {} if query(at) else {frozenset(): 1.0}
        if token in {"increase", "rate"}:
            return self._increase(per_second=token == "rate")
        select = self._selector(token)
        return lambda at: select(self._scrapes[at])

    def _names(self) -> set[str]:
        self._next("(")
        names = set()
        while not self._is_next(")"):
            names.add(self._next())
            if self._is_next(","):
                self._next()
        self._next(")")
        return names

    def _aggregation(self, work: Callable[[list[float]], float]) -> Query:
        by = self._names() if self._is_next("by") and self._next() else set()
        self._next("(")
        query = self._sets()
        self._next(")")

        def aggregate(at: int) -> Value:
            groups: dict[Labels, list[float]] = {}
            value = query(at)
            assert isinstance(value, dict)
            for labels, number in value.items():
                groups.setdefault(frozenset(each for each in labels if each[0] in by), []).append(number)
            return {labels: float(work(numbers)) for labels, numbers in groups.items()}

        return aggregate

    def _increase(self, *, per_second: bool) -> Query:
        self._next("(")
        select = self._selector(self._next())
        length = minutes(self._next())
        self._next(")")

        def increase(at: int) -> Value:
            found = [select(scrape) for scrape in self._scrapes[max(0, at - length + 1) : at + 1]]
            grown: Vector = {}
            for labels in {labels for each in found for labels in each}:
                numbers = [each[labels] for each in found if labels in each]
                if len(numbers) > 1:  # what was not there before has no increase
                    rises = sum(b - a if b >= a else b for a, b in pairwise(numbers))
                    grown[labels] = rises / (60 * length) if per_second else rises
            return grown

        return increase

    def _selector(self, name: str) -> Callable[[Scrape], Vector]:
        wanted: list[tuple[str, str, str]] = []
        if self._is_next("{"):
            self._next()
            while not self._is_next("}"):
                wanted.append((self._next(), self._next(), self._next().strip('"')))
                if self._is_next(","):
                    self._next()
            self._next("}")

        def select(scrape: Scrape) -> Vector:
            return {
                labels: number
                for (known, labels), number in scrape.items()
                if known == name and all(MATCHES[how](dict(labels).get(label, ""), text) for label, how, text in wanted)
            }

        return select


def _pairs(work: Callable[[float, float], float], left: Value, right: Value, *, compares: bool) -> Value:
    """Apply an operator to numbers, or to elements with equal labels; a comparison keeps those for which it holds."""
    if isinstance(left, dict):
        both = [(labels, a, right.get(labels) if isinstance(right, dict) else right) for labels, a in left.items()]
        worked = {labels: (a, float(work(a, b))) for labels, a, b in both if b is not None}
        return {labels: a if compares else result for labels, (a, result) in worked.items() if result or not compares}
    if isinstance(right, dict):
        results = {labels: (b, float(work(left, b))) for labels, b in right.items()}
        return {labels: b if compares else result for labels, (b, result) in results.items() if result or not compares}
    return float(work(left, right))


def _set(kind: str, left: Value, right: Value) -> Value:
    assert isinstance(left, dict)
    assert isinstance(right, dict)
    match kind:
        case "and":
            return {labels: number for labels, number in left.items() if labels in right}
        case "unless":
            return {labels: number for labels, number in left.items() if labels not in right}
        case _:
            return {**right, **left}
