"""The other name of `generate_chinesener_mindrecord.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository, when this file is run by its path
from src.errors import run_script  # noqa: E402
from src.generate_mindrecord.generate_chinesener_mindrecord import main  # noqa: E402

if __name__ == "__main__":
    run_script(main)
