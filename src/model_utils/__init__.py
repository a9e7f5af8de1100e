"""Configuration and device set-up."""
