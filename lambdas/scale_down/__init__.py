"""Takes the endpoint down to its fewest instances when the budget is spent."""
