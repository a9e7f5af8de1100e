"""Training of any network: the step, the run, what happens around the steps, checkpoints."""
