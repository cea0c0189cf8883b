"""The functions of the platform: a folder each, with a handler of a few lines over byollm.lifecycle."""
