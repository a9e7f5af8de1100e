"""Command-line tools around records, vocabularies and checkpoints."""
