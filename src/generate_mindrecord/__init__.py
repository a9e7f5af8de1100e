"""Raw data to MindRecord or TFRecord."""
