"""What is in a folder, whose it is, what is usable: data.json."""
