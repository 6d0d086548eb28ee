"""VoCo: volume-contrastive pre-training of 3-D medical image encoders."""

__version__ = "0.1.0"
