"""Thirteen checks of a device on which this repository has not run yet, in five minutes; scripts/hardware_smoke.sh."""
