"""The library behind the scripts at the top of the repository."""
