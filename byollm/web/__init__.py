"""What every HTTP server of the house shares: bounds, errors in OpenAI's shape, who may call."""
