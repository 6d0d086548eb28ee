"""The pre-training job: settings in, an engine run out."""
