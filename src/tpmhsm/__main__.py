"""`python -m tpmhsm` is the command line."""

from tpmhsm.cli.main import main

if __name__ == "__main__":
    main()
