"""Sentence classification and regression."""
