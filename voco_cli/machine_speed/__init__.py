"""How fast this machine does what a run consists of: `voco bench`."""
