"""ministack, an emulator of AWS, as a child process: with our CloudFormation providers, and corrected.

It is told by `tests/local` what is relied on here; each correction says what is wrong without it.
"""
