"""Pre-train on ModelArts, whose documented start-up file has this name: the same as run_pretrain.py."""

from run_pretrain import main
from src.errors import run_script

if __name__ == "__main__":
    run_script(main)
