"""Metric mathematics."""

import pytest

from byollm.local.ministack.expressions import ExpressionError, evaluate

KNOWN = {"errors": {1.0: 2.0, 2.0: 1.0, 3.0: 5.0}, "calls": {1.0: 4.0, 2.0: 0.0}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("errors * 100 / calls", {1.0: 50.0}),
        ("100 * (errors / MAX([calls, 1]))", {1.0: 50.0, 2.0: 100.0}),
        ("IF(calls > 0, errors / calls, 0)", {1.0: 0.5, 2.0: 0.0}),
        ("FILL(calls, 0) + errors", {1.0: 6.0, 2.0: 1.0, 3.0: 5.0}),
        ("-SUM([errors, errors])", {1.0: -4.0, 2.0: -2.0, 3.0: -10.0}),
        ("1 + 2", 3.0),
    ],
)
def test_expressions_are_evaluated_at_each_time(expression: str, value: object) -> None:
    assert evaluate(expression, KNOWN) == value


@pytest.mark.parametrize("expression", ["unknown + 1", "__import__('os')", "errors.x", "1 +", "RATE(errors)"])
def test_what_is_not_emulated_is_refused(expression: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(expression, KNOWN)
