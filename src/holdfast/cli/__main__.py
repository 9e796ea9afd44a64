"""`python -m holdfast.cli`: the command line of this interpreter's Holdfast, whatever PATH says."""

from holdfast.cli import main

main()
