"""Which backend answered: OpenAI's clients see by it when the same `seed` may give something else."""

import byollm

FINGERPRINT = f"byollm-{byollm.__version__}"
