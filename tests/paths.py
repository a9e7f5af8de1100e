"""Places that tests refer to."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = REPOSITORY / "tests"
FIXTURES = TESTS / "fixtures"
