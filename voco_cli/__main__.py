"""`python -m voco_cli`, which is what torchrun starts: `torchrun --nproc-per-node 2 -m voco_cli pretrain data.json`."""

from voco_cli.cli.app import main

if __name__ == "__main__":
    main()
