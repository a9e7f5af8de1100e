"""Pre-training on masked words and next sentences."""
