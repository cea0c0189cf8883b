"""What an environment costs by list prices: of its synthesised templates, idle and at a stated load."""

from byollm.costs.claims import claims
from byollm.costs.estimate import Estimate, estimate
from byollm.costs.line import HOURS, Line
from byollm.costs.load import Load
from byollm.costs.table import Price, PricesError, PriceTable

__all__ = [
    "HOURS",
    "Estimate",
    "Line",
    "Load",
    "Price",
    "PriceTable",
    "PricesError",
    "claims",
    "estimate",
]
