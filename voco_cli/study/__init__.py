"""Do the weights help with few labels: many fine-tuning runs as one question, and what they answer."""
