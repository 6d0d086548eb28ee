"""Generated CTs of a torso with labels of the 13 BTCV organs: for tests that must learn, and for a first try."""

from voco_cli.data.synthetic.anatomy import BTCV_ORGANS
from voco_cli.data.synthetic.generate import FIELD_MM, SyntheticCT, generate_ct, write_cts

__all__ = ["BTCV_ORGANS", "FIELD_MM", "SyntheticCT", "generate_ct", "write_cts"]
