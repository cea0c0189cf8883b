"""Takes the endpoint one step nearer to what it should be."""
