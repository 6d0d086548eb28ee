"""From a task to a trained network: what `voco finetune` does, what is measured at its end, and who was seen before."""
