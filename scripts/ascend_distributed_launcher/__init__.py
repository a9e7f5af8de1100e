"""Commands for distributed pre-training on Ascend devices that a rank table (hccl.json) describes."""
