"""What may keep a deployment from working, looked at before it starts.

Each check is a small function from a `Patient` to its findings; `examine` runs them side by side.
"""

from byollm.doctor.checks import CHECKS, Check, checks_for
from byollm.doctor.examination import examine
from byollm.doctor.finding import Finding, Level
from byollm.doctor.patient import Patient

__all__ = ["CHECKS", "Check", "Finding", "Level", "Patient", "checks_for", "examine"]
