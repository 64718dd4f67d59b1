"""`python -m hilum.cli`, which torchrun needs."""

from hilum.cli import main

if __name__ == "__main__":
    main()
