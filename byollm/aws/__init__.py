"""AWS as byollm calls it: clients made once from one setting, lists whole, errors in words."""

from byollm.aws.calls import is_absent, listed, one
from byollm.aws.clients import Clients
from byollm.aws.errors import AwsError, explain, explained
from byollm.aws.folder import S3Folder

__all__ = ["AwsError", "Clients", "S3Folder", "explain", "explained", "is_absent", "listed", "one"]
