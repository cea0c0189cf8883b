"""What each technique of the engine gives, measured one by one: the figures of docs/optimization.md."""
