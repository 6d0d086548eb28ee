"""Task presets (YAML), their public splits, and the finding, splitting and checking of their data."""
