"""Builds the documentation site: stages the pages, generates the reference, draws diagrams and screens.

`python -m docs_site --help` lists what it can do; `make docs` does all that a reader needs.
"""
