"""What the repository trains: pre-training and the fine-tuning tasks, a folder each."""
