"""`python -m wa_cli` is the `wa` command."""

from wa_cli.cli.main import main

main()
