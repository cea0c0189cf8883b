"""Metric mathematics: GetMetricData with expressions, which ministack leaves out."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ministack.services import cloudwatch

Series = dict[float, float]  # time to value
Value = float | Series

_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_OF_SEVERAL: dict[str, Callable[[list[float]], float]] = {
    "SUM": math.fsum,
    "MAX": max,
    "MIN": min,
    "AVG": lambda values: math.fsum(values) / len(values),
}


class ExpressionError(ValueError):
    """An expression is wrong, or asks for what is not emulated."""


def evaluate(expression: str, known: Mapping[str, Value]) -> Value:
    """Evaluate an expression over metrics by their ids.

    Emulated are arithmetic, comparisons, `IF`, `FILL` and, over lists, `SUM`, `MAX`, `MIN` and `AVG`. A time
    that one of the metrics lacks has no value, nor has a division by zero.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html

    Raises:
        ExpressionError: it cannot be evaluated.
    """
    try:
        return _evaluate(ast.parse(expression.strip(), mode="eval").body, known)
    except (SyntaxError, RecursionError) as error:
        raise ExpressionError(f"{expression!r} is not an expression: {error}") from None


def _evaluate(node: ast.expr, known: Mapping[str, Value]) -> Value:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _each(lambda of: -of[0], [_evaluate(operand, known)])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _both(type(op), left, right, known)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return _both(type(op), left, right, known)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, arguments, known)
    raise ExpressionError(f"{ast.unparse(node)} is not emulated")


def _both(op: type[ast.AST], left: ast.expr, right: ast.expr, known: Mapping[str, Value]) -> Value:
    act = _OPERATORS[op]
    return _each(lambda of: float(act(of[0], of[1])), [_evaluate(left, known), _evaluate(right, known)])


def _call(name: str, arguments: list[ast.expr], known: Mapping[str, Value]) -> Value:
    match name, arguments:
        case (("SUM" | "MAX" | "MIN" | "AVG"), [ast.List(elts=listed)]) if listed:
            return _each(_OF_SEVERAL[name], [_evaluate(one, known) for one in listed])
        case "IF", [condition, then, otherwise]:
            return _choose(*(_evaluate(one, known) for one in (condition, then, otherwise)))
        case "FILL", [metric, ast.Constant(value=int() | float() as number)]:
            series = _evaluate(metric, known)
            if not isinstance(series, dict):
                return series
            times = {time for other in known.values() if isinstance(other, dict) for time in other}
            return {time: series.get(time, float(number)) for time in times}
    raise ExpressionError(f"{name} with {len(arguments)} arguments is not emulated")


def _each(act: Callable[[list[float]], float], given: list[Value]) -> Value:
    """Apply `act` at every time that all of the metrics have."""
    metrics = [one for one in given if isinstance(one, dict)]
    times = set.intersection(*(set(metric) for metric in metrics)) if metrics else {0.0}
    result = {}
    for time in times:
        try:
            result[time] = act([one[time] if isinstance(one, dict) else one for one in given])
        except ZeroDivisionError:
            continue
    return result if metrics else result.get(0.0, math.nan)


def _choose(condition: Value, then: Value, otherwise: Value) -> Value:
    """Take the one or the other at every time; the one that is not taken may lack it."""
    if not isinstance(condition, dict):
        return then if condition else otherwise
    chosen = {time: then if holds else otherwise for time, holds in condition.items()}
    return {
        time: source[time] if isinstance(source, dict) else source
        for time, source in chosen.items()
        if not isinstance(source, dict) or time in source
    }


def install_expressions() -> None:
    """Have GetMetricData answer expressions, for clients that speak CBOR or JSON."""
    theirs: Callable[..., Any] = cloudwatch._get_metric_data

    def get(params: Any, data: dict[str, Any], is_cbor: bool, is_json: bool = False) -> Any:
        queries = data.get("MetricDataQueries", [])
        if not any("Expression" in query for query in queries):
            return theirs(params, data, is_cbor, is_json)
        plain = [{**query, "ReturnData": True} for query in queries if "MetricStat" in query]
        _, _, body = theirs(params, {**data, "MetricDataQueries": plain}, False, True)
        found = {result["Id"]: result for result in cloudwatch.json.loads(body)["MetricDataResults"]}
        known: dict[str, Value] = {id: _series(result) for id, result in found.items()}
        results = []
        for query in queries:
            if "Expression" in query:
                try:
                    known[query["Id"]] = evaluate(query["Expression"], known)
                except ExpressionError as error:
                    return cloudwatch._error("ValidationError", str(error), 400, is_json, is_cbor)
            if query.get("ReturnData", True):
                results.append(_result(query, known[query["Id"]]))
        if is_cbor:
            results = [cloudwatch._cbor_metric_data_result(result) for result in results]
            return cloudwatch._cbor_ok({"MetricDataResults": results})
        return cloudwatch._json_ok({"MetricDataResults": results})

    cloudwatch._get_metric_data = get


def _series(result: dict[str, Any]) -> Series:
    return dict(zip(map(_epoch, result["Timestamps"]), result["Values"], strict=True))


def _epoch(time: float | str) -> float:
    return datetime.fromisoformat(time).timestamp() if isinstance(time, str) else float(time)


def _result(query: dict[str, Any], value: Value) -> dict[str, Any]:
    series = value if isinstance(value, dict) else {}
    times = sorted(series)
    return {
        "Id": query["Id"],
        "Label": query.get("Label", query["Id"]),
        "Timestamps": [cloudwatch._ts_iso(time) for time in times],
        "Values": [series[time] for time in times],
        "StatusCode": "Complete",
    }
