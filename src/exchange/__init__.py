"""Exchange of checkpoints with other frameworks: Hugging Face transformers and Google's TensorFlow BERT."""
