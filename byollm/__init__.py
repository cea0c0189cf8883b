"""byollm: bring your own LLM. From text to a model, from a model to a product.

Importing this package costs nothing heavy; each floor is imported from its own subpackage.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("byollm")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0.0.0"
