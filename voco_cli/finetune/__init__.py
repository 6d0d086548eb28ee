"""The fine-tuning job: a task's settings in, a trained network and its measured quality out."""
