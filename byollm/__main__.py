"""`python -m byollm`: the same as the `byollm` command."""

from byollm.cli.main import main

main()
