"""Does the one safe thing about an alarm."""
